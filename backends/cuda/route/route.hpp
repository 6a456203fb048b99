#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels among which route() chooses.

namespace misa::cuda {

/// Energies on the tensor cores, ranking and gathering in one kernel: pooled, FP8 or bf16, head_dim 128, 32 or 64
/// heads.
bool routes_in_tiles(const RouteTask& task);
void route_in_tiles(const RouteTask& task, int num_sms, cudaStream_t stream);

/// Routers over sampled keys, with or without a linear head; given heads beside one.
void route_by_sampled_keys(const RouteTask& task, int num_sms, cudaStream_t stream);

/// Every other router, every dtype and shape; given heads.
void route_plainly(const RouteTask& task, cudaStream_t stream);

}  // namespace misa::cuda
