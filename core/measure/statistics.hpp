#pragma once

#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "core/base/types.hpp"

namespace misa {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Order statistics of the samples; NaN samples are left out. Of no sample at all, each is NaN; of one, each is that
/// sample.
///
/// The percentile at fraction f of n sorted samples x is x interpolated linearly at position f * (n - 1), counted
/// from 0 ("type 7" of Hyndman and Fan 1996, as NumPy and Excel's PERCENTILE.INC do). f is clamped to [0, 1].
double percentile(std::span<const double> samples, double fraction);

/// percentile(samples, 0.5)
double median(std::span<const double> samples);

double mean(std::span<const double> samples);

struct Summary {
  double median = 0, p10 = 0, p90 = 0, minimum = 0, maximum = 0;
  i64 samples = 0;               ///< that are numbers
  std::vector<double> raw = {};  ///< all samples, in the order they were taken
};

Summary summarise(std::span<const double> samples);

/// How many times as long one subject took as another, from samples that were taken in turns
/// (core/measure/sampler.hpp).
struct PairedRatio {
  double median = 0;                ///< of the rounds' ratios; NaN without a round
  i64 rounds = 0;                   ///< that have both samples
  std::optional<double> low, high;  ///< interval of the median; empty: fewer rounds than it takes

  /// True when the ratio is known to be another than 1.
  bool decided() const { return low && (*low > 1 || *high < 1); }
};

/// The interval holds the median with at least this probability.
constexpr double kConfidence = 0.95;
/// With fewer rounds not even the smallest and the largest ratio make such an interval: 2 / 2^5 > 1 - 0.95.
constexpr i64 kLeastRounds = 6;

/// The ratios r[i] = numerator[i] / denominator[i] of the rounds i, sorted: their median and the order statistics
///
///   [r(c), r(n + 1 - c)],  c the largest with 2 P(Binomial(n, 1/2) < c) <= 1 - confidence
///
/// This is the sign test turned round: of no distribution, no seed, exact for every n that has such a c (at kConfidence
/// n >= kLeastRounds; ties make it wider). Two subjects that take the same time differ by it in at most 1 of 20 runs,
/// however the machine's speed moves between rounds. Ratios that are no finite numbers are left out. Source:
/// Hettmansperger and McKean, Robust Nonparametric Statistical Methods, section 1.3.
PairedRatio paired_ratio(std::span<const double> numerator, std::span<const double> denominator,
                         double confidence = kConfidence);

}  // namespace misa
