// The k best of n scores, exactly: higher first, ties to the lower column, NaN last.
//
// A strided sample bounds the k-th best score from below. One pass keeps the columns above the bound. At least k of
// them: nth_element finds the k-th score among those few. Fewer: the bound itself may be the k-th score (plateaus: ReLU
// makes many exact zeros), and the first columns that equal it fill up. Neither: the pass is repeated without a bound.
// Every row is exact whatever the sample says. Bound: memory, one read of the scores.

#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

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
  explicit Scratch(i64 columns) : storage(host_allocator(), columns * 4), passed(storage.as<i32>()) {}

  Buffer storage;
  i32* passed;                 ///< columns above the bound, ascending
  std::vector<float> ordered;  ///< their scores, for nth_element
};

/// A score that somewhat more than k of the n scores reach, by a strided sample; -inf when n is small.
float lower_bound_of_kth(const float* scores, i64 n, i64 k, std::vector<float>& sample) {
  if (n < kLeastSampled || 2 * k > n) return -kInfinity;
  const i64 stride = n / kSample;
  sample.resize(static_cast<std::size_t>(kSample));
  for (i64 i = 0; i < kSample; ++i) {
    const float score = scores[i * stride];
    sample[static_cast<std::size_t>(i)] = std::isnan(score) ? -kInfinity : score;
  }
  const double expected = static_cast<double>(k) * kSample / static_cast<double>(n);
  const i64 rank = static_cast<i64>(expected + 4.0 * std::sqrt(expected) + 8.0);
  if (rank >= kSample) return -kInfinity;
  const auto kth = sample.begin() + rank;
  std::nth_element(sample.begin(), kth, sample.end(), std::greater<>());
  return *kth;
}

/// Columns whose score is above `bound`, ascending, to `out`; how many. NaN never passes.
i64 keep_above(const float* scores, i64 n, float bound, i32* out) {
  constexpr i64 kLanes = 16;
  i64 count = 0, c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    int any = 0;
#pragma omp simd reduction(| : any)
    for (i64 i = 0; i < kLanes; ++i) any |= scores[c + i] > bound ? 1 : 0;
    if (any == 0) continue;
    for (i64 i = 0; i < kLanes; ++i) {
      out[count] = static_cast<i32>(c + i);
      count += scores[c + i] > bound ? 1 : 0;
    }
  }
  for (; c < n; ++c) {
    if (scores[c] > bound) out[count++] = static_cast<i32>(c);
  }
  return count;
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

/// The k-th best of the scores in `columns`, k < count.
float kth_best(const float* scores, const i32* columns, i64 count, i64 k, std::vector<float>& ordered) {
  ordered.resize(static_cast<std::size_t>(count));
  for (i64 i = 0; i < count; ++i) ordered[i] = scores[columns[i]];
  std::nth_element(ordered.begin(), ordered.begin() + (k - 1), ordered.end(), std::greater<>());
  return ordered[k - 1];
}

/// Writes the k best columns of [0, n), ascending, to `out`; k < n.
void best_columns(const float* scores, i64 n, i64 k, Scratch& scratch, i32* out) {
  float bound = lower_bound_of_kth(scores, n, k, scratch.ordered);
  for (;; bound = -kInfinity) {
    const i64 above = keep_above(scores, n, bound, scratch.passed);
    if (above > k) {
      const float kth = kth_best(scores, scratch.passed, above, k, scratch.ordered);
      i64 ties = k - std::count_if(scratch.ordered.begin(), scratch.ordered.begin() + k,
                                   [&](float score) { return score > kth; });
      i64 count = 0;
      for (i64 i = 0; count < k; ++i) {
        const i32 column = scratch.passed[i];
        if (scores[column] > kth || (scores[column] == kth && ties-- > 0)) out[count++] = column;
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
    // Forced ends are taken before the search, and not searched.
    const i64 at_begin = task.force_ends ? 1 : 0, at_end = task.force_ends && count > 1 ? 1 : 0;
    const i64 from = first + at_begin, wanted = count - at_begin - at_end;
    const i64 searched = last - first - (task.force_ends ? 2 : 0);
    if (wanted > 0) best_columns(scores + from, searched, wanted, scratch, out + at_begin);
    for (i64 i = at_begin; i < at_begin + wanted; ++i) out[i] += static_cast<i32>(from);
    if (at_begin > 0) out[0] = static_cast<i32>(first);
    if (at_end > 0) out[count - 1] = static_cast<i32>(last - 1);
  }
  for (i64 i = 0; i < count; ++i) out[i] = static_cast<i32>(token_of(out[i]) - begin);
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
