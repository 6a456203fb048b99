#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels of the route primitive.

namespace misa::cuda {

/// Energies on the tensor cores, ranking and gathering in one kernel: pooled, FP8 or bf16, head_dim 128, 32 or 64
/// heads.
bool routes_in_tiles(const RouteTask& task);
void route_in_tiles(const RouteTask& task, int num_sms, cudaStream_t stream);

/// Whether a task has a router over sampled keys or a linear head.
bool reads_samples(const RouteTask& task);

/// Such tasks of FP8 or bf16 queries, head_dim 128, up to 64 heads and few samples: on tensor cores.
bool routes_samples_in_tiles(const RouteTask& task);
void route_samples_in_tiles(const RouteTask& task, int num_sms, cudaStream_t stream);

/// Such tasks of every dtype and shape.
void route_samples(const RouteTask& task, int num_sms, cudaStream_t stream);

/// Every other router and given heads, of every dtype and shape.
bool routes_plainly(const RouteTask& task);
void route_plainly(const RouteTask& task, int num_sms, cudaStream_t stream);

}  // namespace misa::cuda
