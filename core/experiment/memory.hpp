#pragma once

#include <optional>
#include <vector>

#include "core/indexer/backend.hpp"
#include "core/indexer/spec.hpp"
#include "core/workload/workload.hpp"

namespace misa {

struct CompareRequest;

/// The most memory that an experiment may take.
struct MemoryLimits {
  i64 host = i64{1} << 62;
  std::optional<i64> device = {};  ///< empty: all that is free

  /// The limit for the work of `backend`: on a device, no more than is free now.
  i64 of(const Backend& backend) const;
};

/// What an experiment holds at once: the workload, its copy on the backend, the plans of all indexers side by side, and
/// what they select.
struct MemoryNeed {
  i64 on_host = 0, on_device = 0;  ///< bytes in all; nothing is on a device where the backend uses the host's memory
  i64 placed = 0, plans = 0, fetched = 0;  ///< of them: the workload's copy, the plans, selections on the host
  std::vector<i64> shares = {};            ///< the least that each plan takes, last that of the reference
};
/// The need of `specs` on `workload`, whose numbers are not looked at, and of dsa as their reference where it is not
/// one of them.
MemoryNeed memory_needed(const Backend& backend, const Workload& workload, std::vector<IndexerSpec> specs,
                         const IndexerSettings& settings);

/// The most that the plan of each of `specs` may take beside the problem when all of them are alive side by side, and
/// last that of dsa as their reference where it is not one of them. What is left beyond the least that each takes is
/// shared evenly. Error(runtime) MP-E502 with the bytes needed when the limits, or what a device has free, cannot hold
/// the workload, its copy on the backend, all plans and what they select at once.
std::vector<i64> plan_limits(const MemoryLimits& limits, const Backend& backend, const Workload& workload,
                             std::vector<IndexerSpec> specs, const IndexerSettings& settings);

/// The most that a plan of each of the request's specs may take beside the problem, on any side, and last that of
/// `recorded`, which a recorded selection is compared with; with `reference`, all of them are rated against it.
/// Error(runtime) MP-E502 with the bytes needed when the limits, or what a device has free, cannot hold all that is
/// alive at once.
std::vector<i64> comparison_limits(const CompareRequest& request, const std::optional<IndexerSpec>& reference,
                                   const std::optional<IndexerSpec>& recorded);

}  // namespace misa
