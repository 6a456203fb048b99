// The k best of n scores, exactly: higher first, ties to the lower column, NaN last.
//
// A strided sample bounds the k-th best score from below. One pass keeps the columns above the bound. More than k of
// them: bisection finds the k-th score among those few, a count for each bit of a float. Fewer: the bound itself may be
// the k-th score (plateaus: ReLU makes many exact zeros), and the first columns that equal it fill up. Neither: the
// pass is repeated without a bound. Every row is exact whatever the sample says. Bound: memory, one read of the scores.

#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "backends/cpu/tasks.hpp"
#include "backends/cpu/tile.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/work_spans.hpp"

namespace misa::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr i64 kSample = 1024;
constexpr i64 kLeastSampled = 4 * kSample;  // shorter rows are searched whole

/// Scratch of one thread.
struct Scratch {
  explicit Scratch(i64 columns)
      : storage(host_allocator(), columns * 8), values(storage.as<float>()), places(storage.as<i32>() + columns) {}

  Buffer storage;
  float* values;  ///< scores above the bound
  i32* places;    ///< their columns, ascending
  float sample[kSample] = {};
};

/// Numbers in the order of floats, -0 below +0; NaN is none of them.
i32 order_of(float score) {
  const i32 bits = std::bit_cast<i32>(score);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}
float at_order(i32 order) { return std::bit_cast<float>(order < 0 ? order ^ 0x7FFFFFFF : order); }

/// The k-th best of n scores, of which at least k are above `bound`.
float kth_best(const float* scores, i64 n, i64 k, float bound) {
  i32 low = order_of(bound), high = order_of(kInfinity) + 1;  // so many are `low` or more, and fewer than k `high`
  while (i64{high} - low > 1) {
    const i32 middle = static_cast<i32>((i64{low} + high) / 2);
    (loops().count_from(scores, n, at_order(middle)) >= k ? low : high) = middle;
  }
  return at_order(low);
}

/// A score that somewhat more than k of the n scores reach, by a strided sample; -inf when n is small.
float lower_bound_of_kth(const float* scores, i64 n, i64 k, float* sample) {
  if (n < kLeastSampled || 2 * k > n) return -kInfinity;
  const i64 stride = n / kSample;
  for (i64 i = 0; i < kSample; ++i) sample[i] = scores[i * stride];
  const double expected = static_cast<double>(k) * kSample / static_cast<double>(n);
  const i64 rank = static_cast<i64>(expected + 4.0 * std::sqrt(expected) + 8.0);
  return rank < kSample ? kth_best(sample, kSample, rank + 1, -kInfinity) : -kInfinity;
}

/// Writes the columns above `threshold` and the first ones that equal it, k in all, ascending, to `out`. False when
/// there are fewer than k (then `out` holds them all).
bool take(const float* scores, i64 n, i64 k, i64 above, float threshold, i32* out) {
  i64 ties = k - above, count = 0;
  for (i64 c = 0; c < n && count < k; ++c) {
    if (scores[c] > threshold || (scores[c] == threshold && ties-- > 0)) out[count++] = static_cast<i32>(c);
  }
  return count == k;
}

/// Writes the k best columns of [0, n), ascending, to `out`; k < n.
void best_columns(const float* scores, i64 n, i64 k, Scratch& scratch, i32* out) {
  float bound = lower_bound_of_kth(scores, n, k, scratch.sample);
  for (;; bound = -kInfinity) {
    const i64 above = loops().keep_above(scores, n, bound, scratch.values, scratch.places);
    if (above > k) {
      const float* values = scratch.values;
      const float kth = kth_best(values, above, k, bound);
      i64 ties = k - std::count_if(values, values + above, [&](float score) { return score > kth; });
      const bool all_ties = loops().count_from(values, above, kth) == k;
      i64 count = 0;
      for (i64 i = 0; all_ties && count < k; ++i) {
        out[count] = scratch.places[i];
        count += values[i] >= kth ? 1 : 0;
      }
      for (i64 i = 0; count < k; ++i) {
        if (values[i] > kth || (values[i] == kth && ties-- > 0)) out[count++] = scratch.places[i];
      }
      return;
    }
    if (take(scores, n, k, above, bound, out)) return;
    if (bound == -kInfinity) break;
  }
  // Every number, and the first NaNs.
  i64 nans = k - (n - std::count_if(scores, scores + n, [](float score) { return std::isnan(score); }));
  i64 count = 0;
  for (i64 c = 0; count < k; ++c) {
    if (!std::isnan(scores[c]) || nans-- > 0) out[count++] = static_cast<i32>(c);
  }
}

void select_row(const SelectTask& task, const View<float, 2>& logits, i64 m, Scratch& scratch) {
  const i64 k = task.selected.shape[1];
  i32* out = task.selected[m].data;
  const float* scores = logits[m].data;
  const i64 begin = task.windows.begin[m];
  const auto token_of = [&](i64 column) { return visible_token(task.windows, task.candidates, m, column); };

  // Visible columns stand together: a window from its begin on, candidates ascend and pad at the end. Only blocks that
  // stick out of the window (upstream borders, a last block) hold invisible columns before or between visible ones.
  i64 first = 0, last = logits.shape[1];
  if (!task.candidates) last = std::clamp<i64>(task.windows.end[m] - begin, 0, last);
  while (last > 0 && token_of(last - 1) < 0) --last;
  while (first < last && token_of(first) < 0) ++first;

  const i64 count = std::min(k, last - first);
  if (count == last - first) {
    for (i64 i = 0; i < count; ++i) out[i] = static_cast<i32>(first + i);
  } else {
    // Forced columns are taken before the search, and not searched.
    const Forced forced = task.forced.within(count);
    const i64 from = first + forced.first, wanted = count - forced.count();
    if (wanted > 0) best_columns(scores + from, last - forced.last - from, wanted, scratch, out + forced.first);
    for (i64 i = forced.first; i < forced.first + wanted; ++i) out[i] += static_cast<i32>(from);
    for (i64 i = 0; i < forced.first; ++i) out[i] = static_cast<i32>(first + i);
    for (i64 i = 1; i <= forced.last; ++i) out[count - i] = static_cast<i32>(last - i);
  }
  if (task.candidates) {
    const Candidates& candidates = *task.candidates;
    i64 run = 0;
    for (i64 i = 0; i < count; ++i) {  // columns ascend
      while (out[i] >= (run + 1) * candidates.length) ++run;
      const i64 within = out[i] - run * candidates.length;
      out[i] = static_cast<i32>(candidates.origin[m] + candidates.runs(m, run) * candidates.length + within - begin);
    }
  }
  std::fill(out + count, out + k, -1);
}

void select(const SelectTask& task, int threads) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Scratch scratch(logits.shape[1]);
#pragma omp for schedule(dynamic) nowait
    for (i64 m = 0; m < logits.shape[0]; ++m) {
      if (!interrupted()) select_row(task, logits, m, scratch);
    }
  }
  stop_if_interrupted();
}

constexpr std::array<Kernel<SelectTask, int>, 1> kSelectKernels{{
    {"sampled", "a strided sample bounds the k-th best score; exact on every row", accepts_all, select},
}};

}  // namespace

std::span<const Kernel<SelectTask, int>> select_kernels() { return kSelectKernels; }

}  // namespace misa::cpu
