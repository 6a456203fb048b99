#include "core/compare/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace misa {
namespace {

constexpr double kStoredMean = 0x1p-24;  // block means are stored in f32 by every backend

/// Largest relative error of n operations of unit roundoff u.
double gamma(i64 n, double u) {
  const double nu = static_cast<double>(n) * u;
  return nu < 1 ? nu / (1 - nu) : std::numeric_limits<double>::infinity();
}

/// Of `terms` weighted dot products of `dim` products, added up.
double score_coefficient(const Arithmetic& a, i64 dim, i64 terms) {
  const double operands = std::pow(1 + a.operand, 3);  // query, key, gate
  double dot = gamma(dim, a.dot);
  if (a.group > 0) dot += static_cast<double>(ceil_div(dim, a.group) * (a.group + 1)) * a.cut;
  return operands * (1 + dot) * (1 + gamma(terms + 3, a.head_sum)) * (1 + a.result) - 1;
}

double pooled(const Arithmetic& a, double coefficient, i64 block_size) {
  return (1 + coefficient) * (1 + gamma(block_size + 2, a.pool)) * (1 + kStoredMean) - 1;
}

template <class Vector>
double norm(const Vector& values, i64 dim) {
  double squares = 0;
  for (i64 d = 0; d < dim; ++d) {
    const double value = to_float(values[d]);
    squares += value * value;
  }
  return std::sqrt(squares);
}

}  // namespace

Bounds::Bounds(const Problem& problem) : problem_(problem) {
  std::visit(
      [&](const auto& values) {
        for (i64 m = 0; m < values.shape[0]; ++m) {
          for (i64 h = 0; h < values.shape[1]; ++h) query_norms_.push_back(norm(values[m][h], values.shape[2]));
        }
      },
      problem.queries.values);
  std::visit(
      [&](const auto& values) {
        for (i64 page = 0; page < values.shape[0]; ++page) {
          for (i64 slot = 0; slot < values.shape[1]; ++slot) {
            const double scale =
                problem.keys.scales.empty() ? 1.0 : std::abs(static_cast<double>(problem.keys.scales(page, slot)));
            key_norms_.push_back(scale * norm(values[page][slot], values.shape[2]));
          }
        }
      },
      problem.keys.values);
}

double Bounds::key_norm(i64 sequence, i64 token) const {
  const i64 size = std::visit([](const auto& values) { return values.shape[1]; }, problem_.keys.values);
  const TokenAddress at = address_of(problem_.keys, size, sequence, token);
  return key_norms_[static_cast<std::size_t>(at.page * size + at.slot)];
}

double Bounds::mean_key_norm(i64 m, i64 begin, i64 end) const {
  double sum = 0;
  for (i64 token = begin; token < end; ++token) {
    sum += key_norm(problem_.sequence[static_cast<std::size_t>(m)], token);
  }
  return sum / static_cast<double>(std::max<i64>(1, end - begin));
}

double Bounds::of(const Arithmetic& a, double coefficient, double weight_times_query, double weights,
                  double key) const {
  const double size = weight_times_query * key;
  // A zero that meets an infinity, or a number too large for the arithmetic, may have become anything.
  if (!(size * (1 + coefficient) < a.overflow) || !(weight_times_query < a.overflow)) {
    return std::numeric_limits<double>::infinity();
  }
  const double operations = 2.0 * static_cast<double>(problem_.shape.head_dim + problem_.shape.heads + 2);
  return coefficient * size + a.underflow * operations * std::max({1.0, weights, key});
}

double Bounds::score(const Arithmetic& a, i64 m, std::span<const i32> heads, std::span<const float> linear,
                     double key) const {
  const bool all = heads.empty() && linear.empty();
  i64 terms = all ? problem_.shape.heads : static_cast<i64>(heads.size());
  double weighted = 0, weights = 0;
  for (i64 i = 0; i < terms; ++i) {
    const i64 h = all ? i : heads[static_cast<std::size_t>(i)];
    const double weight = std::abs(static_cast<double>(problem_.queries.weights(m, h)));
    weighted += weight * query_norm(m, h);
    weights += weight;
  }
  if (!linear.empty()) {
    const double weight = 2.0 * std::abs(static_cast<double>(linear.back()));
    weighted += weight * norm(linear, problem_.shape.head_dim);
    weights += weight;
    terms += 2;
  }
  return of(a, score_coefficient(a, problem_.shape.head_dim, terms), weighted, weights, key);
}

double Bounds::block_score(const Arithmetic& a, i64 m, i64 begin, i64 end) const {
  const i64 all = problem_.shape.heads;
  double weighted = 0, weights = 0;
  for (i64 h = 0; h < all; ++h) {
    const double weight = std::abs(static_cast<double>(problem_.queries.weights(m, h)));
    weighted += weight * query_norm(m, h);
    weights += weight;
  }
  const double mean = pooled(a, score_coefficient(a, problem_.shape.head_dim, all), end - begin);
  const double coefficient = (1 + mean) * (1 + a.mean) - 1;
  return of(a, coefficient, weighted, weights, mean_key_norm(m, begin, end));
}

std::vector<double> Bounds::energies(const Arithmetic& a, i64 m, Router router, const BlockLayout* blocks,
                                     i64 block_size) const {
  const std::size_t row = static_cast<std::size_t>(m);
  const i64 all = problem_.shape.heads, dim = problem_.shape.head_dim;
  const i64 begin = problem_.begin[row], end = problem_.end[row];
  std::vector<double> found(static_cast<std::size_t>(all), 0.0);
  if (end <= begin) return found;

  double coefficient = 0, key = 0;
  switch (router) {
    case Router::gate:
    case Router::qnorm:
    case Router::random:                    // compared as they are stored
    case Router::linear_residual:           // residuals()
    case Router::covariance: return found;  // costs()
    case Router::selfk:
      coefficient = score_coefficient(a, dim, 1);
      key = key_norm(problem_.sequence[row], end - 1);
      break;
    case Router::oracle:
      coefficient = score_coefficient(a, dim, end - begin);
      key = mean_key_norm(m, begin, end);
      break;
    case Router::pooled: {
      const i64 first = blocks->first[row], last = blocks->last[row];
      for (i64 b = first; b < last; ++b) {
        const bool own_tail = b + 1 == last && !blocks->tail_begin.empty();
        const std::size_t at = static_cast<std::size_t>(b);
        key += own_tail ? mean_key_norm(m, blocks->tail_begin[row], end)
                        : mean_key_norm(m, blocks->begin[at], blocks->end[at]);
      }
      key /= static_cast<double>(std::max<i64>(1, last - first));
      coefficient = (1 + pooled(a, score_coefficient(a, dim, last - first), block_size)) * (1 + a.mean) - 1;
      break;
    }
  }
  for (i64 h = 0; h < all; ++h) {
    const double weight = std::abs(static_cast<double>(problem_.queries.weights(m, h)));
    found[static_cast<std::size_t>(h)] = of(a, coefficient, weight * query_norm(m, h), weight, key);
  }
  return found;
}

std::vector<bool> left_open(std::span<const double> scores, std::span<const double> bounds, std::span<const i32> best) {
  std::vector<bool> is_in(scores.size(), false);
  for (const i32 i : best) is_in[static_cast<std::size_t>(i)] = true;
  double least_in = std::numeric_limits<double>::infinity(), most_out = -least_in;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (is_in[i]) {
      least_in = std::min(least_in, scores[i] - bounds[i]);
    } else {
      most_out = std::max(most_out, scores[i] + bounds[i]);
    }
  }
  std::vector<bool> open;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    open.push_back(is_in[i] ? !(scores[i] - bounds[i] > most_out) : !(scores[i] + bounds[i] < least_in));
  }
  return open;
}

Bounds::Sampled Bounds::sampled(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples,
                                const SampledRow& row) const {
  Arithmetic a = arithmetic;
  a.cut = a.sampled_cut;
  const i64 dim = problem_.shape.head_dim, first = samples.first[static_cast<std::size_t>(m)];
  const auto stored = [&](double coefficient) { return (1 + pooled(a, coefficient, 1)) * (1 + a.mean) - 1; };
  Sampled found;
  found.product = stored(score_coefficient(a, dim, 1));
  found.sums = gamma(static_cast<i64>(row.totals.size()) + 8, a.head_sum);

  double weighted = 0, weights = 0, squares = 0;
  for (i64 h = 0; h < row.heads; ++h) {
    const double weight = std::abs(row.weights[static_cast<std::size_t>(h)]);
    if (!std::isfinite(weight)) continue;
    weighted += weight * query_norm(m, h);
    weights += weight;
  }
  std::vector<double> of_total;
  for (std::size_t i = 0; i < row.totals.size(); ++i) {
    const double key =
        key_norm(problem_.sequence[static_cast<std::size_t>(m)], samples.begin[static_cast<std::size_t>(first) + i]);
    of_total.push_back(of(a, stored(score_coefficient(a, dim, row.heads)), weighted, weights, key));
    if (!std::isfinite(key)) continue;
    squares += key * key;
    found.largest_key = std::max(found.largest_key, key);
  }
  found.key = std::sqrt(squares / static_cast<double>(std::max<i64>(1, row.count)));

  found.unsure = left_open(row.totals, of_total, row.counted);
  return found;
}

Bounds::LineBound Bounds::line(const Arithmetic& a, i64 m, const Sampled& sampled, const SampledRow& row, i64 h) const {
  const double infinity = std::numeric_limits<double>::infinity(), query = query_norm(m, h);
  if (row.count == 0) return {};
  const double count = static_cast<double>(row.count), largest = query * sampled.largest_key;
  if (!(largest * (1 + sampled.product) < a.overflow) || !(largest * largest * count < a.overflow)) {
    return {1, infinity, infinity};
  }
  const Line& line = row.lines[static_cast<std::size_t>(h)];
  const std::size_t all = row.totals.size(), from = static_cast<std::size_t>(h) * all;
  const auto product = [&](std::size_t i) { return row.all[from + i]; };
  double mean_x = 0, mean_y = 0;
  for (const i32 i : row.counted) {
    mean_x += product(static_cast<std::size_t>(i)) / count;
    mean_y += std::max(0.0, product(static_cast<std::size_t>(i))) / count;
  }
  // Sums over the samples that count, and over those of which that is not sure.
  double x_squares = 0, both = 0, x_sum = 0, left_sum = 0, x_in = 0, x_out = 0, left_in = 0, left_out = 0;
  std::vector<bool> counts(all, false);
  for (const i32 i : row.counted) counts[static_cast<std::size_t>(i)] = true;
  for (std::size_t i = 0; i < all; ++i) {
    const double x = product(i) - mean_x, left = std::max(0.0, product(i)) - mean_y - line.slope * x;
    if (counts[i]) x_squares += x * x;
    if (!sampled.unsure[i]) continue;
    both += std::abs(x * left);
    x_sum += std::abs(x);
    left_sum += std::abs(left);
    (counts[i] ? x_in : x_out) += x * x;
    (counts[i] ? left_in : left_out) += left * left;
  }
  const double least_squares = x_squares - x_in - x_sum * x_sum / count, moved = both + left_sum * x_sum / count;
  const bool steady = least_squares > count * a.underflow;
  const double products = query * sampled.key, squares = line.residual * line.residual;

  LineBound found;
  found.slope = 1;
  if (steady) {
    found.slope = moved / least_squares + 2 * sampled.sums +
                  3 * products * (sampled.product + 2 * sampled.sums) / std::sqrt(least_squares / count);
    found.slope = std::min(1.0, found.slope);
  }
  const double rounding = products * (2 * sampled.product + 8 * sampled.sums) + 4 * std::sqrt(a.underflow);
  const double gained = moved == 0 ? 0.0 : steady ? moved * moved / least_squares : squares * count;
  const double high = std::sqrt(squares + left_out / count);
  const double low = std::sqrt(std::max(0.0, squares - (left_in + left_sum * left_sum / count + gained) / count));
  found.residual = std::max(high - line.residual, line.residual - low) + rounding;
  found.contribution = rounding + left_sum / count;
  if (row.linear) found.contribution += found.slope * std::sqrt((x_squares + x_out) / count);
  return found;
}

std::vector<double> Bounds::residuals(const Arithmetic& a, i64 m, const BlockLayout& samples,
                                      const SampledRow& row) const {
  const Sampled known = sampled(a, m, samples, row);
  std::vector<double> found;
  for (i64 h = 0; h < row.heads; ++h) {
    const double weight = std::abs(row.weights[static_cast<std::size_t>(h)]);
    found.push_back(weight * line(a, m, known, row, h).residual + a.underflow);
  }
  return found;
}

std::vector<double> Bounds::costs(const Arithmetic& a, i64 m, const BlockLayout& samples, const SampledRow& row,
                                  std::span<const i32> kept, const std::vector<bool>& unsure, double deviation) const {
  const Sampled known = sampled(a, m, samples, row);
  const std::size_t all = row.totals.size();
  const double count = static_cast<double>(std::max<i64>(1, row.count));
  const std::vector<double> y = row.contributions();
  std::vector<double> own, error, sum(all, 0.0);
  std::vector<std::vector<double>> may_count;  // |y| of the samples that may or may not count
  double dropped_error = 0;
  for (i64 h = 0; h < row.heads; ++h) {
    const std::size_t at = static_cast<std::size_t>(h);
    double squares = 0;
    for (i64 i = 0; i < row.count; ++i) {
      const double one = y[static_cast<std::size_t>(h * row.count + i)];
      squares += one * one;
    }
    own.push_back(std::sqrt(squares / count));
    const double weight = std::isfinite(row.weights[at]) ? std::abs(row.weights[at]) : 0.0;
    error.push_back(weight * line(a, m, known, row, h).contribution);
    std::vector<double>& sizes = may_count.emplace_back(all, 0.0);
    const bool drops = !std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h));
    for (std::size_t i = 0; i < all; ++i) {
      // Its distance from a mean is at most its size and the mean's; both are at most the largest product.
      if (known.unsure[i]) sizes[i] = 2 * weight * query_norm(m, h) * known.largest_key;
      if (drops) sum[i] += sizes[i];
    }
    if (drops) dropped_error += error.back() + gamma(row.heads + 2, a.head_sum) * own.back();
  }
  std::vector<double> found;
  for (std::size_t h = 0; h < own.size(); ++h) {
    const double most = own[h] + error[h], dropped = deviation + dropped_error;
    double members = 0;
    for (std::size_t i = 0; i < all; ++i) members += may_count[h][i] * (may_count[h][i] + 2 * sum[i]);
    // Heads that contend on one side alone are dropped at another turn there.
    double other_turns = 0;
    for (std::size_t other = 0; other < unsure.size(); ++other) {
      if (!unsure[other] || other == h) continue;
      double both = 0;
      for (i64 i = 0; i < row.count; ++i) {
        both += y[h * static_cast<std::size_t>(row.count) + static_cast<std::size_t>(i)] *
                y[other * static_cast<std::size_t>(row.count) + static_cast<std::size_t>(i)];
      }
      other_turns += std::abs(both) / count + error[h] * own[other] + most * error[other];
    }
    found.push_back(2 * (most * dropped_error + deviation * error[h] + other_turns) + error[h] * (own[h] + most) +
                    known.sums * most * (2 * dropped + most) + members / count + a.underflow);
  }
  return found;
}

std::vector<double> Bounds::linear_query(const Arithmetic& a, i64 m, const BlockLayout& samples, const SampledRow& row,
                                         std::span<const i32> kept) const {
  const Sampled known = sampled(a, m, samples, row);
  const double adding = gamma(row.heads + 6, a.head_sum) + std::pow(1 + a.operand, 3) - 1;
  std::vector<double> found(static_cast<std::size_t>(problem_.shape.head_dim), a.underflow);
  for (i64 h = 0; h < row.heads; ++h) {
    const double weight = std::abs(row.weights[static_cast<std::size_t>(h)]);
    if (!std::isfinite(weight) || std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h))) continue;
    const double factor = weight * (line(a, m, known, row, h).slope + adding);
    std::visit(
        [&](const auto& values) {
          for (i64 d = 0; d < values.shape[2]; ++d) {
            const double size = std::abs(static_cast<double>(to_float(values(m, h, d))));
            if (size > 0 && factor > 0) found[static_cast<std::size_t>(d)] += size * factor + a.underflow;
          }
        },
        problem_.queries.values);
  }
  for (double& bound : found) {
    if (!(bound < a.overflow)) bound = std::numeric_limits<double>::infinity();
  }
  return found;
}

}  // namespace misa
