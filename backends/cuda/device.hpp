#pragma once

#include <cuda_runtime_api.h>

#include <optional>

#include "core/indexer/backend.hpp"

// What is known of a device, and work that computes nothing, for measuring it.

namespace misa::cuda {

/// Reads `bytes` (a multiple of 16) once. Not const: the compiler must believe that the sum is wanted.
void read_memory(void* data, i64 bytes, int num_sms, cudaStream_t stream);

/// Fills `bytes` (a multiple of 4) with (hash & keep) | set of each word.
void fill_memory(void* data, i64 bytes, u32 keep, u32 set, cudaStream_t stream);

/// Keeps the stream busy for about this long.
void wait_on_device(i64 nanoseconds, cudaStream_t stream);

/// An empty kernel.
void launch_nothing(cudaStream_t stream);

/// Floating-point operations per second of cuBLASLt in a large product of random e4m3, bf16 or f32 matrices: FP8 and
/// bf16 with f32 sums and bf16 out. 0 where the library is not there or has no such product. Memory from `device`.
double gemm_flops_per_second(Dtype dtype, Allocator& device, cudaStream_t stream);

/// Measures them on this stream, with memory from `device`: a large copy, a large read, cuBLASLt's products, and
/// empty kernels.
Roofs measure_roofs(Allocator& device, int num_sms, cudaStream_t stream);

/// Memory that measure_roofs needs at most.
constexpr i64 kRoofBytes = i64{640} << 20;

/// What the driver's management library (NVML) says of a CUDA device; nothing where the library is not there. Reads
/// only: clocks and limits are never set.
std::optional<DeviceState> device_state(int device);

}  // namespace misa::cuda
