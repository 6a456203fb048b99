#include "core/measure/stage_timer.hpp"

#include <algorithm>
#include <limits>

#include "core/base/error.hpp"

namespace misa {

namespace {

/// Appends those that are not in `to` yet.
void add_kernels(const std::vector<KernelRun>& from, std::vector<KernelRun>& to) {
  for (const KernelRun& one : from) {
    if (std::find(to.begin(), to.end(), one) == to.end()) to.push_back(one);
  }
}

}  // namespace

void StageTimer::start() {
  spans_.clear();
  open_ = false;
  clock_.reset();
  start_ = clock_.mark();
}

void StageTimer::begin(StageSet stages) {
  if (open_) {
    throw Error(
        ErrorKind::internal, "MP-E901",
        "span '" + stage_set_name(stages) + "' begins inside span '" + stage_set_name(spans_.back().stages) + "'");
  }
  open_ = true;
  spans_.push_back({.stages = stages, .from = clock_.mark(), .to = 0});
}

void StageTimer::ran(Primitive primitive, std::string_view kernel) {
  if (open_ && !kernel.empty()) spans_.back().kernels.push_back({primitive, kernel});
}

void StageTimer::end() {
  if (!open_) throw Error(ErrorKind::internal, "MP-E902", "a span ends that never began");
  spans_.back().to = clock_.mark();
  open_ = false;
}

void StageTimer::stop() {
  if (open_) {
    throw Error(ErrorKind::internal, "MP-E903",
                "the run ended inside span '" + stage_set_name(spans_.back().stages) + "'");
  }
  stop_ = clock_.mark();
}

RunTimes StageTimer::times(bool spans) {
  RunTimes times{.seconds = clock_.seconds(start_, stop_), .stages = {}};
  for (const Span& span : spans_) {
    auto known = std::find_if(times.stages.begin(), times.stages.end(),
                              [&](const StageSeconds& stage) { return stage.stages == span.stages; });
    if (known == times.stages.end()) known = times.stages.insert(known, {.stages = span.stages, .seconds = 0});
    known->seconds += clock_.seconds(span.from, span.to);
    add_kernels(span.kernels, known->kernels);
    if (!spans) continue;
    times.spans.push_back({.stages = span.stages,
                           .begin = clock_.seconds(start_, span.from),
                           .end = clock_.seconds(start_, span.to),
                           .kernels = span.kernels});
  }
  return times;
}

std::vector<StageSummary> summarise_stages(std::span<const RunTimes> runs) {
  std::vector<StageSummary> summaries;
  for (const RunTimes& run : runs) {
    for (const StageSeconds& stage : run.stages) {
      auto known = std::find_if(summaries.begin(), summaries.end(),
                                [&](const StageSummary& one) { return one.stages == stage.stages; });
      if (known == summaries.end()) known = summaries.insert(known, {.stages = stage.stages, .seconds = {}});
      known->seconds.raw.push_back(stage.seconds);
      add_kernels(stage.kernels, known->kernels);
    }
  }
  for (StageSummary& one : summaries) one.seconds = summarise(one.seconds.raw);
  return summaries;
}

std::vector<double> seconds_of(std::span<const RunTimes> runs) {
  std::vector<double> seconds;
  for (const RunTimes& run : runs) seconds.push_back(run.seconds);
  return seconds;
}

double closure_residual(double end_to_end_seconds, std::span<const StageSummary> stages) {
  if (!(end_to_end_seconds > 0)) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (const StageSummary& stage : stages) sum += stage.seconds.median;
  return (end_to_end_seconds - sum) / end_to_end_seconds;
}

}  // namespace misa
