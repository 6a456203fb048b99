#pragma once

#include <algorithm>
#include <bit>
#include <span>
#include <vector>

#include "core/indexer/backend.hpp"

// Over the keys that a row sees, relu(q_j . k) is a line a_j (q_j . k), a constant, and a residual. Lines add up to one
// dot product for any number of heads; a constant does not change a ranking. So a row keeps the heads whose residuals
// matter, and one linear head, q_lin = sum of w_j a_j q_j, stands for all others. Lines and residuals are those of
// sampled keys. Source: ours; the slope of Gaussian keys is Bussgang's, P(q_j . k > 0). docs/misa-lr.md derives it.

namespace misa {

/// Of row m, x[h, i] = q[m, h] . k of the keys [begin, end) of its window, which are sampled ones of scale 1, in
/// double. [H, n]. Host memory.
std::vector<double> sampled_products(const RankTask& task, i64 m);

/// What is known of a head from n products x, y = relu(x).
///
///   slope     = cov(y, x) / var(x), in [0, 1]; where all x are equal: 1 if they are positive, else 0
///   residual  = the standard deviation of y - slope * x
struct Line {
  double slope = 0, residual = 0;
};

/// Heads dropped one by one, and what that says of the others.
struct Elimination {
  std::vector<i32> kept;        ///< ascending
  std::vector<double> margins;  ///< [H] cost less that of the head dropped, the least of all turns; of those dropped 0
  double deviation = 0;         ///< of the sum of what is dropped, the most of all turns
};

/// How many of H heads the router covariance weighs against each other to keep `kept` of them. More gain
/// 0.003 of recall at most, and cost a turn and a row of covariances each (docs/decisions/0014-linear-head.md).
constexpr i64 shortlist_size(i64 heads, i64 kept) { return std::min(heads, 2 * kept + 4); }

/// The sampled products of a row's heads. Those that are not finite count as 0.
struct SampledRow {
  /// `products` [H, n0], `weights` [H]. Beside a linear head n = ceil(n0 / 2) samples count, those of the highest
  ///
  ///   T[i] = sum over h of w_h relu(x[h, i]),  terms whose w_h is not finite left out; ties: lower sample first
  ///
  /// for it is there that the ranking is decided; else all do.
  SampledRow(std::vector<double> products, std::span<const float> weights, bool linear);

  i64 heads, count;             ///< count: n
  std::vector<double> weights;  ///< [H]
  std::vector<double> all;      ///< [H, n0]
  std::vector<double> totals;   ///< [n0] T
  std::vector<i32> counted;     ///< [n] of n0, ascending
  std::vector<double> x;        ///< [H, n]
  std::vector<Line> lines;      ///< [H] all 0 without a linear head
  bool linear;

  /// y_h = w_h (relu(x_h) - slope_h x_h), less its mean; 0 where w_h is not finite. [H, n]
  std::vector<double> contributions() const;

  /// Router linear-residual ranks heads by |w_h| * residual_h. [H]
  std::vector<double> residual_energies() const;

  /// residual_energies(), but -infinity where w_h is not finite. [H]
  std::vector<double> shortlist_energies() const;

  /// The shortlist_size(H, kept) heads of largest shortlist_energies(), ascending; ties: the lower head. `only` are
  /// among them.
  std::vector<i32> shortlist(i64 kept, std::span<const i32> only = {}) const;

  /// Router covariance drops all heads but the shortlist, then those of it in turns until `kept` are left: each time
  /// the one that leaves the sum of what is dropped the least variance, that of least
  ///
  ///   cost_h = var(y_h) + 2 sum over dropped i of cov(y_h, y_i);  ties: the higher head; first of all w_h not finite
  ///
  /// With `only`, ascending, it keeps those.
  Elimination eliminate(i64 kept, std::span<const i32> only = {}) const;

  /// The slope of each head's line. [H]
  std::vector<double> slopes() const;
};

/// q_lin[d] = sum over heads that are not among `kept` (ascending) of w_h slope_h q[m, h, d]. Terms whose factor
/// w_h slope_h is 0 or not finite are left out. [D]
std::vector<double> linear_query(const Queries& queries, i64 m, std::span<const double> slopes,
                                 std::span<const i32> kept);

/// Most memory that a row of `samples` sampled products takes while it is routed or judged: the products, those that
/// count, their contributions, and a few rows of samples.
constexpr i64 sampled_row_bytes(i64 heads, i64 samples) { return samples == 0 ? 0 : 8 * samples * (3 * heads + 8); }

/// The scale of a linear query in e4m3: the least power of two that brings the largest magnitude to 448 or less, so
/// that two backends agree on it.
constexpr float linear_scale(float largest) {
  const u32 bits = std::bit_cast<u32>(largest / 448.0f);
  const float up = std::bit_cast<float>((bits + 0x7FFFFFu) & 0x7F800000u);
  return up < 0x1p-126f ? 0x1p-126f : up > 0x1p127f ? 0x1p127f : up;
}

/// A linear query as it is scored: D numbers that `dtype` holds, then its weight. Rounded to f32, in e4m3 divided by
/// the linear_scale of the largest magnitude, rounded to `dtype`; the weight is that scale, else 1. [D + 1]
std::vector<float> round_linear_query(std::span<const double> query, Dtype dtype);

/// Ranks the heads of row m by its sampled `products` and writes what the task asks for (host memory).
void rank_by_samples(const RankTask& task, i64 m, std::vector<double> products);

/// Gathers row m of a batch, its linear head too (host memory).
void gather_row(const GatherTask& task, i64 m);

}  // namespace misa
