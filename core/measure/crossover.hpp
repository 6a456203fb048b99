#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/measure/statistics.hpp"

namespace misa {

/// Times of two subjects at one context length, taken in the same rounds. [rounds], seconds
struct LengthTimes {
  i64 context = 0;
  std::vector<double> of, over;
};

/// How many times as long `over` took as `of` at one length: above 1, `of` is faster.
struct LengthRatio {
  i64 context = 0;
  PairedRatio ratio;
};

enum class CrossoverVerdict { crossover, faster, slower, inconclusive };
constexpr std::string_view crossover_verdict_name(CrossoverVerdict verdict) {
  constexpr std::string_view kNames[] = {"crossover", "faster throughout", "slower throughout", "inconclusive"};
  return kNames[static_cast<int>(verdict)];
}

/// From which context length on `of` is faster than `over`, as far as the lengths that were measured tell.
struct Crossover {
  CrossoverVerdict verdict = CrossoverVerdict::inconclusive;
  bool rising = true;                  ///< of a crossover: `of` is slower below it and faster above; else the reverse
  std::optional<double> context = {};  ///< of a crossover: where the medians cross 1
  std::optional<i64> low = {}, high = {};  ///< of a crossover: the measured lengths that enclose it
  std::string cause = {};                  ///< why it is inconclusive, in few words; empty: it is not
  std::string reason = {};                 ///< the same with the lengths
  double confidence = kConfidence;
  std::vector<LengthRatio> ratios = {};  ///< by context, with the joint intervals that the verdict comes from
};

/// Decides from ratios whose intervals hold jointly. A length is faster where its interval lies above 1, slower where
/// it lies below 1, and undecided otherwise.
///
///   faster, ..., faster                              faster throughout; slower throughout likewise
///   slower, ..., (undecided, ...) faster, ...        a crossover between the last slower and the first faster length
///   the reverse of this                              a crossover that falls
///   anything else                                    inconclusive: noise, or not monotone
///
/// The interval [low, high] is a pair of measured lengths: it holds the crossover with at least the confidence of the
/// joint intervals wherever the true ratio crosses 1 once, and assumes nothing about its course between lengths. The
/// estimate `context` is the first crossing of the medians in it, interpolated linearly in the logarithms of length and
/// ratio. Source: ours.
Crossover decide_crossover(std::vector<LengthRatio> ratios, double confidence = kConfidence);

/// The same from times. Of m lengths, each ratio has an interval of confidence 1 - (1 - confidence) / m (Bonferroni),
/// so that all of them hold at once with at least `confidence`.
Crossover find_crossover(std::span<const LengthTimes> times, double confidence = kConfidence);

/// The least rounds for which a ratio has an interval when there are `lengths` of them.
i64 rounds_needed(i64 lengths, double confidence = kConfidence);

}  // namespace misa
