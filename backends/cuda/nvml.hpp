#pragma once

#include <optional>

#include "core/indexer/backend.hpp"

namespace misa::cuda {

/// What the driver's management library (NVML) says of a CUDA device; nothing where the library is not there. Reads
/// only: clocks and limits are never set.
std::optional<DeviceState> device_state(int device);

}  // namespace misa::cuda
