#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels that rank heads and gather their queries.

namespace misa::cuda {

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

}  // namespace misa::cuda
