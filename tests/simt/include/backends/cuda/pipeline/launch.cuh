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

template <class Body>
void with_heads(i64 heads, const Body& body) {
  if (heads <= 8) return body.template operator()<8>();
  if (heads <= 16) return body.template operator()<16>();
  if (heads <= 32) return body.template operator()<32>();
  body.template operator()<64>();
}

template <class T>
T& shared_as() {
  return *reinterpret_cast<T*>(simt::machine().shared.data());
}

}  // namespace misa::cuda
