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
  bool force_ends;
  View<i32, 2> selected;
  int room, samples;  ///< entries that a block can keep; columns that it samples, a power of two
};

/// A row and, if it is `picky`, the columns that its search passes over: unseen ones of a list, and ends that are
/// forced. What kernels call with one is inlined, for memory of a thread's own is slow where the first level cache is
/// nearly all shared memory. A `marked` row is one of no more columns than a block has bits for.
template <bool kPicky, bool kMarked = false>
struct Row {
  static constexpr bool kIsPicky = kPicky, kIsMarked = kMarked;
  const Task& task;
  i64 m;
  const float* scores;
  int count;   ///< columns to search
  int forced;  ///< 2: the first and the last, apart from the search; 0: none

  __device__ __forceinline__ Row(const Task& task_, i64 m_) : task(task_), m(m_), scores(&task_.logits(m_, 0)) {
    const int width = static_cast<int>(task.logits.shape[1]);
    count = kPicky && task.columns.listed ? width : max(0, min(width, task.windows.end[m] - task.windows.begin[m]));
    forced = kPicky && task.force_ends ? min(2, count) : 0;
  }
  __device__ __forceinline__ bool listed() const { return kPicky && task.columns.listed; }
  __device__ __forceinline__ i64 token(int column) const { return task.columns.token(task.windows, m, column); }
  __device__ __forceinline__ bool passes_over(int column) const {
    return listed() ? token(column) < 0 : forced > 0 && (column == 0 || column == count - 1);
  }
};

/// A row, whatever its columns and scores: four passes find the k-th best score byte by byte, a fifth writes what is
/// above it and the first of those that equal it, in order. No buffer that could overflow.
static __device__ __noinline__ void select_from_row(Block team, Shared& shared, const Task& task, i64 m) {
  const Row<true> row(task, m);
  const View<i32, 2>& selected = task.selected;
  const int k = static_cast<int>(selected.shape[1]);
  const int count = static_cast<int>(task.logits.shape[1]);
  const auto token = [&](int column) { return row.token(column); };

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
  const int first = shared.first, last = shared.last, visible = shared.count;
  const auto rank = [&](int c) {
    return row.forced > 0 && (c == first || c == last) ? kForced : rank_of(row.scores[c]);
  };
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
