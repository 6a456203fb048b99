#include "core/measure/sampler.hpp"

#include <algorithm>
#include <utility>

#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"

namespace misa {
namespace {

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
  bool backwards = false, swapped = false;
  double last_round = 0;
  SamplingProgress progress;
  const i64 count = static_cast<i64>(subjects.size());
  progress.most_runs = count * (1 + options.warm_up + options.max_samples);
  const auto round = [&](auto&& keep) {
    const double begun = now();
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      if (options.interrupted && options.interrupted()) {
        set.interrupted = true;
        return false;
      }
      const std::size_t place = backwards ? subjects.size() - 1 - i : i;
      const std::size_t subject = swapped ? place ^ 1 : place;
      try {
        keep(set.subjects[subject], subjects[subject].run());
      } catch (const Interrupted&) {
        set.interrupted = true;
        return false;
      }
      if (!options.after_run) continue;
      progress.subject = subject;
      progress.samples = static_cast<i64>(set.subjects[subject].runs.size());
      progress.seconds = now() - start;
      const double each = progress.seconds / static_cast<double>(++progress.runs);
      const auto time_of = [&](i64 runs) { return each * static_cast<double>(std::max<i64>(0, runs)); };
      const double wanted = time_of(progress.most_runs - progress.runs);
      const double within = std::min(wanted, options.budget_seconds - progress.seconds);
      progress.seconds_left = std::max(within, time_of(2 * count - progress.runs));
      options.after_run(progress);
    }
    if (options.sides && backwards) swapped = !swapped;
    backwards = !backwards;
    last_round = now() - begun;
    return true;
  };
  // Whether a round as long as the last one ends within a share of the budget.
  const auto fits = [&](double share) { return now() - start + last_round <= share * options.budget_seconds; };

  if (!round([](Samples& samples, RunTimes times) { samples.first = std::move(times); })) return set;

  for (i64 i = 0; i < options.warm_up && fits(kWarmUpShare); ++i) {
    if (!round([](Samples&, const RunTimes&) {})) return set;
  }

  if (options.warmed_up) options.warmed_up();
  backwards = swapped = false;
  for (i64 taken = 0; taken < options.max_samples; ++taken) {
    set.cut = taken > 0 && !fits(1);
    if (set.cut) break;
    if (!round([](Samples& samples, RunTimes times) { samples.runs.push_back(std::move(times)); })) break;
  }
  return set;
}

}  // namespace misa
