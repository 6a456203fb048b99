#pragma once

#include <optional>
#include <string_view>

#include "core/indexer/backend.hpp"
#include "core/measure/cost.hpp"

namespace misa {

/// What keeps a stage from being faster on this machine.
enum class Bound { compute, memory, latency };

constexpr std::string_view bound_name(Bound bound) {
  switch (bound) {
    case Bound::compute: return "compute";
    case Bound::memory: return "memory";
    case Bound::latency: return "latency";
  }
  return "";
}

struct Roofline {
  double floor_seconds = 0;  ///< the largest of flops / peak, bytes / bandwidth and one launch
  double fraction = 0;       ///< floor_seconds / seconds: 1 is as fast as this machine can be
  Bound bound = Bound::compute;
};

/// Work on elements of `dtype`. The launch is one of a recording where runs are recorded. Nothing when `seconds` or a
/// roof that the cost needs is not a positive number. Bound: the largest floor; ties: in the order of Bound. A fraction
/// above 1 means that the work ran from a cache faster than memory, or that a roof was measured too low.
std::optional<Roofline> roofline(double seconds, const StageCost& cost, const Roofs& roofs, Dtype dtype,
                                 bool recorded = false);

}  // namespace misa
