#include "backends/cuda/route/route.hpp"

#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<RouteTask>, 4> kKernels{{
    {"samples-tile", "routers over few sampled keys, and linear heads, FP8 or bf16, on tensor cores",
     routes_samples_in_tiles, route_samples_in_tiles},
    {"samples", "routers over sampled keys, and linear heads, every dtype and shape", reads_samples, route_samples},
    {"tile", "pooled router of 32 or 64 heads, FP8 or bf16, on tensor cores", routes_in_tiles, route_in_tiles},
    {"plain", "every other router, dtype and shape", routes_plainly, route_plainly},
}};

}  // namespace

CudaTable<RouteTask> route_kernels() { return kKernels; }

}  // namespace misa::cuda
