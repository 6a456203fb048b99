// The kernels of each primitive in order of preference: the first that accepts a task runs.

#include "backends/cuda/kernels.hpp"

#include <array>

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<PoolTask>, 2> kPool{{
    {"vectors", "FP8 or bf16 keys of 128 dimensions, by warps with all loads in flight", pools_vectors, pool_vectors},
    {"plain", "every dtype, layout and shape", accepts_all, pool_plainly},
}};

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

constexpr std::array<CudaKernel<ScoreTask>, 7> kScore{{
    {"tile", "FP8 tiles of many rows over windows, on tensor cores", tiles, score_in_tiles},
    {"tile-bf16", "bf16 tiles of many rows over windows, on tensor cores", tiles_bf16, score_in_bf16_tiles},
    {"pages", "few rows that share one read of their FP8 keys, on tensor cores", shares_pages, score_shared_pages},
    {"rows", "row by row over windows or candidates, FP8 or bf16, on tensor cores", single_rows, score_single_rows},
    {"means", "row by row over f32 block means, on tensor cores", scores_means, score_means},
    {"widened", "INT8 and MXFP4 keys, widened to bf16 as they are read, on tensor cores", scores_widened,
     score_widened},
    {"plain", "every dtype, layout and shape", accepts_all, score_plainly},
}};

}  // namespace

CudaTable<PoolTask> pool_kernels() { return kPool; }
CudaTable<RankTask> rank_kernels() { return kRank; }
CudaTable<GatherTask> gather_kernels() { return kGather; }
CudaTable<RankGatherTask> rank_gather_kernels() { return kRankGather; }
CudaTable<ScoreTask> score_kernels() { return kScore; }

}  // namespace misa::cuda
