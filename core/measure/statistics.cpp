#include "core/measure/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace misa {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

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

double mad_of_sorted(const std::vector<double>& sorted) {
  const double middle = percentile_of_sorted(sorted, 0.5);
  std::vector<double> deviations;
  deviations.reserve(sorted.size());
  for (double x : sorted) deviations.push_back(std::abs(x - middle));
  return median(deviations);
}

}  // namespace

double percentile(std::span<const double> samples, double fraction) {
  return percentile_of_sorted(sorted_numbers(samples), fraction);
}

double median(std::span<const double> samples) { return percentile(samples, 0.5); }

double mad(std::span<const double> samples) { return mad_of_sorted(sorted_numbers(samples)); }

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
          .mad = mad_of_sorted(sorted),
          .minimum = percentile_of_sorted(sorted, 0.0),
          .maximum = percentile_of_sorted(sorted, 1.0),
          .samples = static_cast<i64>(sorted.size()),
          .raw = {samples.begin(), samples.end()}};
}

}  // namespace misa
