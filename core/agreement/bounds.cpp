#include "core/agreement/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "core/base/interrupt.hpp"

namespace misa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Block means are stored in f32 by every backend.
constexpr double kStoredMean = 0x1p-24, kLeastMean = 0x1p-149, kLargestMean = 0x1.fffffep127;

/// Largest relative error of n operations of unit roundoff u.
double gamma(i64 n, double u) {
  const double nu = static_cast<double>(n) * u;
  return nu < 1 ? nu / (1 - nu) : std::numeric_limits<double>::infinity();
}

/// 1 + the relative error of the product of a query's, a key's and a weight's number as they are rounded.
double operands_of(const Arithmetic& a) { return std::pow(1 + a.operand, 3) * (1 + a.weight); }

/// Of `terms` weighted dot products of `dim` products, added up.
double score_coefficient(const Arithmetic& a, i64 dim, i64 terms) {
  const double operands = operands_of(a);
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

/// True when numbers of these sizes, with an error of `coefficient` of themselves, are at most `most`; NaN is not.
bool fit(std::initializer_list<double> sizes, double coefficient, double most) {
  return std::all_of(sizes.begin(), sizes.end(), [&](double size) { return size * (1 + coefficient) < most; });
}

/// No bound is NaN: what cannot be told may be anything.
double not_nan(double bound) { return std::isnan(bound) ? kInfinity : bound; }

}  // namespace

Bounds::Bounds(const Problem& problem) : problem_(problem) {
  std::visit(
      [&](const auto& values) {
        for (i64 m = 0; m < values.shape[0]; ++m) {
          for (i64 h = 0; h < values.shape[1]; ++h)
            query_norms_.push_back(norm(vector_of(values, m, h), values.shape[2]));
        }
      },
      problem.queries.values);
  std::visit(
      [&](const auto& values) {
        for (i64 page = 0; page < values.shape[0]; ++page) {
          for (i64 slot = 0; slot < values.shape[1]; ++slot) {
            stop_if_interrupted();
            const double scale =
                problem.keys.scales.empty() ? 1.0 : std::abs(static_cast<double>(problem.keys.scales(page, slot)));
            key_sizes_.push_back({norm(vector_of(values, page, slot), values.shape[2]), scale});
          }
        }
      },
      problem.keys.values);
}

KeySize Bounds::key(i64 sequence, i64 token) const {
  const i64 size = std::visit([](const auto& values) { return values.shape[1]; }, problem_.keys.values);
  const TokenAddress at = address_of(problem_.keys, size, sequence, token);
  return key_sizes_[static_cast<std::size_t>(at.page * size + at.slot)];
}

Bounds::MeanKey Bounds::mean_key(i64 m, i64 begin, i64 end) const {
  MeanKey mean;
  for (i64 token = begin; token < end; ++token) {
    const KeySize one = key(problem_.sequence[static_cast<std::size_t>(m)], token);
    mean.sum += one.scaled();
    mean.single = std::max(mean.single, one.largest());
    mean.scale = std::max(mean.scale, one.scale);
    mean.is_nan = mean.is_nan || one.is_nan();
  }
  mean.norm = mean.sum / static_cast<double>(std::max<i64>(1, end - begin));
  return mean;
}

void Bounds::Heads::add(double weight, double query) {
  ++terms;
  weights += weight;
  queries += query;
  weighted += weight * query;
  largest = std::max(largest, query);
  is_nan = is_nan || std::isnan(weight) || std::isnan(query);
}

Bounds::Heads Bounds::heads_of_row(i64 m, std::span<const i32> heads, std::span<const float> linear) const {
  Heads found;
  const bool all = heads.empty() && linear.empty();
  for (i64 i = 0; i < (all ? problem_.shape.heads : static_cast<i64>(heads.size())); ++i) {
    const i64 h = all ? i : heads[static_cast<std::size_t>(i)];
    found.add(std::abs(static_cast<double>(problem_.queries.weights(m, h))), query_norm(m, h));
  }
  // A linear query is scored as two heads.
  if (!linear.empty()) {
    const double weight = std::abs(static_cast<double>(linear.back())), query = norm(linear, problem_.shape.head_dim);
    for (int i = 0; i < 2; ++i) found.add(weight, query);
  }
  return found;
}

double Bounds::underflow(const Arithmetic& a, const Heads& heads, const KeySize& key) const {
  const double dim = static_cast<double>(problem_.shape.head_dim), root = std::sqrt(dim);
  const double scale = std::max(1.0, key.scale);
  double results =
      scale * (2 * dim * heads.weights + 4 * static_cast<double>(heads.terms) * std::max(1.0, heads.weights)) +
      root * heads.weighted + 2;
  if (a.operand > 0) results += scale * key.vector * root * heads.weights;
  if (a.operand > 0 || a.weight > 0) results += scale * key.vector * heads.queries;
  const double flushed = a.flush * scale * root * (heads.weighted + key.vector * heads.weights);
  return a.underflow * results + flushed;
}

double Bounds::mean_underflow(const Arithmetic& a, double weighted) const {
  const double root = std::sqrt(static_cast<double>(problem_.shape.head_dim));
  return 4 * std::max(a.underflow, kLeastMean) * root * weighted;
}

double Bounds::score(const Arithmetic& a, i64 m, std::span<const i32> heads, std::span<const float> linear,
                     const KeySize& key) const {
  const Heads sum = heads_of_row(m, heads, linear);
  if (sum.is_nan || key.is_nan()) return 0;
  const double coefficient = score_coefficient(a, problem_.shape.head_dim, sum.terms);
  if (!fit({sum.weighted, sum.weighted * key.largest(), sum.largest * key.largest()}, coefficient, a.overflow) ||
      (a.weight > 0 && !fit({sum.weights}, a.weight, a.overflow))) {
    return kInfinity;
  }
  return not_nan(coefficient * sum.weighted * key.scaled() + underflow(a, sum, key));
}

double Bounds::block_score(const Arithmetic& a, i64 m, i64 begin, i64 end) const {
  const Heads sum = heads_of_row(m, {}, {});
  const MeanKey mean = mean_key(m, begin, end);
  if (sum.is_nan || mean.is_nan) return 0;
  const double pooling = pooled(a, score_coefficient(a, problem_.shape.head_dim, sum.terms), end - begin);
  const double coefficient = (1 + pooling) * (1 + a.mean) - 1;
  if (!fit({mean.sum, sum.weighted, sum.weighted * mean.norm, sum.largest * mean.norm}, coefficient, a.overflow) ||
      !fit({mean.norm}, coefficient, kLargestMean)) {
    return kInfinity;
  }
  return not_nan(coefficient * sum.weighted * mean.norm + underflow(a, sum, {mean.norm, 1}) +
                 mean_underflow(a, sum.weighted));
}

std::vector<double> Bounds::energies(const Arithmetic& a, i64 m, Router router, const BlockLayout* blocks,
                                     i64 block_size) const {
  const std::size_t row = static_cast<std::size_t>(m);
  const i64 all = problem_.shape.heads, dim = problem_.shape.head_dim;
  const i64 begin = problem_.begin[row], end = problem_.end[row];
  std::vector<double> found(static_cast<std::size_t>(all), 0.0);
  if (end <= begin) return found;

  // A head's energy is a mean of weighted terms, each of a product with a key or a block mean.
  MeanKey keys;
  double coefficient = 0;
  bool stored = true;  // as block means are, if there are any
  switch (router) {
    case Router::gate:
    case Router::qnorm:
    case Router::random:                    // compared as they are stored
    case Router::linear_residual:           // residuals()
    case Router::covariance: return found;  // costs()
    case Router::selfk:
      keys = mean_key(m, end - 1, end);
      coefficient = score_coefficient(a, dim, 1);
      break;
    case Router::oracle:
      keys = mean_key(m, begin, end);
      coefficient = score_coefficient(a, dim, end - begin);
      break;
    case Router::pooled: {
      const i64 first = blocks->first[row], last = blocks->last[row];
      double pool = 0;
      for (i64 b = first; b < last; ++b) {
        const bool own_tail = b + 1 == last && !blocks->tail_begin.empty();
        const std::size_t at = static_cast<std::size_t>(b);
        const MeanKey mean =
            own_tail ? mean_key(m, blocks->tail_begin[row], end) : mean_key(m, blocks->begin[at], blocks->end[at]);
        keys.sum += mean.norm;
        keys.single = std::max(keys.single, mean.norm);
        keys.is_nan = keys.is_nan || mean.is_nan;
        pool = std::max(pool, mean.sum);
      }
      keys.norm = keys.sum / static_cast<double>(std::max<i64>(1, last - first));
      keys.scale = 1;
      coefficient = (1 + pooled(a, score_coefficient(a, dim, last - first), block_size)) * (1 + a.mean) - 1;
      stored = fit({pool}, coefficient, a.overflow) && fit({keys.single}, coefficient, kLargestMean);
      break;
    }
  }
  for (i64 h = 0; h < all; ++h) {
    Heads one;
    one.add(std::abs(static_cast<double>(problem_.queries.weights(m, h))), query_norm(m, h));
    double& bound = found[static_cast<std::size_t>(h)];
    if (one.is_nan || keys.is_nan) continue;
    const bool finite = stored && fit({one.weighted, one.weighted * keys.single, one.weighted * keys.sum,
                                       one.largest * keys.single, one.largest * keys.sum},
                                      coefficient, a.overflow);
    bound = !finite ? kInfinity
                    : not_nan(coefficient * one.weighted * keys.norm + underflow(a, one, {keys.single, keys.scale}) +
                              (router == Router::pooled ? mean_underflow(a, one.weighted) : 0.0));
  }
  return found;
}

std::vector<bool> left_open(std::span<const double> scores, std::span<const double> bounds, std::span<const i32> best) {
  std::vector<bool> is_in(scores.size(), false);
  for (const i32 i : best) is_in[static_cast<std::size_t>(i)] = true;
  // An infinite score of finite bound is certain; an infinite bound leaves every score open.
  const auto low = [&](std::size_t i) { return std::isfinite(bounds[i]) ? scores[i] - bounds[i] : -kInfinity; };
  const auto high = [&](std::size_t i) { return std::isfinite(bounds[i]) ? scores[i] + bounds[i] : kInfinity; };
  double least_in = kInfinity, most_out = -kInfinity;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (is_in[i]) {
      least_in = std::min(least_in, low(i));
    } else {
      most_out = std::max(most_out, high(i));
    }
  }
  const bool choice = !best.empty() && best.size() < scores.size();
  std::vector<bool> open;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    open.push_back(choice && (is_in[i] ? !(low(i) > most_out) : !(high(i) < least_in)));
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

  // What is not finite counts as 0 in every arithmetic: weights, and products with vectors that are not finite.
  Heads heads;
  for (i64 h = 0; h < row.heads; ++h) {
    const double weight = std::abs(row.weights[static_cast<std::size_t>(h)]), query = query_norm(m, h);
    if (std::isfinite(weight) && std::isfinite(query)) heads.add(weight, query);
  }
  const double coefficient = stored(score_coefficient(a, dim, row.heads));
  double squares = 0;
  std::vector<double> of_total;
  for (std::size_t i = 0; i < row.totals.size(); ++i) {
    const KeySize one =
        key(problem_.sequence[static_cast<std::size_t>(m)], samples.begin[static_cast<std::size_t>(first) + i]);
    double& bound = of_total.emplace_back(0);
    if (!one.is_finite()) continue;
    const double size = one.scaled();
    const bool finite = fit({heads.weighted, heads.weighted * size, heads.largest * size}, coefficient, a.overflow) &&
                        fit({size}, coefficient, kLargestMean);
    bound = !finite ? kInfinity
                    : not_nan(coefficient * heads.weighted * size + underflow(a, heads, {size, 1}) +
                              mean_underflow(a, heads.weighted));
    squares += size * size;
    found.largest_key = std::max(found.largest_key, size);
  }
  found.key = std::sqrt(squares / static_cast<double>(std::max<i64>(1, row.count)));

  found.unsure = left_open(row.totals, of_total, row.counted);
  return found;
}

Bounds::LineBound Bounds::line(const Arithmetic& a, i64 m, const Sampled& sampled, const SampledRow& row, i64 h) const {
  const double query = query_norm(m, h);
  if (row.count == 0 || !std::isfinite(query)) return {};
  const double count = static_cast<double>(row.count), largest = query * sampled.largest_key;
  if (!fit({largest, largest * largest * count}, sampled.product, a.overflow) ||
      !fit({sampled.largest_key}, sampled.product, kLargestMean)) {
    return {1, kInfinity, kInfinity};
  }
  Heads one;
  one.add(1, query);
  const double absolute = underflow(a, one, {sampled.largest_key, 1}) + mean_underflow(a, query);
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
    const double error = products * (sampled.product + 2 * sampled.sums) + absolute;
    found.slope = moved / least_squares + 2 * sampled.sums + 3 * error / std::sqrt(least_squares / count) +
                  6 * count * a.underflow / least_squares;
    found.slope = std::min(1.0, found.slope);
  }
  const double rounding =
      products * (2 * sampled.product + 8 * sampled.sums) + 2 * absolute + 4 * std::sqrt(a.underflow);
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
  double largest = 0;  // a backend may rank by weights divided by it
  for (const double weight : row.weights) {
    if (std::isfinite(weight)) largest = std::max(largest, std::abs(weight));
  }
  std::vector<double> found;
  for (i64 h = 0; h < row.heads; ++h) {
    const double weight = std::abs(row.weights[static_cast<std::size_t>(h)]);
    double& bound = found.emplace_back(0);
    if (std::isnan(weight)) continue;  // as what is ranked then is
    const double residual = line(a, m, known, row, h).residual;
    const bool finite =
        residual == 0 || fit({weight * query_norm(m, h) * known.largest_key}, known.product, a.overflow);
    const double divided = 2 * a.underflow * largest * (1 + row.lines[static_cast<std::size_t>(h)].residual);
    bound = finite ? not_nan(weight * residual + a.underflow * (1 + weight) + divided) : kInfinity;
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
  double dropped_error = 0, largest = 0;       // of all contributions to a sample
  for (i64 h = 0; h < row.heads; ++h) {
    const std::size_t at = static_cast<std::size_t>(h);
    double squares = 0;
    for (i64 i = 0; i < row.count; ++i) {
      const double one = y[static_cast<std::size_t>(h * row.count + i)];
      squares += one * one;
    }
    own.push_back(std::sqrt(squares / count));
    const double weight = std::isfinite(row.weights[at]) ? std::abs(row.weights[at]) : 0.0;
    const double query = query_norm(m, h);
    error.push_back(weight * line(a, m, known, row, h).contribution + 4 * a.underflow);
    if (std::isfinite(query)) largest += 2 * weight * query * known.largest_key;
    std::vector<double>& sizes = may_count.emplace_back(all, 0.0);
    const bool drops = !std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h));
    for (std::size_t i = 0; i < all; ++i) {
      // Its distance from a mean is at most its size and the mean's; both are at most the largest product.
      if (known.unsure[i] && std::isfinite(query)) sizes[i] = 2 * weight * query * known.largest_key;
      if (drops) sum[i] += sizes[i];
    }
    if (drops) dropped_error += error.back() + gamma(row.heads + 2, a.head_sum) * own.back();
  }
  std::vector<double> found;
  for (std::size_t h = 0; h < own.size(); ++h) {
    const double most = own[h] + error[h], dropped = deviation + dropped_error;
    double members = 0;
    for (std::size_t i = 0; i < all; ++i) members += may_count[h][i] * (may_count[h][i] + 2 * sum[i]);
    // Heads that are on the shortlist of one side alone are dropped at another turn there.
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
                    known.sums * most * (2 * dropped + most) + members / count +
                    a.underflow * 4 * static_cast<double>(row.heads));
  }
  const bool finite = fit({largest, largest * largest * count}, known.product, a.overflow);
  for (double& bound : found) bound = finite ? not_nan(bound) : kInfinity;
  return found;
}

std::vector<double> Bounds::linear_query(const Arithmetic& a, i64 m, const BlockLayout& samples, const SampledRow& row,
                                         std::span<const i32> kept) const {
  const Sampled known = sampled(a, m, samples, row);
  const double adding = gamma(row.heads + 6, a.head_sum) + operands_of(a) - 1;
  const std::size_t dim = static_cast<std::size_t>(problem_.shape.head_dim);
  std::vector<double> found(dim, a.underflow), largest(dim, 0.0);
  for (i64 h = 0; h < row.heads; ++h) {
    const double weight = std::abs(row.weights[static_cast<std::size_t>(h)]);
    // No head counts whose products are not finite: its slope is 0.
    if (!std::isfinite(weight) || !std::isfinite(query_norm(m, h))) continue;
    if (std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h))) continue;
    const double factor = weight * (line(a, m, known, row, h).slope + adding) + a.underflow;
    std::visit(
        [&](const auto& values) {
          for (std::size_t d = 0; d < dim; ++d) {
            const double size = std::abs(static_cast<double>(to_float(values(m, h, static_cast<i64>(d)))));
            if (size > 0) found[d] += size * factor + a.underflow;
            largest[d] += size * weight;
          }
        },
        problem_.queries.values);
  }
  for (std::size_t d = 0; d < dim; ++d) {
    found[d] = fit({largest[d]}, adding, a.overflow) ? not_nan(found[d]) : kInfinity;
  }
  return found;
}

}  // namespace misa
