#include "core/agreement/judge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/interrupt.hpp"
#include "core/indexer/linear_head.hpp"

namespace misa {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// NaN ranks below every number.
double rank_of(double score) { return std::isnan(score) ? -kInf : score; }

/// The largest error of rounding a number of magnitude `size` to f32 and then to what a linear query is stored in.
double linear_rounding(double size, Dtype dtype, double scale) {
  const double single = 0x1p-24 * size + 0x1p-149;
  if (dtype == Dtype::bf16) return single + 0x1p-8 * size * (1 + 0x1p-20) + 0x1p-133;
  if (dtype == Dtype::e4m3) return single + std::max(0x1p-4 * size * (1 + 0x1p-20), 0x1p-10 * scale);
  return single;
}

/// judge() of a field with forced ids: each that was passed over is a miss, for the least of what was chosen; the other
/// ids are judged among themselves.
Judgement judge_forced(const Field& field, std::span<const i32> chosen) {
  Field rest;
  std::vector<std::size_t> inside, missing;
  std::vector<i32> ascending = field.forced;
  std::sort(ascending.begin(), ascending.end());
  for (std::size_t i = 0; i < field.ids.size(); ++i) {
    const i32 id = field.ids[i];
    const bool forced = std::binary_search(ascending.begin(), ascending.end(), id);
    const bool taken = std::binary_search(chosen.begin(), chosen.end(), id);
    if (forced && !taken) missing.push_back(i);
    if (forced) continue;
    if (taken) inside.push_back(i);
    rest.ids.push_back(id);
    rest.scores.push_back(field.scores[i]);
    rest.bounds.push_back(field.bounds[i]);
  }
  std::stable_sort(inside.begin(), inside.end(),
                   [&](std::size_t a, std::size_t b) { return rank_of(field.scores[a]) > rank_of(field.scores[b]); });
  std::vector<Miss> misses;
  for (const std::size_t out : missing) {
    if (inside.empty()) break;
    const std::size_t in = inside.back();
    inside.pop_back();
    Miss& miss = misses.emplace_back();
    miss.missed = field.ids[out];
    miss.taken = field.ids[in];
    miss.missed_score = field.scores[out];
    miss.taken_score = field.scores[in];
    miss.rank = std::find(field.forced.begin(), field.forced.end(), field.ids[out]) - field.forced.begin();
    miss.forced = true;
  }
  std::vector<i32> others;
  for (const std::size_t i : inside) others.push_back(field.ids[i]);
  std::sort(others.begin(), others.end());
  Judgement judgement = judge(rest, others);
  for (Miss& miss : judgement.misses) miss.rank += static_cast<i64>(field.forced.size());
  if (!misses.empty()) judgement.verdict = Verdict::miss;
  judgement.misses.insert(judgement.misses.begin(), misses.begin(), misses.end());
  return judgement;
}

}  // namespace

Judgement judge(const Field& field, std::span<const i32> chosen) {
  if (!field.forced.empty()) return judge_forced(field, chosen);
  const std::size_t count = field.ids.size();
  std::vector<std::size_t> inside, outside;
  for (std::size_t i = 0, c = 0; i < count; ++i) {
    if (c < chosen.size() && chosen[c] == field.ids[i]) {
      inside.push_back(i);
      ++c;
    } else {
      outside.push_back(i);
    }
  }
  Judgement judgement;
  if (inside.empty() || outside.empty()) return judgement;

  std::vector<double> rank(count);
  std::transform(field.scores.begin(), field.scores.end(), rank.begin(), rank_of);
  const auto by_rank = [&](std::size_t a, std::size_t b) { return rank[a] < rank[b]; };
  const double least_inside = rank[*std::min_element(inside.begin(), inside.end(), by_rank)];
  const double most_outside = rank[*std::max_element(outside.begin(), outside.end(), by_rank)];
  if (most_outside < least_inside) return judgement;
  if (most_outside == least_inside) {
    i32 last_inside = -1, first_outside = std::numeric_limits<i32>::max();
    for (const std::size_t i : inside) {
      if (rank[i] == least_inside) last_inside = std::max(last_inside, field.ids[i]);
    }
    for (const std::size_t i : outside) {
      if (rank[i] == least_inside) first_outside = std::min(first_outside, field.ids[i]);
    }
    judgement.verdict = last_inside < first_outside ? Verdict::exact : Verdict::tie_swap;
    return judgement;
  }

  // Only ids in the band where the two sets cross can violate the condition.
  const auto unbounded = [&](std::size_t i) { return !std::isfinite(field.bounds[i]); };
  const auto low = [&](std::size_t i) { return unbounded(i) ? -kInf : rank[i] - field.bounds[i]; };
  const auto high = [&](std::size_t i) { return unbounded(i) ? kInf : rank[i] + field.bounds[i]; };
  std::erase_if(outside, [&](std::size_t i) { return rank[i] <= least_inside; });
  std::vector<std::size_t> band = inside;
  std::erase_if(band, [&](std::size_t i) { return rank[i] >= most_outside; });
  std::stable_sort(outside.begin(), outside.end(), [&](std::size_t a, std::size_t b) { return low(a) > low(b); });
  std::stable_sort(band.begin(), band.end(), [&](std::size_t a, std::size_t b) { return high(a) < high(b); });

  std::vector<double> sorted = rank;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const double last = sorted[inside.size() - 1];
  double right = 0, size = 0, taken = 0;
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (!std::isfinite(sorted[i])) continue;
    right += sorted[i];
    size += std::abs(sorted[i]);
  }
  for (const std::size_t i : inside) taken += std::isfinite(rank[i]) ? rank[i] : 0.0;
  judgement.mass_lost = size > 0 ? std::max(0.0, (right - taken) / size) : 0.0;

  const bool open =
      std::any_of(outside.begin(), outside.end(), unbounded) || std::any_of(band.begin(), band.end(), unbounded);
  judgement.verdict = open ? Verdict::unbounded : Verdict::within_bound;
  for (std::size_t i = 0; i < std::min(outside.size(), band.size()); ++i) {
    stop_if_interrupted();
    const std::size_t out = outside[i], in = band[i];
    if (low(out) <= high(in)) break;
    judgement.verdict = Verdict::miss;
    Miss miss;
    miss.missed = field.ids[out];
    miss.taken = field.ids[in];
    miss.missed_score = field.scores[out];
    miss.taken_score = field.scores[in];
    miss.to_last = rank[out] - last;
    miss.mass_lost = size > 0 ? (rank[out] - rank[in]) / size : 0.0;
    miss.bound = field.bounds[out] + field.bounds[in];
    for (std::size_t j = 0; j < count; ++j) {
      if (rank[j] > rank[out] || (rank[j] == rank[out] && field.ids[j] < field.ids[out])) ++miss.rank;
    }
    judgement.misses.push_back(miss);
  }
  return judgement;
}

Judgement judge_linear(const Field& field, std::span<const float> linear, Dtype dtype) {
  Judgement judgement;
  const std::vector<float> exact = round_linear_query(field.scores, dtype);
  if (std::equal(exact.begin(), exact.end(), linear.begin(), linear.end())) return judgement;
  double least = 0, most = 0;
  bool bounded = true;
  for (std::size_t d = 0; d < field.scores.size(); ++d) {
    least = std::max(least, std::abs(field.scores[d]) - field.bounds[d]);
    most = std::max(most, std::abs(field.scores[d]) + field.bounds[d]);
    bounded = bounded && std::isfinite(field.bounds[d]);
  }
  judgement.verdict = bounded ? Verdict::within_bound : Verdict::unbounded;
  const auto miss = [&](i64 id, double right, double found, double bound) {
    judgement.verdict = Verdict::miss;
    judgement.misses.push_back({{}, 0, id, id, right, found, 0, right - found, 0, bound});
  };
  const float scale = linear.back();
  if (dtype != Dtype::e4m3) {
    if (scale != 1) miss(static_cast<i64>(field.scores.size()), exact.back(), scale, 0);
  } else if (bounded) {
    // In f32 the largest may round to either side.
    const float low = linear_scale(static_cast<float>(least * (1 - 0x1p-22)));
    const float high = linear_scale(static_cast<float>(most * (1 + 0x1p-22)));
    if (!(low <= scale && scale <= high && linear_scale(448 * scale) == scale)) {
      miss(static_cast<i64>(field.scores.size()), exact.back(), scale, high - low);
    }
  }
  for (std::size_t d = 0; d < field.scores.size(); ++d) {
    if (!std::isfinite(field.bounds[d])) continue;
    const double largest = std::abs(field.scores[d]) + field.bounds[d];
    const double bound = field.bounds[d] + linear_rounding(largest, dtype, scale);
    const double found = static_cast<double>(linear[d]) * scale;
    if (!(std::abs(found - field.scores[d]) <= bound)) miss(static_cast<i64>(d), field.scores[d], found, bound);
  }
  return judgement;
}

}  // namespace misa
