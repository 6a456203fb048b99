#include "core/indexer/linear_head.hpp"

#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/interrupt.hpp"
#include "core/indexer/routing.hpp"

namespace misa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

inline double relu(double x) { return x > 0 ? x : 0; }

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }

double product(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// The lines of `Heads` heads, x [Heads, n]. Every sum is taken in the order of samples; heads are independent sums,
/// and so many are under way at once.
template <i64 Heads>
void fit_lines(const double* x, i64 n, bool linear, Line* lines) {
  const double count = static_cast<double>(n);
  double mean_x[Heads] = {}, mean_y[Heads] = {};
  for (i64 i = 0; i < n; ++i) {
    for (i64 h = 0; h < Heads; ++h) {
      mean_x[h] += x[h * n + i];
      mean_y[h] += relu(x[h * n + i]);
    }
  }
  for (i64 h = 0; h < Heads; ++h) {
    mean_x[h] /= count;
    mean_y[h] /= count;
  }
  if (linear) {
    double both[Heads] = {}, squares[Heads] = {};
    for (i64 i = 0; i < n; ++i) {
      for (i64 h = 0; h < Heads; ++h) {
        const double about_mean = x[h * n + i] - mean_x[h];
        both[h] += (relu(x[h * n + i]) - mean_y[h]) * about_mean;
        squares[h] += about_mean * about_mean;
      }
    }
    for (i64 h = 0; h < Heads; ++h) {
      lines[h].slope = squares[h] > 0 ? std::clamp(both[h] / squares[h], 0.0, 1.0) : mean_x[h] > 0 ? 1.0 : 0.0;
    }
  }
  double middle[Heads] = {}, squares[Heads] = {};
  for (i64 i = 0; i < n; ++i) {
    for (i64 h = 0; h < Heads; ++h) middle[h] += relu(x[h * n + i]) - lines[h].slope * x[h * n + i];
  }
  for (i64 h = 0; h < Heads; ++h) middle[h] /= count;
  for (i64 i = 0; i < n; ++i) {
    for (i64 h = 0; h < Heads; ++h) {
      const double left = relu(x[h * n + i]) - lines[h].slope * x[h * n + i] - middle[h];
      squares[h] += left * left;
    }
  }
  for (i64 h = 0; h < Heads; ++h) lines[h].residual = std::sqrt(squares[h] / count);
}

}  // namespace

std::vector<double> sampled_products(const RankTask& task, i64 m) {
  const i64 heads = heads_of(task.queries), dim = head_dim_of(task.queries);
  const i64 begin = task.windows.begin[m], count = std::max<i64>(0, task.windows.end[m] - begin);
  const auto& keys = std::get<View<const float, 3>>(task.keys.values);
  std::vector<double> products(size(heads * count), 0.0);
  std::visit(
      [&](const auto& queries) {
        for (i64 h = 0; h < heads; ++h) {
          for (i64 i = 0; i < count && !interrupted(); ++i) {
            double& dot = products[size(h * count + i)];
            for (i64 d = 0; d < dim; ++d)
              dot += static_cast<double>(to_float(queries(m, h, d))) * keys(0, begin + i, d);
          }
        }
      },
      task.queries.values);
  return products;
}

SampledRow::SampledRow(std::vector<double> products, std::span<const float> head_weights, bool with_linear)
    : heads(static_cast<i64>(head_weights.size())),
      weights(head_weights.begin(), head_weights.end()),
      all(std::move(products)),
      linear(with_linear) {
  for (double& one : all) one = std::isfinite(one) ? one : 0.0;
  const i64 samples = static_cast<i64>(all.size()) / heads;
  totals.assign(size(samples), 0.0);
  for (i64 h = 0; h < heads; ++h) {
    if (!std::isfinite(weights[size(h)])) continue;
    const double weight = weights[size(h)];
    const double* own = all.data() + h * samples;
    double* total = totals.data();
    for (i64 i = 0; i < samples; ++i) total[i] += weight * relu(own[i]);
  }
  counted = best_ranked(totals, linear ? (samples + 1) / 2 : samples);
  count = static_cast<i64>(counted.size());
  x.resize(size(heads * count));
  for (i64 h = 0; h < heads; ++h) {
    const double* from = all.data() + h * samples;
    double* to = x.data() + h * count;
    for (i64 i = 0; i < count; ++i) to[i] = from[counted[size(i)]];
  }
  lines.resize(size(heads));
  if (count == 0) return;
  constexpr i64 kTogether = 8;
  i64 h = 0;
  for (; h + kTogether <= heads; h += kTogether)
    fit_lines<kTogether>(&x[size(h * count)], count, linear, &lines[size(h)]);
  for (; h < heads; ++h) fit_lines<1>(&x[size(h * count)], count, linear, &lines[size(h)]);
}

std::vector<double> SampledRow::contributions() const {
  std::vector<double> found(x.size());
  for (i64 h = 0; h < heads; ++h) {
    const double weight = std::isfinite(weights[size(h)]) ? weights[size(h)] : 0.0, slope = lines[size(h)].slope;
    const double* own = x.data() + h * count;
    double* left = found.data() + h * count;
    double middle = 0;
    for (i64 i = 0; i < count; ++i) middle += left[i] = relu(own[i]) - slope * own[i];
    middle /= static_cast<double>(count);
    for (i64 i = 0; i < count; ++i) left[i] = weight * (left[i] - middle);
  }
  return found;
}

std::vector<double> SampledRow::residual_energies() const {
  std::vector<double> energies;
  for (std::size_t h = 0; h < lines.size(); ++h) energies.push_back(std::abs(weights[h]) * lines[h].residual);
  return energies;
}

std::vector<double> SampledRow::shortlist_energies() const {
  std::vector<double> energies = residual_energies();
  for (std::size_t h = 0; h < energies.size(); ++h) {
    if (!std::isfinite(weights[h])) energies[h] = -kInfinity;
  }
  return energies;
}

std::vector<i32> SampledRow::shortlist(i64 kept, std::span<const i32> only) const {
  std::vector<double> energies = shortlist_energies();
  for (const i32 h : only) energies[size(h)] = kInfinity;
  return best_ranked(energies, shortlist_size(heads, kept));
}

Elimination SampledRow::eliminate(i64 kept, std::span<const i32> only) const {
  const std::vector<double> y = contributions();
  const auto covariance = [&](std::span<const double> a, std::span<const double> b) {
    return product(a, b) / static_cast<double>(std::max<i64>(1, count));
  };
  const auto of_head = [&](i32 h) { return std::span<const double>(y.data() + h * count, size(count)); };
  std::vector<i32> left = shortlist(kept, only);
  std::vector<double> dropped(size(count), 0.0);  // the sum of what is
  for (i32 h = 0; h < heads; ++h) {
    if (std::binary_search(left.begin(), left.end(), h)) continue;
    for (std::size_t i = 0; i < dropped.size(); ++i) dropped[i] += of_head(h)[i];
  }
  std::vector<double> costs(size(heads), -kInfinity);
  for (const i32 h : left) {
    if (!std::isfinite(weights[size(h)])) continue;
    costs[size(h)] = covariance(of_head(h), of_head(h)) + 2 * covariance(of_head(h), dropped);
  }
  double variance = covariance(dropped, dropped);
  Elimination found{.kept = {}, .margins = std::vector<double>(size(heads), 0.0), .deviation = std::sqrt(variance)};
  for (const i32 h : left) found.margins[size(h)] = kept < heads ? kInfinity : 0.0;
  while (static_cast<i64>(left.size()) > kept) {
    i32 least = -1;
    for (const i32 h : left) {
      if (std::binary_search(only.begin(), only.end(), h)) continue;
      if (least < 0 || costs[size(h)] <= costs[size(least)]) least = h;
    }
    std::erase(left, least);
    if (std::isfinite(costs[size(least)])) variance += costs[size(least)];
    found.deviation = std::max(found.deviation, std::sqrt(std::max(0.0, variance)));
    found.margins[size(least)] = 0;
    for (const i32 h : left) {
      const double margin = costs[size(h)] == costs[size(least)] ? 0.0 : costs[size(h)] - costs[size(least)];
      found.margins[size(h)] = std::min(found.margins[size(h)], margin);
      costs[size(h)] += 2 * covariance(of_head(least), of_head(h));
    }
  }
  found.kept = std::move(left);
  return found;
}

std::vector<double> SampledRow::slopes() const {
  std::vector<double> slopes;
  for (const Line& line : lines) slopes.push_back(line.slope);
  return slopes;
}

std::vector<double> linear_query(const Queries& queries, i64 m, std::span<const double> slopes,
                                 std::span<const i32> kept) {
  return std::visit(
      [&](const auto& values) {
        std::vector<double> sum(size(values.shape[2]), 0.0);
        for (i64 h = 0; h < values.shape[1]; ++h) {
          const double factor = static_cast<double>(queries.weights(m, h)) * slopes[size(h)];
          if (factor == 0 || !std::isfinite(factor)) continue;
          if (std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h))) continue;
          const auto query = vector_of(values, m, h);
          for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += factor * to_float(query[d]);
        }
        return sum;
      },
      queries.values);
}

std::vector<float> round_linear_query(std::span<const double> query, Dtype dtype) {
  std::vector<float> rounded;
  for (const double value : query) rounded.push_back(static_cast<float>(value));
  float scale = 1;
  if (dtype == Dtype::bf16) {
    for (float& value : rounded) value = to_float(to_bf16(value));
  } else if (dtype == Dtype::e4m3) {
    float largest = 0;
    for (const float value : rounded) largest = std::max(largest, std::abs(value));
    scale = linear_scale(largest);
    for (float& value : rounded) value = to_float(to_e4m3(value / scale));
  }
  rounded.push_back(scale);
  return rounded;
}

void rank_by_samples(const RankTask& task, i64 m, std::vector<double> products) {
  const std::span<const float> weights(&task.queries.weights(m, 0), size(heads_of(task.queries)));
  const SampledRow row(std::move(products), weights, !task.slopes.empty());
  if (task.router == Router::covariance) {
    const Elimination left = row.eliminate(task.heads.shape[1]);
    keep_heads(task, m, left.kept, left.margins);
  } else {
    choose_heads(task, m, row.residual_energies());
  }
  if (task.slopes.empty()) return;
  const std::vector<double> slopes = row.slopes();
  std::copy(slopes.begin(), slopes.end(), &task.slopes(m, 0));
}

void gather_row(const GatherTask& task, i64 m) {
  gather_heads(task, m);
  if (!task.linear.empty()) {
    gather_linear(task, m, {&task.linear(m, 0), size(task.linear.shape[1])});
  } else if (!task.slopes.empty()) {
    const std::span<const i32> kept(task.heads[m].data, size(task.heads.shape[1]));
    const std::span<const double> slopes(&task.slopes(m, 0), size(task.slopes.shape[1]));
    const std::vector<double> query = linear_query(task.queries, m, slopes, kept);
    gather_linear(task, m, round_linear_query(query, dtype_of(task.values)));
  }
}

}  // namespace misa
