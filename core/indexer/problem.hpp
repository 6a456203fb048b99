#pragma once

#include <vector>

#include "core/indexer/backend.hpp"

namespace misa {

/// A workload on a backend: device views, and what the host must know of it to plan.
struct Problem {
  Queries queries;
  KeyCache keys;
  Windows windows;
  View<const float, 2> norms;  ///< [M, H] query norms before quantisation; empty: not recorded

  std::vector<i32> sequence, begin, end;  ///< [M] host copies of `windows`
  Shape shape;                            ///< top_k is not the problem's: 0

  i64 bytes = 0;  ///< placed on the backend
};

}  // namespace misa
