#include "core/measure/paired_ratio.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/measure/statistics.hpp"

namespace misa {
namespace {

/// How many of the n sorted values lie outside of the interval at each end: the largest c with
/// 2 P(Binomial(n, 1/2) <= c - 1) <= 1 - kConfidence. 0: there is none.
i64 values_outside(i64 n) {
  const double log_all = static_cast<double>(n) * std::log(2.0);
  const auto log_factorial = [](i64 k) { return std::lgamma(static_cast<double>(k) + 1); };
  double tail = 0;
  i64 outside = 0;
  for (; outside < n; ++outside) {
    tail += std::exp(log_factorial(n) - log_factorial(outside) - log_factorial(n - outside) - log_all);
    if (2 * tail > 1 - kConfidence) break;
  }
  return outside;
}

}  // namespace

PairedRatio paired_ratio(std::span<const double> numerator, std::span<const double> denominator) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(numerator.size(), denominator.size()); ++i) {
    const double ratio = numerator[i] / denominator[i];
    if (std::isfinite(ratio)) ratios.push_back(ratio);
  }
  std::sort(ratios.begin(), ratios.end());
  PairedRatio found{.median = median(ratios), .rounds = static_cast<i64>(ratios.size()), .low = {}, .high = {}};
  if (const i64 outside = values_outside(found.rounds); outside > 0) {
    found.low = ratios[static_cast<std::size_t>(outside - 1)];
    found.high = ratios[ratios.size() - static_cast<std::size_t>(outside)];
  }
  return found;
}

}  // namespace misa
