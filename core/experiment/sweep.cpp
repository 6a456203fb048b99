#include "core/experiment/sweep.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"
#include "core/measure/cost.hpp"
#include "core/workload/placement.hpp"

namespace misa {
namespace {

struct Tried {
  std::unique_ptr<SweepTrial> trial;
  Workload outline;
};

/// The group whose workload has the fewest visible pairs, of those on each backend.
std::map<std::string, std::size_t> smallest_groups(const SweepRequest& request, const std::vector<i64>& pairs) {
  std::map<std::string, std::size_t> smallest;
  for (std::size_t i = 0; i < request.groups.size(); ++i) {
    const std::string backend = value_at(request.groups[i]->coordinates, "backend");
    const auto [found, is_new] = smallest.emplace(backend, i);
    if (!is_new && pairs[i] < pairs[found->second]) found->second = i;
  }
  return smallest;
}

bool may_be_skipped(const Error& error) {
  return error.kind() == ErrorKind::runtime || error.kind() == ErrorKind::unavailable ||
         error.kind() == ErrorKind::nothing;
}

}  // namespace

double SweepEstimate::seconds() const {
  double sum = spent;
  for (const GroupTime& group : groups) sum += group.seconds();
  return sum;
}

SweepEstimate estimate_sweep(const SweepRequest& request) {
  SweepEstimate estimate;
  const double start = steady_seconds();
  std::vector<i64> pairs;
  for (const PlannedGroup* group : request.groups) {
    pairs.push_back(visible_pairs(outline_of(request.outline(*group))));
  }
  std::map<std::string, Tried> tried;
  for (const auto& [backend, smallest] : smallest_groups(request, pairs)) {
    const PlannedGroup& group = *request.groups[smallest];
    const double begun = steady_seconds();
    MeasuredGroup measured = request.measure(group, {.trial = true});
    if (measured.report.interrupted) throw Interrupted();
    tried.emplace(
        backend, Tried{std::make_unique<SweepTrial>(SweepTrial{group, std::move(measured.report), measured.load_seconds,
                                                               steady_seconds() - begun}),
                       request.outline(group)});
  }
  for (const PlannedGroup* group : request.groups) {
    const Tried& one = tried.at(value_at(group->coordinates, "backend"));
    estimate.groups.push_back(
        estimate_group(*one.trial, one.outline, *group, request.outline(*group), request.sampling(*group)));
  }
  estimate.spent = steady_seconds() - start;
  return estimate;
}

bool sweep(const SweepRequest& request) {
  SweepEstimate estimate;
  try {
    estimate = estimate_sweep(request);
  } catch (const Interrupted&) {
    return false;
  }
  if (request.sinks.estimated) request.sinks.estimated(estimate.seconds());
  std::optional<Error> refusal;
  bool measured = request.groups.empty();
  for (std::size_t i = 0; i < request.groups.size(); ++i) {
    const PlannedGroup& group = *request.groups[i];
    double later = 0;
    for (std::size_t j = i + 1; j < estimate.groups.size(); ++j) later += estimate.groups[j].seconds();
    const double begun = steady_seconds();
    GroupRun run;
    run.progress = [&](const ProfileProgress& done) {
      if (!request.sinks.progress) return;
      const double left = std::max(0.0, estimate.groups[i].seconds() - (steady_seconds() - begun));
      request.sinks.progress({i, later + left, done});
    };
    try {
      const MeasuredGroup whole = request.measure(group, run);
      if (whole.report.interrupted) return false;
      measured = true;
      if (request.sinks.measured) request.sinks.measured(group, whole.report);
    } catch (const Interrupted&) {
      return false;
    } catch (const Error& error) {
      if (!may_be_skipped(error)) throw;
      refusal = error;
      if (request.sinks.skipped) request.sinks.skipped(group, error.what());
    }
  }
  if (!measured && refusal) throw Error(*refusal);
  return true;
}

}  // namespace misa
