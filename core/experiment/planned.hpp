#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/error.hpp"
#include "core/indexer/plan.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// What one run of an indexer would do.
struct PlannedIndexer {
  std::string name;
  i64 rows_per_chunk = 0, bytes = 0;               ///< bytes of its workspace and outputs
  std::vector<std::pair<std::string, i64>> spans;  ///< stages and how often each runs, in the order of the first

  /// How often `stage` runs; 0 when the indexer does not have it.
  i64 count(const std::string& stage) const;
};

/// What a run would do on a backend, known without running it and without the backend's device.
struct PlannedRun {
  std::string workload, backend, absent;  ///< absent: why the backend cannot run here; empty: it can
  i64 rows = 0, workload_bytes = 0;
  std::vector<PlannedIndexer> indexers;
  std::vector<Warning> warnings;  ///< of the workload's reader and of options

  /// The run in words, a line for the workload and one for each indexer.
  std::string text() const;
};

/// Plans those of `specs` that a backend which computes nothing (DryBackend) can run: the plan of each may take its
/// number of bytes of `limits` beside the problem.
PlannedRun plan_run(Backend& backend, const Workload& workload, const std::vector<IndexerSpec>& specs,
                    const std::vector<i64>& limits, bool fusion);

}  // namespace misa
