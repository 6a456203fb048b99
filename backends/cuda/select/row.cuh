#pragma once

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/select/team.cuh"

// A row of a selection, what a block keeps of it, and a search of it that needs no luck.

namespace misa::cuda::topk {

constexpr int kThreads = 512, kBitmapWords = 4096;
constexpr u32 kForced = 0xffffffffu;  // above the rank of inf

using Block = Team<kThreads>;

/// What a team needs to search a row.
struct Shared : Counters {
  alignas(16) u32 bitmap[kBitmapWords];
};

/// A SelectTask on the device.
struct Task {
  View<const float, 2> logits;
  Windows windows;
  Columns columns;
  int forced_first, forced_last;  ///< columns that come before all scores, no more than k together
  View<i32, 2> selected;
  int room, samples;  ///< entries that a block can keep; columns that it samples, a power of two

  int forced() const { return forced_first + forced_last; }
};

/// A row as it is searched. If it is `picky` the search passes over unseen columns of a list, and a window of more
/// columns than are selected is without those that are forced: its columns count from the first that is free, and
/// fewer of them are selected. What kernels call with a row is inlined, for memory of a thread's own is slow where the
/// first level cache is nearly all shared memory. A `marked` row is one of no more columns than a block has bits for.
template <bool kPicky, bool kMarked = false>
struct Row {
  static constexpr bool kIsPicky = kPicky, kIsMarked = kMarked;
  const Task& task;
  i64 m;
  const float* scores;
  int count;            ///< columns to search
  bool forces = false;  ///< some are forced, and no part of it

  __device__ __forceinline__ Row(const Task& task_, i64 m_) : task(task_), m(m_), scores(&task_.logits(m_, 0)) {
    const int width = static_cast<int>(task.logits.shape[1]);
    count = kPicky && task.columns.listed ? width : max(0, min(width, task.windows.end[m] - task.windows.begin[m]));
    if constexpr (kPicky) {
      forces = !task.columns.listed && task.forced_first + task.forced_last > 0 && count > task.selected.shape[1];
      if (!forces) return;
      scores += task.forced_first;
      count -= task.forced_first + task.forced_last;
    }
  }
  __device__ __forceinline__ bool listed() const { return kPicky && task.columns.listed; }
  __device__ __forceinline__ i64 token(int column) const { return task.columns.token(task.windows, m, column); }
  __device__ __forceinline__ bool passes_over(int column) const { return listed() && token(column) < 0; }
  /// The first column that is searched, which is the place of the first of them that is selected.
  __device__ __forceinline__ int first() const { return kPicky && forces ? task.forced_first : 0; }
  /// How many of the searched columns are selected.
  __device__ __forceinline__ int wanted() const {
    const int k = static_cast<int>(task.selected.shape[1]);
    return kPicky && forces ? k - task.forced_first - task.forced_last : k;
  }
  /// Writes the columns that are forced.
  __device__ __forceinline__ void write_forced(const Block& team) const {
    if (!kPicky || !forces) return;
    const int before = task.forced_first, after = task.forced_last, place = before + wanted();
    for (int i = team.thread; i < before; i += kThreads) task.selected(m, i) = i;
    for (int i = team.thread; i < after; i += kThreads) task.selected(m, place + i) = before + count + i;
  }
};

/// A row, whatever its columns and scores: four passes find the k-th best score byte by byte, a fifth writes what is
/// above it and the first of those that equal it, in order. No buffer that could overflow.
static __device__ __noinline__ void select_from_row(Block team, Shared& shared, const Task& task, i64 m) {
  const View<i32, 2>& selected = task.selected;
  const float* const scores = &task.logits(m, 0);
  const int k = static_cast<int>(selected.shape[1]);
  const int count = static_cast<int>(task.logits.shape[1]);
  const auto token = [&](int column) { return task.columns.token(task.windows, m, column); };

  if (team.thread == 0) {
    shared.first = count;
    shared.last = -1;
    shared.count = 0;
  }
  team.sync();
  for (int c = team.thread; c < count; c += kThreads) {
    if (token(c) < 0) continue;
    atomicMin(&shared.first, c);
    atomicMax(&shared.last, c);
    atomicAdd(&shared.count, 1);
  }
  team.sync();
  // Visible columns stand together, so that the columns that are forced are those before `first` and from `last` on.
  const int first = shared.first + task.forced_first, last = shared.last + 1 - task.forced_last, visible = shared.count;
  const auto rank = [&](int c) { return c < first || c >= last ? kForced : rank_of(scores[c]); };
  const bool all = visible <= k;

  u32 kth = 0;
  int wanted = min(k, visible);
  // The rank of the k-th best, most significant byte first; `wanted` is how many of those that share it are needed.
  for (int shift = 24; shift >= 0 && !all; shift -= 8) {
    for (int i = team.thread; i < 256; i += kThreads) shared.histogram[i] = 0;
    team.sync();
    const u32 mask = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    for (int c = team.thread; c < count; c += kThreads) {
      if (token(c) < 0) continue;
      const u32 one = rank(c);
      if ((one & mask) == kth) atomicAdd(&shared.histogram[(one >> shift) & 255], 1u);
    }
    team.sync();
    int byte = 255;
    for (; static_cast<int>(shared.histogram[byte]) < wanted; --byte)
      wanted -= static_cast<int>(shared.histogram[byte]);
    kth |= static_cast<u32>(byte) << shift;
    team.sync();
  }

  int written = 0, ties = 0;
  for (int base = 0; base < count; base += kThreads) {
    const int c = base + team.thread;
    const i64 id = c < count ? token(c) : -1;
    const u32 one = id >= 0 ? rank(c) : 0;
    const bool tied = id >= 0 && !all && one == kth;
    unsigned tied_here = 0, taken_here = 0;
    const int tie = ties + static_cast<int>(scan(team, shared, tied ? 1 : 0, tied_here));
    team.sync();
    const bool taken = id >= 0 && (all || one > kth || (tied && tie < wanted));
    const int place = written + static_cast<int>(scan(team, shared, taken ? 1 : 0, taken_here));
    team.sync();
    if (taken) selected(m, place) = static_cast<i32>(id - task.windows.begin[m]);
    ties += static_cast<int>(tied_here);
    written += static_cast<int>(taken_here);
  }
  for (i64 i = written + team.thread; i < k; i += kThreads) selected(m, i) = -1;
  for (int i = team.thread; i < 256; i += kThreads) shared.histogram[i] = 0;
}

}  // namespace misa::cuda::topk
