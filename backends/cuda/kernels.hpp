#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "core/indexer/backend.hpp"

// The tables of kernels, one for each primitive. A kernel takes a task whose views are device memory and puts its work
// on a stream. FP8 and bf16 of head_dim 128 have kernels of their own, with the arithmetics fp8-mma and bf16-mma; plain
// ones do every dtype, layout and shape, with f32 dots and f64 sums: f32-dot.

namespace misa::cuda {

/// Kernels take the number of the device's SMs and the stream.
template <class Task>
using CudaKernel = Kernel<Task, int, cudaStream_t>;
template <class Task>
using CudaTable = std::span<const CudaKernel<Task>>;

CudaTable<PoolTask> pool_kernels();
CudaTable<RankTask> rank_kernels();
CudaTable<GatherTask> gather_kernels();
CudaTable<RankGatherTask> rank_gather_kernels();
CudaTable<ScoreTask> score_kernels();
CudaTable<SelectTask> select_kernels();

// What the tables hold: whether a kernel accepts a task, and how it is run.

/// FP8 or bf16 keys of 128 dimensions whose vectors can be read 16 bytes at a time.
bool pools_vectors(const PoolTask& task);
void pool_vectors(const PoolTask& task, int num_sms, cudaStream_t stream);

/// Takes every dtype and shape.
void pool_plainly(const PoolTask& task, int num_sms, cudaStream_t stream);

/// Energies on the tensor cores, ranking and gathering in one kernel: pooled, FP8 or bf16, head_dim 128, 32 or 64
/// heads.
bool routes_in_tiles(const RankGatherTask& task);
void route_in_tiles(const RankGatherTask& task, int num_sms, cudaStream_t stream);

/// Routers over sampled keys, with or without a linear head: FP8 or bf16 queries, head_dim 128, up to 64 heads and few
/// samples, on tensor cores.
bool ranks_samples_in_tiles(const RankTask& task);
void rank_samples_in_tiles(const RankTask& task, int num_sms, cudaStream_t stream);
bool routes_samples_in_tiles(const RankGatherTask& task);
void route_samples_in_tiles(const RankGatherTask& task, int num_sms, cudaStream_t stream);

/// The same of every dtype and shape.
bool ranks_samples(const RankTask& task);
void rank_samples(const RankTask& task, int num_sms, cudaStream_t stream);
bool routes_samples(const RankGatherTask& task);
void route_samples(const RankGatherTask& task, int num_sms, cudaStream_t stream);

/// Every other router, every dtype and shape.
void rank_plainly(const RankTask& task, int num_sms, cudaStream_t stream);

/// Every dtype and shape, with or without a linear head.
void gather_plainly(const GatherTask& task, int num_sms, cudaStream_t stream);

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

/// Tensor cores over windows or candidates of INT8 and MXFP4 keys, widened to bf16 while they are read: head_dim 128,
/// up to 64 heads, vectors that can be read 16 bytes at a time.
bool scores_widened(const ScoreTask& task);
void score_widened(const ScoreTask& task, int num_sms, cudaStream_t stream);

/// Takes every dtype and shape.
void score_plainly(const ScoreTask& task, int num_sms, cudaStream_t stream);

}  // namespace misa::cuda
