#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels of the score primitive.

namespace misa::cuda {

/// Tensor-core tiles of many rows over windows: FP8, head_dim 128, 1 to 16, 32 or 64 heads.
bool tiles(const ScoreTask& task);
void score_in_tiles(const ScoreTask& task, int num_sms, cudaStream_t stream);

/// Tiles of bf16, with any number of heads up to 64.
bool tiles_bf16(const ScoreTask& task);
void score_in_bf16_tiles(const ScoreTask& task, int num_sms, cudaStream_t stream);

/// Tensor cores for few rows over windows, which share one read of their sequence's keys: FP8, head_dim 128, up to 64
/// heads, pages of a multiple of 8 tokens.
bool shares_pages(const ScoreTask& task);
void score_shared_pages(const ScoreTask& task, int num_sms, cudaStream_t stream);

/// Tensor cores row by row, over windows or candidates: FP8 or bf16, head_dim 128, up to 64 heads.
bool single_rows(const ScoreTask& task);
void score_single_rows(const ScoreTask& task, int num_sms, cudaStream_t stream);

/// Tensor cores row by row over block means: FP8 or bf16 queries of head_dim 128, up to 64 heads, f32 means.
bool scores_means(const ScoreTask& task);
void score_means(const ScoreTask& task, int num_sms, cudaStream_t stream);

/// Takes every dtype and shape.
void score_plainly(const ScoreTask& task, int num_sms, cudaStream_t stream);

}  // namespace misa::cuda
