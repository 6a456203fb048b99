#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

// The kernels of the pool primitive.

namespace misa::cuda {

/// FP8 or bf16 keys of 128 dimensions whose vectors can be read 16 bytes at a time.
bool pools_vectors(const PoolTask& task);
void pool_vectors(const PoolTask& task, int num_sms, cudaStream_t stream);

/// Takes every dtype and shape.
void pool_plainly(const PoolTask& task, int num_sms, cudaStream_t stream);

}  // namespace misa::cuda
