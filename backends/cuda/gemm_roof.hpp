#pragma once

#include <cuda_runtime_api.h>

#include "core/tensor/buffer.hpp"
#include "core/tensor/dtype.hpp"

namespace misa::cuda {

/// Floating-point operations per second of cuBLASLt in a large product of random e4m3, bf16 or f32 matrices: FP8 and
/// bf16 with f32 sums and bf16 out. 0 where the library is not there or has no such product. Memory from `device`.
double gemm_flops_per_second(Dtype dtype, Allocator& device, cudaStream_t stream);

}  // namespace misa::cuda
