#pragma once

#include <span>
#include <vector>

#include "core/base/types.hpp"

namespace misa {

/// Order statistics of the samples; NaN samples are left out. Of no sample at all, each is NaN; of one, each is that
/// sample (and the deviation 0).
///
/// The percentile at fraction f of n sorted samples x is x interpolated linearly at position f * (n - 1), counted
/// from 0 ("type 7" of Hyndman and Fan 1996, as NumPy and Excel's PERCENTILE.INC do). f is clamped to [0, 1].
double percentile(std::span<const double> samples, double fraction);

/// percentile(samples, 0.5)
double median(std::span<const double> samples);

/// Median absolute deviation from the median, not scaled to a normal distribution.
double mad(std::span<const double> samples);

double mean(std::span<const double> samples);

struct Summary {
  double median = 0, p10 = 0, p90 = 0, mad = 0, minimum = 0, maximum = 0;
  i64 samples = 0;               ///< that are numbers
  std::vector<double> raw = {};  ///< all samples, in the order they were taken
};

Summary summarise(std::span<const double> samples);

}  // namespace misa
