#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "backends/cuda/check.hpp"
#include "core/base/types.hpp"

// Programmatic dependent launch. Source: CUDA programming guide, "Programmatic Dependent Launch and Synchronization".

namespace misa::cuda {

/// Starts blocks as soon as the last ones of the kernel before them on the stream end, some 1.3 us earlier than a
/// launch otherwise does. They call wait_for_stream() before they touch global memory.
template <class... Parameters, class... Values>
void launch_early(void (*kernel)(Parameters...), i64 blocks, int threads, int shared_bytes, cudaStream_t stream,
                  Values&&... values) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Values>(values)...), "a launch");
}

/// What a block was launched with.
__device__ inline float* dynamic_shared() {
  extern __shared__ __align__(1024) float memory[];
  return memory;
}

/// Until the kernels before this one are done and what they wrote can be read.
__device__ inline void wait_for_stream() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace misa::cuda
