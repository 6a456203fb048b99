#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<PoolTask>, 1> kKernels{{
    {"pool", "every dtype and layout", accepts_all, pool},
}};

}  // namespace

CudaTable<PoolTask> pool_kernels() { return kKernels; }

}  // namespace misa::cuda
