#include "backends/oracle/oracle.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "core/base/interrupt.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/routing.hpp"
#include "core/indexer/wall_clock.hpp"

namespace misa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// NaN stays NaN.
double relu(double x) { return 0.0 > x ? 0.0 : x; }

/// Higher first, equal: lower index first, NaN last.
struct ByRank {
  std::span<const double> score;
  bool operator()(i64 a, i64 b) const {
    const double x = score[static_cast<std::size_t>(a)], y = score[static_cast<std::size_t>(b)];
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) == std::isnan(y) ? a < b : std::isnan(y);
    return x != y ? x > y : a < b;
  }
};

/// The `count` best of `from`, by ByRank, in ascending order.
std::vector<i64> best(std::vector<i64> from, std::span<const double> score, i64 count) {
  const auto end = from.begin() + std::min<i64>(count, static_cast<i64>(from.size()));
  std::partial_sort(from.begin(), end, from.end(), ByRank{score});
  from.erase(end, from.end());
  std::sort(from.begin(), from.end());
  return from;
}

/// Dequantised key, without its scale.
void load_key(const KeyCache& keys, i64 sequence, i64 token, std::span<double> key, double& scale) {
  std::visit(
      [&](const auto& values) {
        const TokenAddress at = address_of(keys, values.shape[1], sequence, token);
        const auto vector = vector_of(values, at.page, at.slot);
        for (i64 d = 0; d < values.shape[2]; ++d) key[static_cast<std::size_t>(d)] = to_float(vector[d]);
        scale = keys.scales.empty() ? 1.0 : keys.scales(at.page, at.slot);
      },
      keys.values);
}

/// One query row in double, transposed to [D, H] so that loops over heads are the inner ones.
struct Row {
  i64 heads, dim;
  std::vector<double> query, weight;
  mutable std::vector<double> dot;

  Row(const Queries& queries, i64 m)
      : heads(heads_of(queries)), dim(head_dim_of(queries)), query(heads * dim), weight(heads), dot(heads) {
    std::visit(
        [&](const auto& values) {
          for (i64 h = 0; h < heads; ++h) {
            for (i64 d = 0; d < dim; ++d) query[d * heads + h] = to_float(values(m, h, d));
          }
        },
        queries.values);
    for (i64 h = 0; h < heads; ++h) weight[h] = queries.weights(m, h);
  }

  /// dot[h] = q[h] . key
  const std::vector<double>& dots(std::span<const double> key) const {
    std::fill(dot.begin(), dot.end(), 0.0);
    for (i64 d = 0; d < dim; ++d) {
      const double* q = query.data() + d * heads;
      const double k = key[static_cast<std::size_t>(d)];
      for (i64 h = 0; h < heads; ++h) dot[static_cast<std::size_t>(h)] += q[h] * k;
    }
    return dot;
  }
};

/// What row m ranks its heads by; formulas: Router.
std::vector<double> head_energies(const RankTask& task, i64 m) {
  const Row row(task.queries, m);
  const i64 begin = task.windows.begin[m], end = task.windows.end[m];
  std::vector<double> energy(row.heads, 0.0), key(row.dim);
  double scale = 1;

  switch (task.router) {
    case Router::gate:
      for (i64 h = 0; h < row.heads; ++h) energy[h] = std::abs(row.weight[h]);
      break;
    case Router::qnorm:
      for (i64 h = 0; h < row.heads; ++h) energy[h] = task.norms(m, h);
      break;
    case Router::random:
      for (i64 h = 0; h < row.heads; ++h) energy[h] = random_head_rank(task.seed, task.first_row + m, h);
      break;
    case Router::selfk:
      if (end <= begin) break;
      load_key(task.keys, task.windows.sequence[m], end - 1, key, scale);
      row.dots(key);
      for (i64 h = 0; h < row.heads; ++h) energy[h] = row.weight[h] * relu(row.dot[h]) * scale;
      break;
    case Router::pooled:
    case Router::oracle:
      for (i64 token = begin; token < end && !interrupted(); ++token) {
        if (token == end - 1 && !task.tails.empty()) {
          for (i64 d = 0; d < row.dim; ++d) key[d] = task.tails(m, d);
          scale = 1;
        } else {
          load_key(task.keys, task.windows.sequence[m], token, key, scale);
        }
        row.dots(key);
        for (i64 h = 0; h < row.heads; ++h) energy[h] += std::abs(row.weight[h] * relu(row.dot[h]) * scale);
      }
      for (double& value : energy) value /= static_cast<double>(std::max<i64>(1, end - begin));
      break;
    case Router::linear_residual:
    case Router::covariance: break;  // core/indexer/linear_head.hpp
  }
  return energy;
}

void pool(const PoolTask& task, int threads) {
  const i64 dim = task.means.shape[1];
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (i64 p = 0; p < task.count(); ++p) {
    const i64 begin = task.ranges.begin[p], end = task.ranges.end[p];
    std::vector<double> sum(dim, 0.0), key(dim);
    double scale = 1;
    for (i64 token = begin; token < end && !interrupted(); ++token) {
      load_key(task.keys, task.ranges.sequence[p], token, key, scale);
      for (i64 d = 0; d < dim; ++d) sum[d] += scale * key[d];
    }
    const double count = static_cast<double>(std::max<i64>(1, end - begin));
    for (i64 d = 0; d < dim; ++d) task.means(task.place(p), d) = static_cast<float>(sum[d] / count);
  }
  stop_if_interrupted();
}

void rank(const RankTask& task, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (i64 m = 0; m < rows_of(task.queries); ++m) {
    if (interrupted()) continue;
    if (samples_keys(task.router)) {
      rank_by_samples(task, m, sampled_products(task, m));
    } else {
      choose_heads(task, m, head_energies(task, m));
    }
  }
  stop_if_interrupted();
}

void gather(const GatherTask& task, int threads) {
#pragma omp parallel for num_threads(threads)
  for (i64 m = 0; m < rows_of(task.queries); ++m) {
    if (!interrupted()) gather_row(task, m);
  }
  stop_if_interrupted();
}

void score(const ScoreTask& task, int threads) {
  const View<double, 2> logits = std::get<View<double, 2>>(task.logits);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (i64 m = 0; m < logits.shape[0]; ++m) {
    if (interrupted()) continue;
    const Row row(task.queries, m);
    std::vector<double> key(row.dim);
    double scale = 1;
    for (i64 column = 0; column < logits.shape[1] && !interrupted(); ++column) {
      const i64 token = visible_token(task.windows, task.candidates, m, column);
      if (token < 0) {
        logits(m, column) = -kInfinity;
        continue;
      }
      load_key(task.keys, task.windows.sequence[m], token, key, scale);
      row.dots(key);
      double sum = 0;
      for (i64 h = 0; h < row.heads; ++h) sum += row.weight[h] * relu(row.dot[h]);
      logits(m, column) = scale * sum;
    }
  }
  stop_if_interrupted();
}

void select(const SelectTask& task, int threads) {
  const View<double, 2> logits = std::get<View<double, 2>>(task.logits);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (i64 m = 0; m < logits.shape[0]; ++m) {
    if (interrupted()) continue;
    std::vector<double> score(logits.shape[1]);
    std::vector<i64> columns;
    columns.reserve(score.size());
    for (i64 column = 0; column < logits.shape[1]; ++column) {
      score[column] = logits(m, column);
      if (visible_token(task.windows, task.candidates, m, column) >= 0) columns.push_back(column);
    }
    const i64 k = task.selected.shape[1];
    std::vector<i64> chosen;
    if (k < static_cast<i64>(columns.size())) {
      const Forced forced = task.forced.within(k);
      chosen.insert(chosen.end(), columns.begin(), columns.begin() + forced.first);
      chosen.insert(chosen.end(), columns.end() - forced.last, columns.end());
      columns.erase(columns.end() - forced.last, columns.end());
      columns.erase(columns.begin(), columns.begin() + forced.first);
    }
    const std::vector<i64> rest = best(std::move(columns), score, k - static_cast<i64>(chosen.size()));
    chosen.insert(chosen.end(), rest.begin(), rest.end());
    std::sort(chosen.begin(), chosen.end());
    for (i64 i = 0; i < task.selected.shape[1]; ++i) {
      const bool pad = i >= static_cast<i64>(chosen.size());
      const i64 token = pad ? -1 : visible_token(task.windows, task.candidates, m, chosen[i]);
      task.selected(m, i) = static_cast<i32>(pad ? -1 : token - task.windows.begin[m]);
    }
  }
  stop_if_interrupted();
}

/// A table of the one kernel that a primitive has here.
template <class Task>
using Table = std::array<Kernel<Task, int>, 1>;

constexpr Table<PoolTask> kPool{{{"formula", "sums in token order", accepts_all, pool}}};
constexpr Table<RankTask> kRank{{{"formula", "row by row", accepts_all, rank}}};
constexpr Table<GatherTask> kGather{{{"formula", "row by row", accepts_all, gather}}};
constexpr Table<ScoreTask> kScore{{{"formula", "column by column", accepts_all, score}}};
constexpr Table<SelectTask> kSelect{{{"formula", "sorts the columns of a row", accepts_all, select}}};

class Oracle final : public Backend {
 public:
  Oracle(int threads, ForcedKernels forced) : threads_(threads), choice_{std::move(forced)} {}

  std::string_view name() const override { return "oracle"; }
  std::string description() const override { return "formulas in double precision"; }
  Dtype logits_dtype() const override { return Dtype::f64; }
  std::optional<Arithmetic> arithmetic(const Shape& /*shape*/) const override { return find_arithmetic("f64"); }
  std::optional<std::string> why_not(const IndexerSpec&, const Shape&) const override { return std::nullopt; }
  std::byte* allocate(i64 bytes) override { return host_allocator().allocate(bytes); }
  void release(std::byte* data, i64 bytes) noexcept override { host_allocator().release(data, bytes); }
  void upload(std::byte* to, const std::byte* from, i64 bytes) override { std::memcpy(to, from, bytes); }
  void download(std::byte* to, const std::byte* from, i64 bytes) override { std::memcpy(to, from, bytes); }
  bool rehearse(bool on) override {
    choice_.rehearsing = on;
    return !choice_.forced.empty();
  }
  i64 scratch_bytes(const ScratchShape& shape) const override {
    // A row of scores, and the columns that hold one.
    return threads_ * (16 * shape.columns + sampled_row_bytes(shape.heads, shape.samples));
  }
  std::unique_ptr<Clock> clock() override { return std::make_unique<WallClock>(); }
  std::optional<Roofs> roofs() override { return std::nullopt; }

  std::string_view pool(const PoolTask& task) override { return run_kernel(kPool, choice_, task, threads_); }
  std::string_view rank(const RankTask& task) override {
    const std::string_view kernel = run_kernel(kRank, choice_, task, threads_);
    if (!choice_.rehearsing) share_heads(task);
    return kernel;
  }
  std::string_view gather(const GatherTask& task) override { return run_kernel(kGather, choice_, task, threads_); }
  std::string_view score(const ScoreTask& task) override { return run_kernel(kScore, choice_, task, threads_); }
  std::string_view select(const SelectTask& task) override { return run_kernel(kSelect, choice_, task, threads_); }

 private:
  int threads_;
  KernelChoice choice_;
};

}  // namespace

std::vector<KernelInfo> oracle_kernels() { return list_kernels(kPool, kRank, kGather, kScore, kSelect); }

std::unique_ptr<Backend> make_oracle(int threads, ForcedKernels forced) {
  return std::make_unique<Oracle>(threads, std::move(forced));
}

}  // namespace misa
