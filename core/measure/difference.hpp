#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/types.hpp"

// How many times as long B takes as A, and when that is called a difference.
namespace misa {

struct RatioInterval {
  double low = 0, high = 0;
};

/// The confidence that a verdict faster or slower takes. It is higher than kConfidence, which an interval has that is
/// only shown: a false alarm stops somebody's work, and 100 comparisons of A with A should give next to none.
constexpr double kChangeConfidence = 0.99;
/// With fewer blocks not even the smallest and the largest make such an interval: 2 / 2^7 > 1 - 0.99.
constexpr i64 kLeastBlocks = 8;

/// The samples of one process, in seconds and in the order they were taken.
using RunSamples = std::vector<double>;

/// B / A as times, and what samples say of it at any confidence.
class TimeRatio {
 public:
  /// Of A and B that were measured in turns within one process: `a[i]` and `b[i]` are of round i, and they took turns
  /// as SamplerOptions::sides says (core/measure/sampler.hpp).
  ///
  ///   d[j] = mean of log(b / a) of the rounds 2j and 2j + 1: whoever ran second in the one ran first in the other
  ///   v    = medians of blocks of consecutive d; blocks are doubled while v correlates with its neighbour
  ///
  /// The ratio is exp(median of v), its interval the order statistics of v of the sign test, as paired_ratio takes
  /// them: it assumes no distribution. Where the largest blocks still correlate, the ratio itself moves while it is
  /// measured, and there is no interval. Takes 2 * kLeastBlocks rounds. Source: ours; batch means as in Law, Simulation
  /// Modeling and Analysis, section 9.5.
  static TimeRatio paired(std::span<const double> a, std::span<const double> b);

  /// Of runs in processes of their own. With m_r the median log time of run r and w_r its standard error from the
  /// medians of consecutive blocks of its samples:
  ///
  ///   log ratio = mean of m_r over B - mean of m_r over A,   variance = s_A^2 / n_A + s_B^2 / n_B
  ///
  /// s^2 of a side of several runs is the variance of their m_r, and no less than the mean w_r^2. One run cannot show
  /// how much runs differ: of a side of one it is w_r^2 + noise^2, with `noise` the standard deviation of log times
  /// from run to run. The interval is Student's, with the degrees of freedom of Welch and Satterthwaite. Runs of fewer
  /// than kLeastRounds samples give no interval.
  static TimeRatio separate(std::span<const RunSamples> a, std::span<const RunSamples> b, double noise);

  double ratio() const { return ratio_; }  ///< NaN: there are no samples
  bool moves() const { return moves_; }    ///< the rounds' ratios drift or jump: no interval
  /// Empty: too few samples for this confidence.
  std::optional<RatioInterval> interval(double confidence) const;
  /// The least error probability, two-sided, at which the interval leaves 1 out; 1 where there is no interval.
  double p_value() const;

 private:
  double ratio_;
  bool moves_ = false;
  std::vector<double> blocks_ = {};            ///< sorted log ratios: an exact interval; else
  double error_ = 0, degrees_of_freedom_ = 0;  ///< standard error of the log ratio; no degrees: no interval

  explicit TimeRatio(double ratio) : ratio_(ratio) {}
};

enum class Change { faster, slower, same, inconclusive, too_few };
constexpr std::string_view change_name(Change change) {
  constexpr std::string_view kNames[] = {"faster", "slower", "same", "inconclusive", "too few samples"};
  return kNames[static_cast<int>(change)];
}

/// What is said of one ratio among several.
struct JudgedRatio {
  double ratio = 0;                       ///< B / A
  std::optional<RatioInterval> interval;  ///< at `confidence`
  double confidence = 0;                  ///< more than kChangeConfidence where there are several ratios
  double p_value = 1;
  Change change = Change::too_few;
  bool moves = false;  ///< why it is inconclusive: TimeRatio::moves
};

/// Judges ratios together, so that the probability of calling any of them faster or slower that is neither is at most
/// 1 - kChangeConfidence (Holm 1979): the k-th smallest of n p-values, from 0, is held against (1 - kChangeConfidence)
/// / (n - k), and those after the first that fails against its level. The interval of a ratio has its level. So a ratio
/// whose interval holds 1 is never faster or slower.
///
///   same          the interval lies within [1 / (1 + same_within), 1 + same_within]
///   faster        it lies below 1;  slower: above 1
///   inconclusive  neither
std::vector<JudgedRatio> judge_ratios(std::span<const TimeRatio> ratios, double same_within);

/// Whether a ratio keeps to a limit.
enum class Gate { passed, failed, inconclusive };
constexpr std::string_view gate_name(Gate gate) {
  constexpr std::string_view kNames[] = {"passed", "failed", "inconclusive"};
  return kNames[static_cast<int>(gate)];
}

/// failed: the interval lies above 1, and the ratio above 1 + max_slowdown. passed: the whole interval lies at or below
/// 1 + max_slowdown. Else inconclusive: more samples, or less noise, would tell.
Gate gate_of(const JudgedRatio& judged, double max_slowdown);

/// The smallest difference that such an interval tells from none, as a share: the farther end of it, had its middle
/// been 1. Infinite without an interval.
double resolution(const JudgedRatio& judged);

}  // namespace misa
