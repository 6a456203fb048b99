#include "backends/cuda/pool/pool.hpp"

#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<PoolTask>, 2> kKernels{{
    {"vectors", "FP8 or bf16 keys of 128 dimensions, by warps with all loads in flight", pools_vectors, pool_vectors},
    {"plain", "every dtype, layout and shape", accepts_all, pool_plainly},
}};

}  // namespace

CudaTable<PoolTask> pool_kernels() { return kKernels; }

}  // namespace misa::cuda
