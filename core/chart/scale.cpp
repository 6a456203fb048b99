#include "core/chart/scale.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

namespace misa::chart {
namespace {

constexpr double kRounding = 1e-9;  // of a step: a tick at the very end of a scale belongs to it

std::vector<double> linear_ticks(double low, double high, int most) {
  double step = std::pow(10, std::floor(std::log10((high - low) / most)));
  constexpr std::array kFactors{1.0, 2.0, 5.0, 10.0, 20.0};
  for (const double factor : kFactors) {
    const double first = std::ceil(low / (factor * step) - kRounding);
    const double last = std::floor(high / (factor * step) + kRounding);
    if (last - first + 1 > most) continue;
    std::vector<double> values;
    for (double i = first; i <= last; ++i) values.push_back(i * factor * step + 0.0);
    return values;
  }
  return {low, high};
}

/// The multiples of powers of ten within the scale, every `stride`-th decade.
std::vector<double> decade_ticks(double low, double high, std::span<const double> multiples, int stride) {
  std::vector<double> values;
  const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
  for (int decade = first; decade <= last; ++decade) {
    if (decade % stride != 0) continue;
    for (const double multiple : multiples) {
      const double value = multiple * std::pow(10, decade);
      if (value >= low * (1 - kRounding) && value <= high * (1 + kRounding)) values.push_back(value);
    }
  }
  return values;
}

}  // namespace

double Scale::at(double value) const {
  const double share =
      log ? (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)) : (value - low) / (high - low);
  return from + share * (to - from);
}

Scale scale_over(const std::vector<double>& values, double from, double to, bool log) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double value : values) {
    if (!std::isfinite(value) || (log && value <= 0)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) low = high = 1;
  if (log) {
    const double margin = low == high ? 2 : std::pow(high / low, 0.05);
    return {low / margin, high * margin, from, to, true};
  }
  const double margin = low == high ? std::max(std::abs(low) / 2, 1e-3) : 0.05 * (high - low);
  return {low - margin, high + margin, from, to, false};
}

std::vector<double> ticks(const Scale& scale, int most) {
  if (!scale.log) return linear_ticks(scale.low, scale.high, most);
  constexpr std::array kFine{1.0, 2.0, 5.0};
  constexpr std::array kCoarse{1.0};
  std::vector<double> values = decade_ticks(scale.low, scale.high, kFine, 1);
  if (values.size() < 3) return linear_ticks(scale.low, scale.high, most);
  for (int stride = 1; static_cast<int>(values.size()) > most; ++stride) {
    values = decade_ticks(scale.low, scale.high, kCoarse, stride);
  }
  return values;
}

std::string tick_text(double value) { return fmt::format("{:.6g}", value); }

std::string token_text(double tokens) {
  constexpr double k = 1024;
  if (tokens >= k * k && std::fmod(tokens, k * k) == 0) return fmt::format("{:.0f}m", tokens / (k * k));
  if (tokens >= k && std::fmod(tokens, k) == 0) return fmt::format("{:.0f}k", tokens / k);
  if (tokens >= 10 * k) return fmt::format("{:.1f}k", tokens / k);
  return fmt::format("{:.0f}", tokens);
}

}  // namespace misa::chart
