#pragma once

#include <functional>
#include <optional>

#include "core/experiment/sweep_plan.hpp"
#include "core/report/report.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// A group that was run once in short, from which the time of others on its backend is estimated.
struct SweepTrial {
  const PlannedGroup& group;
  Report report;            ///< of one sample of each indexer
  double load_seconds = 0;  ///< what generating or reading the workload took
  double seconds = 0;       ///< all of it, the loading too
};

/// What limits the sampling of a group (core/measure/sampler.hpp).
struct SweepSampling {
  i64 samples = 50, warm_up = 1;
  double budget_seconds = 10;  ///< of the whole group
};

struct GroupTime {
  double preparation = 0;  ///< seconds: loading, placing, judging
  double sampling = 0;     ///< seconds: first calls, warm-up, rounds

  double seconds() const { return preparation + sampling; }
};

/// The time that a group will take. A stage takes as long as in the trial, times the ratio of the roofline floors of
/// both problems (core/measure/cost.hpp); an indexer that the trial lacks is as far from its floor as the trial's dsa.
/// Loading goes with the bytes of the workload, judging takes what it took. Sampling ends where the sampler ends it.
/// `outline_of_trial` and `outline` are the workloads of trial and group, whose numbers are not looked at. Source:
/// ours.
GroupTime estimate_group(const SweepTrial& trial, const Workload& outline_of_trial, const PlannedGroup& group,
                         const Workload& outline, const SweepSampling& sampling);

/// Seconds that sampling takes when each round takes `round`: first calls, warm-up within a quarter of the budget, and
/// rounds while they fit, one at least.
double sampling_seconds(double round, const SweepSampling& sampling);

}  // namespace misa
