#include "backends/cuda/route/route.hpp"

#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

bool reads_samples(const RouteTask& task) { return task.linear || (samples_keys(task.router) && task.given.empty()); }

constexpr std::array<CudaKernel<RouteTask>, 3> kKernels{{
    {"samples", "routers over sampled keys, and linear heads", reads_samples, route_by_sampled_keys},
    {"tile", "pooled router of 32 or 64 heads, FP8 or bf16, on tensor cores", routes_in_tiles, route_in_tiles},
    {"plain", "every other router, dtype and shape", accepts_all,
     [](const RouteTask& task, int /*num_sms*/, cudaStream_t stream) { route_plainly(task, stream); }},
}};

}  // namespace

CudaTable<RouteTask> route_kernels() { return kKernels; }

}  // namespace misa::cuda
