#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include "core/base/mix.hpp"
#include "core/indexer/backend.hpp"

namespace misa {

/// What the random router ranks heads by: uniform, a function of (seed, row, head) alone.
constexpr double random_head_rank(u64 seed, i64 row, i64 head) {
  const u64 bits = mix64(mix64(seed + kGolden * (static_cast<u64>(row) + 1)) + kGolden * (static_cast<u64>(head) + 1));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

/// The `count` ids of highest rank, ascending. Ties: lower id first; NaN last.
inline std::vector<i32> best_ranked(std::span<const double> energy, i64 count) {
  std::vector<i32> order(energy.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](i32 a, i32 b) {
    const double x = energy[static_cast<std::size_t>(a)], y = energy[static_cast<std::size_t>(b)];
    return std::isnan(y) ? !std::isnan(x) : x > y;
  });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

/// Writes the heads that row m keeps, and what they were ranked by where that is asked for.
inline void keep_heads(const RankTask& task, i64 m, std::span<const i32> heads, std::span<const double> energy) {
  if (!task.energies.empty()) std::copy(energy.begin(), energy.end(), &task.energies(m, 0));
  for (i64 i = 0; i < task.heads.shape[1]; ++i) task.heads(m, i) = heads[static_cast<std::size_t>(i)];
}

/// Keeps the heads of highest energy.
inline void choose_heads(const RankTask& task, i64 m, std::span<const double> energy) {
  keep_heads(task, m, best_ranked(energy, task.heads.shape[1]), energy);
}

/// A number of a query as its routed batch holds it.
template <class Batch, class T>
constexpr Batch as_routed(T number) {
  if constexpr (std::is_same_v<T, Batch>) {
    return number;
  } else {
    return from_float<Batch>(to_float(number));
  }
}

/// Gives the rows of each group the sums of their energies, and the heads of the largest (host memory).
inline void share_heads(const RankTask& task) {
  if (task.place.empty()) return;
  const i64 rows = task.energies.shape[0], heads = task.energies.shape[1];
  for (i64 first = 0, last = 0; first < rows; first = last) {
    std::vector<double> sums(static_cast<std::size_t>(heads), 0.0);
    for (last = first; last < rows && (last == first || task.place[last] != 0); ++last) {
      for (i64 h = 0; h < heads; ++h) sums[static_cast<std::size_t>(h)] += task.energies(last, h);
    }
    for (i64 m = first; m < last; ++m) choose_heads(task, m, sums);
  }
}

/// Copies the heads of row m into the batch (host memory).
inline void gather_heads(const GatherTask& task, i64 m) {
  std::visit(
      [&](const auto& from) {
        using Number = Routed<Element<decltype(from)>>;
        const auto& to = std::get<View<const Number, 3>>(task.values);
        for (i64 i = 0; i < task.heads.shape[1]; ++i) {
          const i64 head = task.heads(m, i);
          // The batch is the task's output; its views are const because a routed query is read as any query.
          Number* target = const_cast<Number*>(&to(m, i, 0));
          for (i64 d = 0; d < from.shape[2]; ++d) target[d] = as_routed<Number>(from(m, head, d));
          task.weights(m, i) = task.queries.weights(m, head);
        }
      },
      task.queries.values);
}

/// Writes a linear query [D + 1], its weight last, as the last two heads of row m's batch: q with its weight and -q
/// with minus its weight, whose relu add up to weight * (q . k) (host memory).
inline void gather_linear(const GatherTask& task, i64 m, std::span<const float> linear) {
  std::visit(
      [&](const auto& to) {
        using Number = Element<decltype(to)>;
        if constexpr (std::is_same_v<Number, Routed<Number>>) {
          for (i64 i = to.shape[1] - 2; i < to.shape[1]; ++i) {
            const float sign = i == to.shape[1] - 2 ? 1.0f : -1.0f;
            Number* target = const_cast<Number*>(&to(m, i, 0));
            for (i64 d = 0; d < to.shape[2]; ++d)
              target[d] = from_float<Number>(sign * linear[static_cast<std::size_t>(d)]);
            task.weights(m, i) = sign * linear.back();
          }
        }
      },
      task.values);
}

}  // namespace misa
