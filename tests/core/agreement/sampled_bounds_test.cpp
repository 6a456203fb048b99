// The bounds of what routers over sampled keys rank by have the values that docs/misa-lr.md derives.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/agreement/bounds.hpp"

using namespace misa;

namespace {

constexpr i64 kHeads = 6, kDim = 4, kKeys = 20, kKept = 2;

/// One row that sees kKeys f32 keys, and the exact products of its heads with them.
struct Drawn {
  std::vector<float> queries, weights, keys;
  std::vector<i32> zeros{0}, end{kKeys};
  Problem problem;
  std::vector<double> products;  // [H, n0]

  explicit Drawn(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (i64 i = 0; i < kHeads * kDim; ++i) queries.push_back(normal(random));
    for (i64 i = 0; i < kHeads; ++i) weights.push_back(normal(random));
    for (i64 i = 0; i < kKeys * kDim; ++i) keys.push_back(normal(random));
    problem.queries = {View<const float, 3>(queries.data(), {1, kHeads, kDim}),
                       View<const float, 2>(weights.data(), {1, kHeads})};
    problem.keys = {View<const float, 3>(keys.data(), {1, kKeys, kDim}), {}, {}};
    problem.windows = {View<const i32, 1>(zeros.data(), {1}), View<const i32, 1>(zeros.data(), {1}),
                       View<const i32, 1>(end.data(), {1})};
    problem.sequence = problem.begin = zeros;
    problem.end = end;
    problem.shape = {.rows = 1, .heads = kHeads, .head_dim = kDim, .keys = kKeys, .max_window = kKeys};
    for (i64 h = 0; h < kHeads; ++h) {
      for (i64 i = 0; i < kKeys; ++i) {
        double dot = 0;
        for (i64 d = 0; d < kDim; ++d) dot += static_cast<double>(query(h, d)) * key(i, d);
        products.push_back(dot);
      }
    }
  }
  Drawn(const Drawn&) = delete;
  Drawn& operator=(const Drawn&) = delete;

  float query(i64 h, i64 d) const { return queries[static_cast<std::size_t>(h * kDim + d)]; }
  float key(i64 i, i64 d) const { return keys[static_cast<std::size_t>(i * kDim + d)]; }
  double weight(i64 h) const { return std::abs(static_cast<double>(weights[static_cast<std::size_t>(h)])); }
  double product(i64 h, i64 i) const { return products[static_cast<std::size_t>(h * kKeys + i)]; }
  double query_norm(i64 h) const {
    double squares = 0;
    for (i64 d = 0; d < kDim; ++d) squares += static_cast<double>(query(h, d)) * query(h, d);
    return std::sqrt(squares);
  }
  double key_norm(i64 i) const {
    double squares = 0;
    for (i64 d = 0; d < kDim; ++d) squares += static_cast<double>(key(i, d)) * key(i, d);
    return std::sqrt(squares);
  }
};

double gamma_of(double n, double u) { return n * u / (1 - n * u); }

/// c of a sum over `terms` products with the stored mean of `size` keys.
double coefficient_of_means(const Arithmetic& a, double terms, double cut, double size) {
  double dot = gamma_of(kDim, a.dot);
  if (a.group > 0) dot += static_cast<double>(a.group + 1) * cut;  // kDim fits in one group
  const double c =
      std::pow(1 + a.operand, 3) * (1 + a.weight) * (1 + dot) * (1 + gamma_of(terms + 3, a.head_sum)) * (1 + a.result);
  return c * (1 + gamma_of(size + 2, a.pool)) * (1 + 0x1p-24) * (1 + a.mean) - 1;
}

/// Of sampled keys, which are means of one.
double stored_coefficient(const Arithmetic& a, double terms) {
  return coefficient_of_means(a, terms, a.sampled_cut, 1);
}

/// docs/misa-lr.md, "Agreement", for head h.
struct Derived {
  double slope = 0, residual = 0, contribution = 0;
};

struct Derivation {
  const Drawn& drawn;
  const Arithmetic& a;
  const SampledRow& row;
  std::vector<bool> unsure;
  double product = 0, sums = 0, key = 0, largest_key = 0;

  Derivation(const Drawn& from, const Arithmetic& arithmetic, const SampledRow& sampled)
      : drawn(from), a(arithmetic), row(sampled) {
    product = stored_coefficient(a, 1);
    sums = gamma_of(kKeys + 8, a.head_sum);
    double weighted = 0, squares = 0;
    for (i64 h = 0; h < kHeads; ++h) weighted += drawn.weight(h) * drawn.query_norm(h);
    std::vector<double> of_total;
    for (i64 i = 0; i < kKeys; ++i) {
      of_total.push_back(stored_coefficient(a, kHeads) * weighted * drawn.key_norm(i));
      squares += drawn.key_norm(i) * drawn.key_norm(i);
      largest_key = std::max(largest_key, drawn.key_norm(i));
    }
    key = std::sqrt(squares / static_cast<double>(row.count));
    unsure = left_open(row.totals, of_total, row.counted);
  }
  bool counts(i64 i) const { return std::binary_search(row.counted.begin(), row.counted.end(), static_cast<i32>(i)); }

  Derived of(i64 h) const {
    const double n = static_cast<double>(row.count), slope = row.lines[static_cast<std::size_t>(h)].slope;
    const double residual = row.lines[static_cast<std::size_t>(h)].residual;
    double mean_x = 0, mean_y = 0;
    for (const i32 i : row.counted) mean_x += drawn.product(h, i) / n, mean_y += std::max(0.0, drawn.product(h, i)) / n;
    double xx = 0, xx_sure = 0, xx_out = 0, xr = 0, x1 = 0, r1 = 0, rr_in = 0, rr_out = 0;
    for (i64 i = 0; i < kKeys; ++i) {
      const double x = drawn.product(h, i) - mean_x, r = std::max(0.0, drawn.product(h, i)) - mean_y - slope * x;
      const bool open = unsure[static_cast<std::size_t>(i)];
      if (counts(i)) xx += x * x;
      if (counts(i) && !open) xx_sure += x * x;
      if (!counts(i) && open) xx_out += x * x, rr_out += r * r;
      if (counts(i) && open) rr_in += r * r;
      if (open) xr += std::abs(x * r), x1 += std::abs(x), r1 += std::abs(r);
    }
    const double moved = xr + x1 * r1 / n, least = xx_sure - x1 * x1 / n, size = drawn.query_norm(h) * key;
    Derived found{.slope = 1};
    double gained = moved == 0 ? 0 : residual * residual * n;
    if (least > 0) {
      const double rounding = 3 * size * (product + 2 * sums) / std::sqrt(least / n);
      found.slope = std::min(1.0, moved / least + 2 * sums + rounding);
      gained = moved * moved / least;
    }
    const double rounding = size * (2 * product + 8 * sums);
    const double low = residual * residual - (rr_in + r1 * r1 / n + gained) / n;
    found.residual = rounding + std::max(std::sqrt(residual * residual + rr_out / n) - residual,
                                         residual - std::sqrt(std::max(0.0, low)));
    found.contribution = rounding + r1 / n + (row.linear ? found.slope * std::sqrt((xx + xx_out) / n) : 0.0);
    return found;
  }
};

/// Nothing is subnormal here, but for the root of what f32 may flush.
bool close(double found, double expected) { return std::abs(found - expected) <= 1e-9 * expected + 1e-17; }

}  // namespace

TEST_CASE("bounds of residuals and of linear queries are those that are derived, with samples that may not count") {
  i64 open = 0, sure = 0;
  for (unsigned seed = 1; seed <= 40; ++seed) {
    const Drawn drawn(seed);
    const Bounds bounds(drawn.problem);
    const BlockLayout samples = layout_samples(drawn.problem, kKeys);
    for (const bool linear : {true, false}) {
      const SampledRow row(drawn.products, drawn.weights, linear);
      for (const Arithmetic& a : arithmetics()) {
        CAPTURE(seed);
        CAPTURE(a.name);
        CAPTURE(linear);
        const Derivation derived(drawn, a, row);
        (std::count(derived.unsure.begin(), derived.unsure.end(), true) > 0 ? open : sure) += 1;
        const std::vector<i32> kept{1, 4};
        const std::vector<double> residuals = bounds.residuals(a, 0, samples, row);
        std::vector<double> query(kDim, 0.0);
        const double adding = gamma_of(kHeads + 6, a.head_sum) + std::pow(1 + a.operand, 3) * (1 + a.weight) - 1;
        for (i64 h = 0; h < kHeads; ++h) {
          const Derived line = derived.of(h);
          CHECK(close(residuals[static_cast<std::size_t>(h)], drawn.weight(h) * line.residual));
          if (h == 1 || h == 4) continue;
          for (i64 d = 0; d < kDim; ++d) {
            query[static_cast<std::size_t>(d)] += drawn.weight(h) * std::abs(drawn.query(h, d)) * (line.slope + adding);
          }
        }
        const std::vector<double> found = bounds.linear_query(a, 0, samples, row, kept);
        for (std::size_t d = 0; d < query.size(); ++d) CHECK(close(found[d], query[d]));
      }
    }
  }
  CHECK(open > 20);
  CHECK(sure > 20);
}

TEST_CASE("bounds of what covariance drops heads by are those that are derived") {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    const Drawn drawn(seed);
    const Bounds bounds(drawn.problem);
    const BlockLayout samples = layout_samples(drawn.problem, kKeys);
    for (const bool linear : {true, false}) {
      const SampledRow row(drawn.products, drawn.weights, linear);
      const std::vector<i32> kept = row.eliminate(kKept).kept;
      const double deviation = row.eliminate(kKept, kept).deviation;
      const std::vector<double> y = row.contributions();
      const auto covariance = [&](i64 g, i64 h) {
        double sum = 0;
        for (i64 i = 0; i < row.count; ++i) {
          sum += y[static_cast<std::size_t>(g * row.count + i)] * y[static_cast<std::size_t>(h * row.count + i)];
        }
        return sum / static_cast<double>(row.count);
      };
      for (const Arithmetic& a : arithmetics()) {
        CAPTURE(seed);
        CAPTURE(a.name);
        CAPTURE(linear);
        const Derivation derived(drawn, a, row);
        std::vector<double> error, own, size;
        double dropped_error = 0, dropped_size = 0;
        for (i64 h = 0; h < kHeads; ++h) {
          error.push_back(drawn.weight(h) * derived.of(h).contribution);
          own.push_back(std::sqrt(covariance(h, h)));
          size.push_back(2 * drawn.weight(h) * drawn.query_norm(h) * derived.largest_key);
          if (std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h))) continue;
          dropped_error += error.back() + gamma_of(kHeads + 2, a.head_sum) * own.back();
          dropped_size += size.back();
        }
        const double open = static_cast<double>(std::count(derived.unsure.begin(), derived.unsure.end(), true));
        for (const i64 doubtful : {i64{-1}, i64{0}, i64{3}}) {  // a head of which it is not sure whether it does
          std::vector<bool> unsure(kHeads, false);
          if (doubtful >= 0) unsure[static_cast<std::size_t>(doubtful)] = true;
          const std::vector<double> found = bounds.costs(a, 0, samples, row, kept, unsure, deviation);
          for (i64 h = 0; h < kHeads; ++h) {
            const std::size_t at = static_cast<std::size_t>(h);
            const double most = own[at] + error[at];
            double turns = 0;
            if (doubtful >= 0 && doubtful != h) {
              const std::size_t other = static_cast<std::size_t>(doubtful);
              turns = std::abs(covariance(h, doubtful)) + error[at] * own[other] + most * error[other];
            }
            const double members = open * size[at] * (size[at] + 2 * dropped_size) / static_cast<double>(row.count);
            CHECK(close(found[at], 2 * (most * dropped_error + deviation * error[at] + turns) +
                                       error[at] * (own[at] + most) +
                                       derived.sums * most * (2 * (deviation + dropped_error) + most) + members));
          }
        }
      }
    }
  }
}

TEST_CASE("a row's own last block is bounded by the tokens that the row sees of it") {
  const Drawn drawn(1);
  Problem problem = drawn.problem;  // its 6 heads as 3 of each of two rows, which see 7 and 8 tokens
  problem.queries = {View<const float, 3>(drawn.queries.data(), {2, 3, kDim}),
                     View<const float, 2>(drawn.weights.data(), {2, 3})};
  problem.sequence = problem.begin = {0, 0};
  problem.end = {7, 8};
  problem.shape.rows = 2;
  problem.shape.heads = 3;
  const Bounds bounds(problem);
  const BlockLayout blocks = layout_blocks(problem, 4, BlockWindow::visible);
  for (const Arithmetic& a : arithmetics()) {
    CAPTURE(a.name);
    for (const i64 m : {0, 1}) {
      CAPTURE(m);
      double first = 0, last = 0;
      for (i64 i = 0; i < 4; ++i) first += drawn.key_norm(i) / 4;
      for (i64 i = 4; i < 7 + m; ++i) last += drawn.key_norm(i) / static_cast<double>(3 + m);
      const std::vector<double> found = bounds.energies(a, m, Router::pooled, &blocks, 4);
      for (i64 h = 0; h < 3; ++h) {
        const double weighted = drawn.weight(3 * m + h) * drawn.query_norm(3 * m + h);
        CHECK(close(found[static_cast<std::size_t>(h)],
                    coefficient_of_means(a, 2, a.cut, 4) * weighted * (first + last) / 2));
      }
    }
  }
}
