#pragma once

#include <type_traits>

#include "tests/simt/simt.hpp"

// Launches as the header of this name has them, on the host.

namespace misa::cuda {

struct LaunchShape {
  i64 blocks, threads, shared_bytes;
  cudaStream_t stream;
};

template <class... Parameters>
void launch_kernel(const char*, void (*kernel)(Parameters...), const LaunchShape& shape, bool,
                   const std::type_identity_t<Parameters>&... values) {
  simt::machine().launch(shape.blocks, static_cast<int>(shape.threads), shape.shared_bytes, [&] { kernel(values...); });
}

template <class T>
T& shared_as() {
  return *reinterpret_cast<T*>(simt::machine().shared.data());
}

}  // namespace misa::cuda
