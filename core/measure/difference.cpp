#include "core/measure/difference.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "core/measure/statistics.hpp"

namespace misa {
namespace {

/// Blocks that correlate more with their neighbours are too short. Chance alone exceeds it in a quarter of all cases,
/// which costs width; a larger one lets dependence pass for evidence.
constexpr double kMostCorrelation = 0.1;
/// With few blocks chance correlates them more: of the last size, this is too much.
constexpr double kLastCorrelation = 0.45;
constexpr std::size_t kFewBlocks = 10;  // that are not put together any more: an interval of several ratios needs them
constexpr double kLeastError = 1e-9;    // of a log ratio: runs that agree to the nanosecond
constexpr double kKnown = 1e9;          // degrees of freedom of a variance that is no estimate
constexpr std::size_t kMostBatches = 10;  // of a run's samples

/// P(Binomial(n, 1/2) <= k)
double binomial_tail(i64 n, i64 k) {
  const auto log_factorial = [](i64 i) { return std::lgamma(static_cast<double>(i) + 1); };
  double tail = 0;
  for (i64 i = 0; i <= std::min(k, n); ++i) {
    tail +=
        std::exp(log_factorial(n) - log_factorial(i) - log_factorial(n - i) - static_cast<double>(n) * std::log(2.0));
  }
  return std::min(1.0, tail);
}

/// The regularised incomplete beta function I_x(a, b), by the continued fraction of Lentz. Source: Abramowitz and
/// Stegun 26.5.8.
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x)) / a;
  constexpr double kTiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < kTiny ? kTiny : d);
  double fraction = d;
  for (int m = 1; m <= 300; ++m) {
    const auto step = [&](double numerator) {
      d = 1 + numerator * d;
      d = 1 / (std::abs(d) < kTiny ? kTiny : d);
      c = 1 + numerator / c;
      if (std::abs(c) < kTiny) c = kTiny;
      fraction *= c * d;
    };
    step(m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)));
    step(-(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)));
    if (std::abs(c * d - 1) < 1e-14) break;
  }
  return front * fraction;
}

/// P(|T| > t) of Student's distribution.
double student_p(double t, double degrees) { return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)); }

/// The t with P(|T| > t) = p.
double student_quantile(double p, double degrees) {
  double low = 0, high = 1;
  while (student_p(high, degrees) > p && high < 1e12) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (student_p(middle, degrees) > p ? low : high) = middle;
  }
  return high;
}

/// Correlates values with the ones after them; a series without dependence gives about 0. Ranks take the place of
/// values, so that an outlier counts as one; equal values share a rank.
double neighbour_correlation(const std::vector<double>& values) {
  std::vector<double> sorted = values, ranks;
  std::sort(sorted.begin(), sorted.end());
  for (const double value : values) {
    const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), value);
    ranks.push_back(static_cast<double>((first - sorted.begin()) + (last - sorted.begin()) - 1) / 2 -
                    static_cast<double>(values.size() - 1) / 2);
  }
  double products = 0, squares = 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    squares += ranks[i] * ranks[i];
    if (i + 1 < ranks.size()) products += ranks[i] * ranks[i + 1];
  }
  return squares > 0 ? products / squares : 0;
}

/// Medians of `count` blocks of consecutive values, as even as they can be.
std::vector<double> medians_of_blocks(const std::vector<double>& values, std::size_t count) {
  std::vector<double> medians;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t begin = i * values.size() / count, end = (i + 1) * values.size() / count;
    medians.push_back(median(std::span(values).subspan(begin, end - begin)));
  }
  return medians;
}

double variance(const std::vector<double>& values) {
  const double middle = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - middle) * (value - middle);
  return sum / static_cast<double>(values.size() - 1);
}

/// The runs of one side: the mean of their median log times, its variance, and how well that variance is known.
struct Side {
  double centre = 0, variance = 0, degrees = 0;
  bool known = true;
};

Side side_of(std::span<const RunSamples> runs, double noise) {
  std::vector<double> medians;
  double within = 0, within_degrees = 0;
  Side side;
  for (const RunSamples& samples : runs) {
    std::vector<double> logs;
    for (const double seconds : samples) {
      if (seconds > 0 && std::isfinite(seconds)) logs.push_back(std::log(seconds));
    }
    if (logs.empty()) continue;
    medians.push_back(median(logs));
    const auto root = static_cast<std::size_t>(std::sqrt(static_cast<double>(logs.size())));
    const std::size_t batches = std::clamp<std::size_t>(root, std::min<std::size_t>(logs.size(), 5), kMostBatches);
    if (static_cast<i64>(logs.size()) < kLeastRounds) {
      side.known = false;
    } else {
      within += variance(medians_of_blocks(logs, batches)) / static_cast<double>(batches);
      within_degrees += static_cast<double>(batches - 1);
    }
  }
  const auto count = static_cast<double>(medians.size());
  if (medians.empty()) return {.centre = kNan, .known = false};
  within /= count;
  side.centre = mean(medians);
  if (medians.size() == 1) {
    side.variance = within + noise * noise;
    // The noise is taken for known; only the spread within the run is an estimate.
    side.degrees = within > 0 ? within_degrees * side.variance * side.variance / (within * within) : kKnown;
  } else {
    const double between = variance(medians);
    side.variance = std::max(between, within) / count;
    side.degrees = between >= within ? count - 1 : within_degrees;
  }
  return side;
}

}  // namespace

TimeRatio TimeRatio::paired(std::span<const double> a, std::span<const double> b) {
  std::vector<double> pairs;
  const std::size_t rounds = std::min(a.size(), b.size());
  for (std::size_t i = 0; i + 1 < rounds; i += 2) {
    const double both = (std::log(b[i] / a[i]) + std::log(b[i + 1] / a[i + 1])) / 2;
    if (std::isfinite(both)) pairs.push_back(both);
  }
  TimeRatio found(std::exp(median(pairs)));
  if (static_cast<i64>(pairs.size()) < kLeastBlocks) return found;
  std::vector<double> blocks = pairs;
  while (neighbour_correlation(blocks) > kMostCorrelation && blocks.size() >= 2 * kFewBlocks) {
    blocks = medians_of_blocks(pairs, blocks.size() / 2);
  }
  found.ratio_ = std::exp(median(blocks));
  found.moves_ = blocks.size() < 2 * kFewBlocks && neighbour_correlation(blocks) > kLastCorrelation;
  if (found.moves_) return found;
  std::sort(blocks.begin(), blocks.end());
  found.blocks_ = std::move(blocks);
  return found;
}

TimeRatio TimeRatio::separate(std::span<const RunSamples> a, std::span<const RunSamples> b, double noise) {
  const Side side_a = side_of(a, noise), side_b = side_of(b, noise);
  TimeRatio found(std::exp(side_b.centre - side_a.centre));
  if (!side_a.known || !side_b.known) return found;
  const double sum = side_a.variance + side_b.variance;
  found.error_ = std::max(std::sqrt(sum), kLeastError);
  found.degrees_of_freedom_ = sum > 0 ? sum * sum /
                                            (side_a.variance * side_a.variance / side_a.degrees +
                                             side_b.variance * side_b.variance / side_b.degrees)
                                      : kKnown;
  return found;
}

std::optional<RatioInterval> TimeRatio::interval(double confidence) const {
  if (degrees_of_freedom_ > 0) {
    const double half = error_ * student_quantile(1 - confidence, degrees_of_freedom_);
    return RatioInterval{ratio_ * std::exp(-half), ratio_ * std::exp(half)};
  }
  const auto count = static_cast<i64>(blocks_.size());
  i64 outside = 0;
  while (outside < count && 2 * binomial_tail(count, outside) <= 1 - confidence) ++outside;
  if (outside == 0) return std::nullopt;
  return RatioInterval{std::exp(blocks_[static_cast<std::size_t>(outside - 1)]),
                       std::exp(blocks_[static_cast<std::size_t>(count - outside)])};
}

double TimeRatio::p_value() const {
  if (degrees_of_freedom_ > 0) return student_p(std::abs(std::log(ratio_)) / error_, degrees_of_freedom_);
  if (blocks_.empty()) return 1;
  const i64 not_above = std::count_if(blocks_.begin(), blocks_.end(), [](double log) { return log <= 0; });
  const i64 not_below = std::count_if(blocks_.begin(), blocks_.end(), [](double log) { return log >= 0; });
  return std::min(1.0, 2 * binomial_tail(static_cast<i64>(blocks_.size()), std::min(not_above, not_below)));
}

std::vector<JudgedRatio> judge_ratios(std::span<const TimeRatio> ratios, double same_within) {
  std::vector<JudgedRatio> judged;
  std::vector<std::size_t> order;
  for (const TimeRatio& ratio : ratios) {
    if (ratio.interval(kChangeConfidence)) order.push_back(judged.size());
    judged.push_back({.ratio = ratio.ratio(),
                      .interval = {},
                      .confidence = kChangeConfidence,
                      .p_value = ratio.p_value(),
                      .change = ratio.moves() ? Change::inconclusive : Change::too_few,
                      .moves = ratio.moves()});
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t i, std::size_t j) { return judged[i].p_value < judged[j].p_value; });
  double level = 0;
  bool failed = false;
  for (std::size_t k = 0; k < order.size(); ++k) {
    JudgedRatio& one = judged[order[k]];
    if (!failed) level = (1 - kChangeConfidence) / static_cast<double>(order.size() - k);
    failed = failed || one.p_value > level;
    one.confidence = 1 - level;
    one.interval = ratios[order[k]].interval(one.confidence);
    if (!one.interval) continue;  // too few for as many ratios at once
    const auto& [low, high] = *one.interval;
    const double most = 1 + same_within;
    one.change = low >= 1 / most && high <= most ? Change::same
                 : high < 1                      ? Change::faster
                 : low > 1                       ? Change::slower
                                                 : Change::inconclusive;
  }
  return judged;
}

Gate gate_of(const JudgedRatio& judged, double max_slowdown) {
  if (!judged.interval) return Gate::inconclusive;
  if (judged.interval->low > 1 && judged.ratio > 1 + max_slowdown) return Gate::failed;
  return judged.interval->high <= 1 + max_slowdown ? Gate::passed : Gate::inconclusive;
}

double resolution(const JudgedRatio& judged) {
  if (!judged.interval) return std::numeric_limits<double>::infinity();
  return std::max(judged.interval->high / judged.ratio, judged.ratio / judged.interval->low) - 1;
}

}  // namespace misa
