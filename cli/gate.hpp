#pragma once

#include <string>
#include <vector>

#include "core/measure/difference.hpp"

namespace misa::cli {

/// A ratio that --max-slowdown judges.
struct Gated {
  std::string name;
  JudgedRatio time;
  Gate gate = Gate::passed;
  std::string reason = {};  ///< why it is inconclusive
};

/// Ends a command as the worst of its gates says, unless all passed: Error(slower) MP-E491, Error(inconclusive)
/// MP-E492. `how` is what would tell more.
void end_as_gated(const std::vector<Gated>& gated, double max_slowdown, const std::string& how);

}  // namespace misa::cli
