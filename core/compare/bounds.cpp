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

double Bounds::score(const Arithmetic& a, i64 m, std::span<const i32> heads, double key) const {
  const i64 all = problem_.shape.heads, terms = heads.empty() ? all : static_cast<i64>(heads.size());
  double weighted = 0, weights = 0;
  for (i64 i = 0; i < terms; ++i) {
    const i64 h = heads.empty() ? i : heads[static_cast<std::size_t>(i)];
    const double weight = std::abs(static_cast<double>(problem_.queries.weights(m, h)));
    weighted += weight * query_norms_[static_cast<std::size_t>(m * all + h)];
    weights += weight;
  }
  return of(a, score_coefficient(a, problem_.shape.head_dim, terms), weighted, weights, key);
}

double Bounds::block_score(const Arithmetic& a, i64 m, i64 begin, i64 end) const {
  const i64 all = problem_.shape.heads;
  double weighted = 0, weights = 0;
  for (i64 h = 0; h < all; ++h) {
    const double weight = std::abs(static_cast<double>(problem_.queries.weights(m, h)));
    weighted += weight * query_norms_[static_cast<std::size_t>(m * all + h)];
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
    case Router::random: return found;  // compared as they are stored
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
    found[static_cast<std::size_t>(h)] =
        of(a, coefficient, weight * query_norms_[static_cast<std::size_t>(m * all + h)], weight, key);
  }
  return found;
}

}  // namespace misa
