#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<SelectTask>, 1> kKernels{{
    {"select", "every shape", accepts_all, select},
}};

}  // namespace

CudaTable<SelectTask> select_kernels() { return kKernels; }

}  // namespace misa::cuda
