#pragma once

#include <cuda_runtime_api.h>

#include <type_traits>

#include "backends/cuda/check.hpp"
#include "core/base/types.hpp"

// How kernels start. tests/simt has a header of this name for the host.

namespace misa::cuda {

/// What a kernel is launched with; `shared_bytes` of dynamic shared memory for each block.
struct LaunchShape {
  i64 blocks, threads, shared_bytes;
  cudaStream_t stream;
  i64 cluster = 0;  ///< blocks of a cluster; 0: the kernel has none
};

/// Launches `kernel`, and throws what the runtime reports with its name. `early`: blocks start as soon as the last ones
/// of the kernel before on the stream end, some 1.3 us earlier than otherwise; they must call wait_for_stream() before
/// they touch global memory. Source: CUDA programming guide, "Programmatic Dependent Launch and Synchronization".
template <class... Parameters>
void launch_kernel(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape, bool early,
                   const std::type_identity_t<Parameters>&... values) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
        name);
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config{};
  if (early) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 0) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
    if (shape.cluster > 8) check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), name);
  }
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config.stream = shape.stream;
  config.attrs = attributes;
  check(cudaLaunchKernelEx(&config, kernel, values...), name);
}

/// Calls `body.template operator()<H>()` with the number of heads rounded up to 8, 16, 32 or 64, its most.
template <class Body>
void with_heads(i64 heads, const Body& body) {
  if (heads <= 8) return body.template operator()<8>();
  if (heads <= 16) return body.template operator()<16>();
  if (heads <= 32) return body.template operator()<32>();
  body.template operator()<64>();
}

/// The block's dynamic shared memory.
template <class T>
__device__ T& shared_as() {
  extern __shared__ __align__(1024) u8 memory[];
  return *reinterpret_cast<T*>(memory);
}

}  // namespace misa::cuda
