#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/indexer/backend.hpp"

namespace misa {

/// What plans take for a chunk of rows: 8192 of 128K scores fill the device.
constexpr i64 kCudaWorkspaceBytes = i64{4} << 30;

/// How its kernels round.
inline std::optional<Arithmetic> cuda_arithmetic(const Shape& shape) {
  if (shape.head_dim != 128 || shape.dtype == Dtype::f32) return find_arithmetic("f32-dot");
  return find_arithmetic(shape.dtype == Dtype::e4m3 ? "fp8-mma" : "bf16-mma");
}

/// Why there is no cuda backend in this binary or on this device.
std::optional<std::string> cuda_why_not(int device);

/// Only callable when cuda_why_not(device) has nothing to say.
std::unique_ptr<Backend> make_cuda(int device, ForcedKernels forced = {});

/// The same in somebody else's process: the thread's current device is as before afterwards.
std::unique_ptr<Backend> make_guest_cuda(int device);

/// Its kernels, primitive by primitive; none where it is not in this binary.
std::vector<KernelInfo> cuda_kernels();

}  // namespace misa
