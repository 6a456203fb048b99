#include "core/measure/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace misa {
namespace {

std::vector<double> sorted_numbers(std::span<const double> samples) {
  std::vector<double> numbers;
  numbers.reserve(samples.size());
  std::copy_if(samples.begin(), samples.end(), std::back_inserter(numbers), [](double x) { return !std::isnan(x); });
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

double percentile_of_sorted(const std::vector<double>& sorted, double fraction) {
  if (sorted.empty() || std::isnan(fraction)) return kNan;
  const double position = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const double rest = position - static_cast<double>(below);
  // Without the test, infinite neighbours would give NaN.
  if (rest == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
  return sorted[below] + rest * (sorted[below + 1] - sorted[below]);
}

/// How many of the n sorted values lie outside of the interval at each end: the largest c with
/// 2 P(Binomial(n, 1/2) <= c - 1) <= 1 - confidence. 0: there is none.
i64 values_outside(i64 n, double confidence) {
  const double log_all = static_cast<double>(n) * std::log(2.0);
  const auto log_factorial = [](i64 k) { return std::lgamma(static_cast<double>(k) + 1); };
  double tail = 0;
  i64 outside = 0;
  for (; outside < n; ++outside) {
    tail += std::exp(log_factorial(n) - log_factorial(outside) - log_factorial(n - outside) - log_all);
    if (2 * tail > 1 - confidence) break;
  }
  return outside;
}

}  // namespace

double percentile(std::span<const double> samples, double fraction) {
  return percentile_of_sorted(sorted_numbers(samples), fraction);
}

double median(std::span<const double> samples) { return percentile(samples, 0.5); }

double mean(std::span<const double> samples) {
  const std::vector<double> numbers = sorted_numbers(samples);
  if (numbers.empty()) return kNan;
  return std::accumulate(numbers.begin(), numbers.end(), 0.0) / static_cast<double>(numbers.size());
}

Summary summarise(std::span<const double> samples) {
  const std::vector<double> sorted = sorted_numbers(samples);
  return {.median = percentile_of_sorted(sorted, 0.5),
          .p10 = percentile_of_sorted(sorted, 0.1),
          .p90 = percentile_of_sorted(sorted, 0.9),
          .minimum = percentile_of_sorted(sorted, 0.0),
          .maximum = percentile_of_sorted(sorted, 1.0),
          .samples = static_cast<i64>(sorted.size()),
          .raw = {samples.begin(), samples.end()}};
}

PairedRatio paired_ratio(std::span<const double> numerator, std::span<const double> denominator, double confidence) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(numerator.size(), denominator.size()); ++i) {
    const double ratio = numerator[i] / denominator[i];
    if (std::isfinite(ratio)) ratios.push_back(ratio);
  }
  std::sort(ratios.begin(), ratios.end());
  PairedRatio found{.median = median(ratios), .rounds = static_cast<i64>(ratios.size()), .low = {}, .high = {}};
  if (const i64 outside = values_outside(found.rounds, confidence); outside > 0) {
    found.low = ratios[static_cast<std::size_t>(outside - 1)];
    found.high = ratios[ratios.size() - static_cast<std::size_t>(outside)];
  }
  return found;
}

}  // namespace misa
