#include "backends/cuda/score/score.hpp"

#include <array>

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {
namespace {

constexpr std::array<CudaKernel<ScoreTask>, 6> kKernels{{
    {"tile", "FP8 tiles of many rows over windows, on tensor cores", tiles, score_in_tiles},
    {"tile-bf16", "bf16 tiles of many rows over windows, on tensor cores", tiles_bf16, score_in_bf16_tiles},
    {"pages", "few rows that share one read of their FP8 keys, on tensor cores", shares_pages, score_shared_pages},
    {"rows", "row by row over windows or candidates, FP8 or bf16, on tensor cores", single_rows, score_single_rows},
    {"means", "row by row over f32 block means, on tensor cores", scores_means, score_means},
    {"plain", "every dtype, layout and shape", accepts_all, score_plainly},
}};

}  // namespace

CudaTable<ScoreTask> score_kernels() { return kKernels; }

}  // namespace misa::cuda
