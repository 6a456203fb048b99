#pragma once

#include <memory>
#include <string>

#include "cli/given_options.hpp"
#include "cli/indexer_options.hpp"
#include "cli/workload_options.hpp"
#include "core/experiment/planned.hpp"

namespace misa::cli {

/// A backend that plans and computes nothing. Where the backend is absent, the plans are those of f32 logits with
/// nothing fused, in the memory of this machine.
struct DrySide {
  std::string name, absent;       ///< absent: why the backend cannot run here; empty: it can
  std::unique_ptr<Backend> like;  ///< must outlive `backend`
  std::unique_ptr<Backend> backend;
};
DrySide dry_side(const std::string& backend, i64 threads, int device, const ForcedKernels& kernels = {});

/// The runs in words, those of `sides` under their names.
std::string planned_text(std::vector<PlannedRun> runs, const std::vector<DrySide>& sides);

/// Loads the workload and makes the plans that a run of profile on `backend` would make, on one that computes nothing.
/// Throws what such a run throws before its first stage, except that the backend is absent. `facts`: what the command
/// knows beside workload, indexers and backend.
PlannedRun plan_profile(const WorkloadOptions& workload, const IndexerOptions& indexer, const std::string& backend,
                        i64 threads, int device, bool fusion, const GivenOptions& given, RunFacts facts = {});

}  // namespace misa::cli
