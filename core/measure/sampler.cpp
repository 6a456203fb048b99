#include "core/measure/sampler.hpp"

#include <chrono>
#include <utility>

namespace misa {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Warm-up may use this share of the budget: the rest is for what is asked.
constexpr double kWarmUpShare = 0.25;

}  // namespace

SampleSet sample(std::span<const Subject> subjects, const SamplerOptions& options) {
  SampleSet set;
  set.subjects.resize(subjects.size());
  if (subjects.empty()) return set;

  const auto now = [&] { return options.now ? options.now() : steady_seconds(); };
  const double start = now();

  // Runs every subject once and hands the times to `keep`; false when interrupted.
  bool backwards = false;
  const auto round = [&](auto&& keep) {
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      if (options.interrupted && options.interrupted()) {
        set.interrupted = true;
        return false;
      }
      const std::size_t subject = backwards ? subjects.size() - 1 - i : i;
      keep(set.subjects[subject], subjects[subject].run());
      if (options.after_run) options.after_run(subject, static_cast<i64>(set.subjects[subject].runs.size()));
    }
    backwards = !backwards;
    return true;
  };

  if (!round([](Samples& samples, RunTimes times) { samples.first = std::move(times); })) return set;

  for (i64 i = 0; i < options.warm_up && now() - start < kWarmUpShare * options.budget_seconds; ++i) {
    if (!round([](Samples&, const RunTimes&) {})) return set;
  }

  if (options.warmed_up) options.warmed_up();
  backwards = false;
  for (i64 taken = 0; taken < options.max_samples; ++taken) {
    if (taken >= options.min_samples && now() - start >= options.budget_seconds) break;
    if (!round([](Samples& samples, RunTimes times) { samples.runs.push_back(std::move(times)); })) break;
  }
  return set;
}

}  // namespace misa
