#include "core/experiment/sweep_estimate.hpp"

#include <algorithm>
#include <cmath>

#include "core/measure/cost.hpp"
#include "core/workload/placement.hpp"

namespace misa {
namespace {

/// Roofs of no machine in particular, where none were measured: only ratios of floors count.
Roofs usual_roofs() {
  Roofs roofs;
  roofs.flops_per_second = 1e11;
  roofs.bytes_per_second = 1e10;
  roofs.launch_seconds = 1e-6;
  return roofs;
}

class Floors {
 public:
  Floors(const IndexerSpec& spec, const Problem& problem, const Roofs& roofs, Dtype dtype)
      : costs_(stage_costs(spec, problem)), roofs_(roofs), dtype_(dtype) {}

  /// Seconds below which a span cannot be; 0: not known.
  double of(StageSet stages) const {
    const std::optional<StageCost> cost = cost_of(stages, costs_);
    const std::optional<Roofline> floor = cost ? roofline(1, *cost, roofs_, dtype_) : std::nullopt;
    return floor ? floor->floor_seconds : 0;
  }

 private:
  std::vector<StageCost> costs_;
  const Roofs& roofs_;
  Dtype dtype_;
};

const ReportCase* like(const SweepTrial& trial, const PlannedCase& one) {
  const ReportCase* best = nullptr;
  for (const ReportCase& tried : trial.report.cases) {
    if (!tried.end_to_end || tried.stages.empty()) continue;
    const bool same_name = tried.spec.name == one.spec.name;
    const bool same_heads =
        same_name && tried.spec.heads && one.spec.heads && tried.spec.heads->active == one.spec.heads->active;
    if (best == nullptr || same_heads || (same_name && best->spec.name != one.spec.name)) best = &tried;
  }
  return best;
}

double case_seconds(const ReportCase& tried, const Problem& problem_of_trial, const PlannedCase& one,
                    const Problem& problem, const Roofs& roofs, Dtype dtype) {
  const Floors before(tried.spec, problem_of_trial, roofs, dtype), now(one.spec, problem, roofs, dtype);
  double staged = 0, scaled = 0, floor_before = 0, floor_now = 0;
  for (const ReportStage& stage : tried.stages) {
    const double from = before.of(stage.stages), to = now.of(stage.stages);
    staged += stage.seconds.median;
    scaled += stage.seconds.median * (from > 0 && to > 0 ? to / from : 1);
  }
  if (tried.spec.name == one.spec.name) return scaled + std::max(0.0, tried.end_to_end->median - staged);
  // Another indexer: as far from its floor as the one that was tried.
  for (const StageCost& cost : stage_costs(tried.spec, problem_of_trial)) floor_before += before.of(cost.stages);
  for (const StageCost& cost : stage_costs(one.spec, problem)) floor_now += now.of(cost.stages);
  return floor_before > 0 ? tried.end_to_end->median * floor_now / floor_before : tried.end_to_end->median;
}

}  // namespace

double sampling_seconds(double round, const SweepSampling& sampling) {
  constexpr double kWarmUpShare = 0.25;  // as the sampler has it
  double seconds = round;
  for (i64 i = 0; i < sampling.warm_up && seconds + round <= kWarmUpShare * sampling.budget_seconds; ++i) {
    seconds += round;
  }
  seconds += round;
  const double left = sampling.budget_seconds - seconds;
  const double fitting = round > 0 ? std::floor(std::max(0.0, left) / round) : 0;
  return seconds + round * std::min(fitting, static_cast<double>(sampling.samples - 1));
}

GroupTime estimate_group(const SweepTrial& trial, const Workload& outline_of_trial, const PlannedGroup& group,
                         const Workload& outline, const SweepSampling& sampling) {
  const std::vector<ReportBackend>& backends = trial.report.environment.backends;
  const Roofs roofs = backends.empty() || !backends.front().roofs ? usual_roofs() : *backends.front().roofs;
  const Problem before = outline_of(outline_of_trial), now = outline_of(outline);
  const Dtype dtype = outline.q.dtype;
  double round = 0;
  for (const PlannedCase& one : group.cases) {
    const ReportCase* tried = like(trial, one);
    if (tried != nullptr) round += 2 * case_seconds(*tried, before, one, now, roofs, dtype);  // as a whole, by stage
  }
  double sampled = 0;  // of the trial: first calls, and a sample each way
  for (const ReportCase& one : trial.report.cases) {
    if (!one.end_to_end) continue;
    sampled += 2 * (one.first_call_s.value_or(one.end_to_end->median) + one.end_to_end->median);
  }
  const double bytes =
      static_cast<double>(outline.bytes()) / std::max(1.0, static_cast<double>(outline_of_trial.bytes()));
  const double other = std::max(0.0, trial.seconds - trial.load_seconds - sampled);
  return {.preparation = trial.load_seconds * bytes + other, .sampling = sampling_seconds(round, sampling)};
}

}  // namespace misa
