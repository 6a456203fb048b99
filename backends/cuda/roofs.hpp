#pragma once

#include <cuda_runtime_api.h>

#include "core/indexer/backend.hpp"

namespace misa::cuda {

/// Measures them on this stream, with memory from `device`: a large copy, a large read, cuBLASLt's products, and
/// empty kernels.
Roofs measure_roofs(Allocator& device, int num_sms, cudaStream_t stream);

/// Memory that measure_roofs needs at most.
constexpr i64 kRoofBytes = i64{640} << 20;

}  // namespace misa::cuda
