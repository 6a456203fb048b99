#include "core/measure/crossover.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace misa {
namespace {

/// 1: faster, -1: slower, 0: undecided.
int sign_of(const LengthRatio& one) {
  if (!one.ratio.decided()) return 0;
  return *one.ratio.low > 1 ? 1 : -1;
}

double of_each(std::size_t lengths, double confidence) {
  return 1 - (1 - confidence) / static_cast<double>(std::max<std::size_t>(1, lengths));
}

/// Returns the length at which the line through the medians first crosses 1, interpolated in logarithms.
double crossing(std::span<const LengthRatio> ratios) {
  for (std::size_t i = 0; i + 1 < ratios.size(); ++i) {
    const double a = std::log(ratios[i].ratio.median), b = std::log(ratios[i + 1].ratio.median);
    if (a == 0) return static_cast<double>(ratios[i].context);
    if (a * b > 0) continue;
    const double from = std::log(static_cast<double>(ratios[i].context));
    const double to = std::log(static_cast<double>(ratios[i + 1].context));
    return std::exp(from + (to - from) * a / (a - b));
  }
  return static_cast<double>(ratios.back().context);
}

/// Says why no verdict follows from signs of which some are 0.
void explain_undecided(Crossover& found) {
  std::vector<std::string> few, noisy;
  for (const LengthRatio& one : found.ratios) {
    if (sign_of(one) == 0) (one.ratio.low ? noisy : few).push_back(std::to_string(one.context));
  }
  const auto add = [&](const char* cause, const std::string& reason) {
    found.cause += (found.cause.empty() ? "" : ", ") + std::string(cause);
    found.reason += (found.reason.empty() ? "" : "; ") + reason;
  };
  if (!noisy.empty()) add("noise", fmt::format("noise: 1 lies in the interval at {} tokens", fmt::join(noisy, ", ")));
  if (!few.empty()) {
    add("too few rounds",
        fmt::format("too few rounds for an interval at {} tokens ({} are needed)", fmt::join(few, ", "),
                    rounds_needed(static_cast<i64>(found.ratios.size()), found.confidence)));
  }
}

}  // namespace

Crossover decide_crossover(std::vector<LengthRatio> ratios, double confidence) {
  std::sort(ratios.begin(), ratios.end(),
            [](const LengthRatio& a, const LengthRatio& b) { return a.context < b.context; });
  Crossover found{.confidence = confidence, .ratios = std::move(ratios)};
  const std::vector<LengthRatio>& all = found.ratios;
  std::vector<std::size_t> decided;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (sign_of(all[i]) != 0) decided.push_back(i);
  }
  if (decided.empty()) {
    if (all.empty()) found.cause = found.reason = "nothing was measured";
    explain_undecided(found);
    return found;
  }
  const int first = sign_of(all[decided.front()]), last = sign_of(all[decided.back()]);
  std::size_t changes = 0, before = 0, after = 0;
  for (std::size_t i = 1; i < decided.size(); ++i) {
    if (sign_of(all[decided[i - 1]]) == sign_of(all[decided[i]])) continue;
    ++changes;
    before = decided[i - 1];
    after = decided[i];
  }
  const auto between = [&](std::size_t from, std::size_t to) {  // undecided lengths in [from, to)
    return std::any_of(all.begin() + static_cast<std::ptrdiff_t>(from), all.begin() + static_cast<std::ptrdiff_t>(to),
                       [](const LengthRatio& one) { return sign_of(one) == 0; });
  };
  if (changes > 1) {
    found.cause = "not monotone";
    found.reason = "not monotone: faster and slower lengths alternate";
    return found;
  }
  if (changes == 0 && !between(0, all.size())) {
    found.verdict = first > 0 ? CrossoverVerdict::faster : CrossoverVerdict::slower;
    return found;
  }
  // Undecided lengths outside of the crossover's bracket leave open whether there is another one.
  if (changes == 0 || between(0, before) || between(after, all.size())) {
    explain_undecided(found);
    return found;
  }
  found.verdict = CrossoverVerdict::crossover;
  found.rising = last > 0;
  found.low = all[before].context;
  found.high = all[after].context;
  found.context = crossing(std::span(all).subspan(before, after - before + 1));
  return found;
}

Crossover find_crossover(std::span<const LengthTimes> times, double confidence) {
  std::vector<LengthRatio> ratios;
  for (const LengthTimes& one : times) {
    ratios.push_back({one.context, paired_ratio(one.over, one.of, of_each(times.size(), confidence))});
  }
  return decide_crossover(std::move(ratios), confidence);
}

i64 rounds_needed(i64 lengths, double confidence) {
  // The widest interval, from the smallest to the largest ratio, misses the median with probability 2^(1 - n).
  const double missed = 1 - of_each(static_cast<std::size_t>(std::max<i64>(1, lengths)), confidence);
  i64 rounds = 1;
  while (std::ldexp(1.0, static_cast<int>(1 - rounds)) > missed) ++rounds;
  return rounds;
}

}  // namespace misa
