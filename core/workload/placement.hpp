#pragma once

#include <vector>

#include "core/indexer/problem.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// A workload on a backend, uploaded once, outside of every timing. Views in `problem` live as long as this object.
class Placement {
 public:
  Placement(Backend& backend, const Workload& workload);
  const Problem& problem() const { return problem_; }

  /// What placing `workload` will take on a backend; the host's norms and windows take as much once more at most.
  static i64 bytes_needed(const Workload& workload);

 private:
  std::vector<Buffer> buffers_;
  Problem problem_;
};

/// What the host must know of `workload` to plan, its views empty: enough to count what a plan takes.
Problem outline_of(const Workload& workload);

/// Shape of `workload` without placing it.
Shape shape_of(const Workload& workload);

}  // namespace misa
