#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/experiment/profile.hpp"
#include "core/experiment/sweep_estimate.hpp"
#include "core/experiment/sweep_plan.hpp"

namespace misa {

/// How a group is measured: in full, or once in short, to estimate the time of all.
struct GroupRun {
  bool trial = false;
  std::function<void(const ProfileProgress&)> progress = {};
};

/// What measuring a group gave.
struct MeasuredGroup {
  Report report;
  double load_seconds = 0;  ///< generating or reading the workload
};

struct SweepProgress {
  std::size_t group = 0;    ///< that is measured now
  double seconds_left = 0;  ///< of the whole sweep
  ProfileProgress profile = {};
};

struct SweepSinks {
  /// The seconds that the sweep will take in all, trials included. Comes once, before the first group.
  std::function<void(double seconds)> estimated = {};
  std::function<void(const SweepProgress&)> progress = {};                           ///< after every run
  std::function<void(const PlannedGroup&, const Report&)> measured = {};             ///< a group that is whole
  std::function<void(const PlannedGroup&, const std::string& reason)> skipped = {};  ///< a group that cannot run
};

struct SweepRequest {
  std::vector<const PlannedGroup*> groups = {};          ///< in the order in which they are measured
  std::function<Workload(const PlannedGroup&)> outline;  ///< shapes and windows of its workload
  std::function<MeasuredGroup(const PlannedGroup&, const GroupRun&)> measure;
  std::function<SweepSampling(const PlannedGroup&)> sampling;
  SweepSinks sinks = {};
};

/// Seconds of each group, from one short run of the smallest group of each backend. `spent`: what those runs took.
struct SweepEstimate {
  std::vector<GroupTime> groups;
  double spent = 0;

  double seconds() const;
};
/// Throws Interrupted when it is.
SweepEstimate estimate_sweep(const SweepRequest& request);

/// Estimates, says the estimate, measures group after group. A group that cannot run for want of memory or of a kernel
/// is skipped with the reason; where none can run, its error is thrown. False: it was interrupted, and the group under
/// way was given up.
bool sweep(const SweepRequest& request);

}  // namespace misa
