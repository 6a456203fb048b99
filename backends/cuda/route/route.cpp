#include "backends/cuda/route/route.hpp"

#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<RankTask>, 3> kRank{{
    {"samples-tile", "routers over few sampled keys, FP8 or bf16, on tensor cores", ranks_samples_in_tiles,
     rank_samples_in_tiles},
    {"samples", "routers over sampled keys, every dtype and shape", ranks_samples, rank_samples},
    {"plain", "every other router, dtype and shape", [](const RankTask& task) { return !ranks_samples(task); },
     rank_plainly},
}};

constexpr std::array<CudaKernel<GatherTask>, 1> kGather{{
    {"plain", "every dtype and shape", accepts_all, gather_plainly},
}};

constexpr std::array<CudaKernel<RankGatherTask>, 3> kRankGather{{
    {"samples-tile", "routers over few sampled keys, with or without a linear head, FP8 or bf16, on tensor cores",
     routes_samples_in_tiles, route_samples_in_tiles},
    {"samples", "routers over sampled keys, with or without a linear head, every dtype and shape", routes_samples,
     route_samples},
    {"tile", "pooled router of 32 or 64 heads, FP8 or bf16, on tensor cores", routes_in_tiles, route_in_tiles},
}};

}  // namespace

CudaTable<RankTask> rank_kernels() { return kRank; }
CudaTable<GatherTask> gather_kernels() { return kGather; }
CudaTable<RankGatherTask> rank_gather_kernels() { return kRankGather; }

}  // namespace misa::cuda
