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

}  // namespace misa::cuda
