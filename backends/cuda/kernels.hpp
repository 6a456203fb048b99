#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels' host side: each takes a task whose views are device memory and puts its work on a stream. FP8 and bf16
// of head_dim 128 have kernels of their own, with the arithmetics fp8-mma and bf16-mma; plain ones do every dtype,
// layout and shape, with f32 dots and f64 sums: f32-dot. `num_sms`: of the device.

namespace misa::cuda {

void pool(const PoolTask& task, int num_sms, cudaStream_t stream);
void route(const RouteTask& task, int num_sms, cudaStream_t stream);
void score(const ScoreTask& task, int num_sms, cudaStream_t stream);
void select(const SelectTask& task, int num_sms, cudaStream_t stream);

}  // namespace misa::cuda
