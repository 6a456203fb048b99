#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/indexer/backend.hpp"

namespace misa {

/// What plans take for a chunk of rows: 8192 of 128K scores fill the device.
constexpr i64 kCudaWorkspaceBytes = i64{4} << 30;

/// Why there is no cuda backend in this binary or on this device.
std::optional<std::string> cuda_why_not(int device);

/// Only callable when cuda_why_not(device) has nothing to say.
std::unique_ptr<Backend> make_cuda(int device);

}  // namespace misa
