#pragma once

#include <cuda_runtime_api.h>

#include "core/base/types.hpp"

// Work that computes nothing: for measuring.

namespace misa::cuda {

/// Reads `bytes` (a multiple of 16) once. Not const: the compiler must believe that the sum is wanted.
void read_memory(void* data, i64 bytes, int num_sms, cudaStream_t stream);

/// Fills `bytes` (a multiple of 4) with (hash & keep) | set of each word.
void fill_memory(void* data, i64 bytes, u32 keep, u32 set, cudaStream_t stream);

/// Keeps the stream busy for about this long.
void wait_on_device(i64 nanoseconds, cudaStream_t stream);

/// An empty kernel.
void launch_nothing(cudaStream_t stream);

}  // namespace misa::cuda
