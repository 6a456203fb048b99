#pragma once

#include "tests/simt/simt.hpp"

// Launches as the header of this name has them, on the host.

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*)(Parameters...), cudaFuncAttribute, int) {
  return cudaSuccess;
}

namespace misa::cuda {

template <class... Parameters, class... Values>
void launch_early(void (*kernel)(Parameters...), i64 blocks, int threads, int shared_bytes, cudaStream_t,
                  const Values&... values) {
  simt::machine().launch(blocks, threads, shared_bytes, [&] { kernel(values...); });
}

inline float* dynamic_shared() { return reinterpret_cast<float*>(simt::machine().shared.data()); }

inline void wait_for_stream() {}

}  // namespace misa::cuda
