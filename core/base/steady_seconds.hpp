#pragma once

#include <chrono>

namespace misa {

/// Seconds of the clock that never goes back, since a point in time that does not matter.
inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace misa
