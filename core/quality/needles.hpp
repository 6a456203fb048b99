#pragma once

#include <vector>

#include "core/quality/quality.hpp"

namespace misa {

/// A row that asks for a needle it can see.
struct NeedleCell {
  i64 row = 0;     ///< of the workload, from 0
  i64 needle = 0;  ///< its index in Workload::needles
  i64 length = 0;  ///< tokens that count: those of its answer, or all where the workload does not say which those are
  i64 found = 0;   ///< of them selected
  bool answer = false;  ///< the workload says which tokens are the answer

  double share() const { return static_cast<double>(found) / static_cast<double>(length); }
};

/// Every row that asks for a needle it can see, by row. Source: ours.
std::vector<NeedleCell> needle_cells(const Workload& workload, const SelectedTokens& selected);

}  // namespace misa
