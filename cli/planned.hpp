#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/given_options.hpp"
#include "cli/indexer_options.hpp"
#include "cli/options.hpp"
#include "core/indexer/plan.hpp"

namespace misa::cli {

/// What one run of an indexer would do.
struct PlannedIndexer {
  std::string name;
  i64 rows_per_chunk = 0, bytes = 0;  ///< bytes of its workspace and outputs
  std::vector<std::pair<std::string, i64>>
      spans;  ///< each stage's name and how often it runs, in the order of the first

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

/// A backend that plans and computes nothing. Where the backend is absent, the plans are those of f32 logits with
/// nothing fused, in the memory of this machine.
struct DrySide {
  std::string name, absent;       ///< absent: why the backend cannot run here; empty: it can
  std::unique_ptr<Backend> like;  ///< must outlive `backend`
  std::unique_ptr<Backend> backend;
};
DrySide dry_side(const std::string& backend, i64 threads, int device);

/// What a run of `spec` would do, seen on a `backend` that computes nothing.
PlannedIndexer plan_indexer(Backend& backend, const IndexerSpec& spec, const Problem& problem,
                            const PlanOptions& options);

/// Loads the workload and makes the plans that a run of profile on `backend` would make, on one that computes nothing.
/// Throws what such a run throws before its first stage, except that the backend is absent. `facts`: what the command
/// knows beside workload, indexers and backend.
PlannedRun plan_run(const WorkloadOptions& workload, const IndexerOptions& indexer, const std::string& backend,
                    i64 threads, int device, bool fusion, const GivenOptions& given, RunFacts facts = {});

}  // namespace misa::cli
