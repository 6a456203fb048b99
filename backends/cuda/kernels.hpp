#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels' host side: each takes a task whose views are device memory and puts its work on a stream. Plain CUDA for
// every dtype, layout and shape; f32 dots, f64 sums over heads and keys: arithmetic f32-dot.

namespace misa::cuda {

void pool(const PoolTask& task, int processors, cudaStream_t stream);
void route(const RouteTask& task, int processors, cudaStream_t stream);
void score(const ScoreTask& task, int processors, cudaStream_t stream);
void select(const SelectTask& task, cudaStream_t stream);

}  // namespace misa::cuda
