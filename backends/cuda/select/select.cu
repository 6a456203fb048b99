// The k best columns of each row: higher score, then lower token; NaN last, -0 equals +0; ascending, -1 pads
//
// A sample of a row gives a score that some more than k others exceed; one pass over the row keeps those in shared
// memory, a radix selection among them finds the k best, and a bitmap puts them in order. Every guess is checked: with
// fewer than k above it the row's ties at that score are counted in order, and a guess that was too high, or too low
// for the room there is, is made again, at last by a radix selection over the whole row.
// Many long rows: a block takes one after the other, and while half of its warps read a row the others finish the one
// before and sample the next. Else the blocks of a cluster share a row, and the first finishes it.
// Bound by memory, one read of the scores, where rows are many and long; by barriers and latencies elsewhere.

#include <cooperative_groups.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"

namespace misa::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kThreads = 512, kWarps = kThreads / 32;  // of a team
constexpr int kBins = 2048, kBitmapWords = 4096, kMostSamples = 8192, kGroup = 4, kTries = 4;
constexpr u32 kWarp = 0xffffffffu;
constexpr u32 kForced = 0xffffffffu;  // above the rank of inf

/// A column and its score's rank: better columns have larger ones, and no two are equal.
__device__ inline u64 entry_of(u32 rank, int column) { return (u64{rank} << 32) | ~static_cast<u32>(column); }
__device__ inline int column_of(u64 entry) { return static_cast<int>(~static_cast<u32>(entry)); }

/// Warps that work on one row together, with a barrier of their own.
struct Team {
  int thread, barrier;
  __device__ void sync() const { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kThreads) : "memory"); }
};

/// What a team needs to search a row.
struct Shared {
  alignas(16) unsigned histogram[kBins];  ///< zeros between selections
  alignas(16) u32 bitmap[kBitmapWords];
  unsigned warp_sums[kWarps];
  u32 highest, lowest;
  int count, digit, wanted, inside, first, last;
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
/// nearly all shared memory.
template <bool kPicky>
struct Row {
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

/// Sum of `value` over the lanes up to this one.
__device__ inline int scan_warp(int value) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    asm volatile(
        "{\n.reg .pred inside;\n.reg .s32 before;\nshfl.sync.up.b32 before|inside, %0, %1, 0, 0xffffffff;\n"
        "@inside add.s32 %0, %0, before;\n}"
        : "+r"(value)
        : "r"(step));
  }
  return value;
}

/// Sum of `value` over the threads before this one; `total` over all. A barrier within; the next scan wants another
/// before it.
__device__ unsigned scan(const Team& team, Shared& shared, unsigned value, unsigned& total) {
  const int lane = team.thread % 32, warp = team.thread / 32;
  const unsigned sum = static_cast<unsigned>(scan_warp(static_cast<int>(value)));
  if (lane == 31) shared.warp_sums[warp] = sum;
  team.sync();
  const unsigned others = lane < kWarps ? shared.warp_sums[lane] : 0;
  const unsigned before = __reduce_add_sync(kWarp, lane < warp ? others : 0);
  total = __reduce_add_sync(kWarp, others);
  return before + sum - value;
}

/// A row, whatever its columns and scores: four passes find the k-th best score byte by byte, a fifth writes what is
/// above it and the first of those that equal it, in order. No buffer that could overflow.
__device__ __noinline__ void select_from_row(Team team, Shared& shared, const Task& task, i64 m) {
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

/// A key that exactly `wanted` keys reach, 1 <= wanted <= all; `tied` when more reach it, for they equal it.
/// `each(visit)` visits the keys of a thread. Keys differ in their upper 32 bits first.
template <class Key, class Each>
__device__ Key kth_best(const Team& team, Shared& shared, const Each& each, int wanted, bool& tied) {
  constexpr int kBits = 8 * sizeof(Key), kEach = kBins / kThreads;
  if (team.thread == 0) {
    shared.highest = 0;
    shared.lowest = 0xffffffffu;
  }
  team.sync();
  u32 highest = 0, lowest = 0xffffffffu;
  each([&](Key key) {
    const u32 upper = static_cast<u32>(key >> (kBits - 32));
    highest = max(highest, upper);
    lowest = min(lowest, upper);
  });
  highest = __reduce_max_sync(kWarp, highest);
  lowest = __reduce_min_sync(kWarp, lowest);
  if (team.thread % 32 == 0) {
    atomicMax(&shared.highest, highest);
    atomicMin(&shared.lowest, lowest);
  }
  team.sync();
  // Keys differ in no bit above `top`.
  const Key base = static_cast<Key>(shared.lowest) << (kBits - 32);
  int top = kBits - __clz(static_cast<int>(shared.highest - shared.lowest));
  Key prefix = 0;
  for (;;) {
    const int shift = max(0, top - 11);
    each([&](Key key) {
      key -= base;
      if (top >= kBits || key >> top == prefix) atomicAdd(&shared.histogram[(key >> shift) & (kBins - 1)], 1u);
    });
    team.sync();
    const int best = kBins - 1 - kEach * team.thread;
    unsigned here[kEach], mine = 0, total = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      here[i] = shared.histogram[best - i];
      shared.histogram[best - i] = 0;
      mine += here[i];
    }
    unsigned above = scan(team, shared, mine, total);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (above < static_cast<unsigned>(wanted) && static_cast<unsigned>(wanted) <= above + here[i]) {
        shared.digit = best - i;
        shared.wanted = wanted - static_cast<int>(above);
        shared.inside = static_cast<int>(here[i]);
      }
      above += here[i];
    }
    team.sync();
    prefix = (top >= kBits ? 0 : prefix << (top - shift)) | static_cast<Key>(shared.digit);
    wanted = shared.wanted;
    tied = shared.inside != wanted;
    if (!tied || shift == 0) return base + (prefix << shift);
    top = shift;
  }
}

/// The rank of a score that about `wanted` of a sample of `size` columns exceed, not below that of -inf; `tied` where
/// many columns may have that score. `size` is a power of two from kThreads.
template <bool kPicky>
__device__ __forceinline__ u32 guess(const Team& team, Shared& shared, const Row<kPicky>& row, int size, int wanted,
                                     bool& tied) {
  constexpr int kEach = kMostSamples / kThreads;
  const float* const scores = row.scores;
  const u32 span = static_cast<u32>(row.count - kGroup);
  const int log_groups = 31 - __clz(size / kGroup), thread = team.thread;
  const auto column_of_sample = [&](int i) {
    const u32 group = static_cast<u32>(thread + i * kThreads) / kGroup;
    return static_cast<u32>(static_cast<u64>(span) * group >> log_groups) + static_cast<u32>(thread % kGroup);
  };
  u32 ranks[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i * kThreads < size) ranks[i] = __float_as_uint(__ldg(scores + column_of_sample(i)));
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i * kThreads < size) ranks[i] = rank_of(__uint_as_float(ranks[i]));
  }
  if (kPicky) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * kThreads < size && row.passes_over(static_cast<int>(column_of_sample(i)))) ranks[i] = 0;
    }
  }
  const auto each = [&](const auto& visit) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * kThreads < size) visit(ranks[i]);
    }
  };
  const u32 found = kth_best<u32>(team, shared, each, wanted, tied);
  return max(kLowest, tied || found <= kLowest ? found : rank_below(found));
}

/// Puts a column into `kept` if it scores above `bar` and there is room, and counts it.
template <bool kPicky>
__device__ __forceinline__ void keep(int& count, u64* kept, int room, const Row<kPicky>& row, int column, float bar) {
  const float score = row.scores[column];
  if (!(score > bar) || row.passes_over(column)) return;
  const int place = atomicAdd(&count, 1);
  if (place < room) kept[place] = entry_of(rank_of(score), column);
}

/// The 16-byte vectors of a row's columns from `from` to `to`.
struct Piece {
  const float* scores = nullptr;
  int head = 0, vectors = 0;  ///< the first column of the first vector, and how many there are
  bool last = false;          ///< nothing comes after it

  template <bool kPicky>
  __device__ __forceinline__ Piece(const Row<kPicky>& row, int from, int to, bool last_) : last(last_) {
    const int edge = static_cast<int>((128 - reinterpret_cast<std::uintptr_t>(row.scores + from) % 128) % 128 / 4);
    head = min(to, from + edge);
    vectors = (to - head) / 4;
    scores = row.scores + head;
  }
};

/// Pieces of rows on their way to a team, in chunks that stand in a ring of shared memory. A thread reads what it asked
/// for itself, so that nobody waits for another.
template <int kVectors, int kStages, class PieceOf>
class Stream {
 public:
  static constexpr int kChunk = kVectors * kThreads;  ///< vectors

  __device__ __forceinline__ Stream(float4* ring, int thread, const PieceOf& piece_of)
      : ring_(ring + thread), thread_(thread), piece_of_(piece_of), piece_(piece_of(0)) {
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) ask();
  }

  /// Calls `visit` with the thread's part of each chunk of the next `vectors` vectors, one in kThreads of them, the
  /// first one's number and how many there are from it.
  template <class Visit>
  __device__ __forceinline__ void read(int vectors, const Visit& visit) {
    for (int base = 0; base < vectors; base += kChunk) {
      ask();
      asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
      visit(ring_ + kChunk * read_, base + thread_, vectors - base - thread_);
      read_ = read_ + 1 == kStages ? 0 : read_ + 1;
    }
  }

 private:
  __device__ __forceinline__ void ask() {
    while (at_ >= piece_.vectors && !piece_.last) {
      piece_ = piece_of_(++index_);
      at_ = 0;
    }
    const u32 to = static_cast<u32>(__cvta_generic_to_shared(ring_ + kChunk * asked_));
    const float4* from = reinterpret_cast<const float4*>(piece_.scores) + at_ + thread_;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (at_ + thread_ + i * kThreads < piece_.vectors) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + 16 * i * kThreads), "l"(from + i * kThreads)
                     : "memory");
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    at_ += kChunk;
    asked_ = asked_ + 1 == kStages ? 0 : asked_ + 1;
  }

  float4* ring_;
  int thread_;
  const PieceOf& piece_of_;
  Piece piece_;
  int index_ = 0, at_ = 0, asked_ = 0, read_ = 0;
};

/// Puts the columns of a piece that score above `bar` into `kept`, as far as there is room, and adds how many there
/// are to `count`. The piece is that of the columns from `from` to `to`, and the next in the stream.
template <int kVectors, int kStages, class PieceOf, bool kPicky>
__device__ __forceinline__ void keep_above(const Team& team, Stream<kVectors, kStages, PieceOf>& stream, int& count,
                                           u64* kept, const Row<kPicky>& row, int from, int to, float bar) {
  const Piece piece(row, from, to, true);
  const int room = row.task.room;
  stream.read(piece.vectors, [&](const float4* mine, int number, int vectors) {
    // One bit a score, the first one's highest: see above_bit.
    u32 hits = 0;
    const auto look = [&](int i) {
      const float4 four = mine[i * kThreads];
      for (const float score : {four.x, four.y, four.z, four.w}) {
        hits = __funnelshift_l(above_bit(score, bar), hits, 1);
      }
    };
#pragma unroll
    for (int i = 0; i < kVectors; ++i) look(i);
    // What is left over of an older chunk does not count.
    const int seen = vectors > 0 ? min(kVectors, (vectors + kThreads - 1) / kThreads) : 0;
    hits = seen == 0 ? 0 : hits << (32 - 4 * kVectors) & 0xffffffffu << (32 - 4 * seen);
    const float* scores = reinterpret_cast<const float*>(mine);
    const int first = piece.head + 4 * number;
    // Takes the first hit.
    const auto next = [&](u32& rest) {
      const unsigned bit = static_cast<unsigned>(__clz(static_cast<int>(rest)));
      rest &= 0x7fffffffu >> bit;
      return static_cast<int>(bit / 4 * (4 * kThreads) + bit % 4);
    };
    if (kPicky) {
      u32 left = 0;
      for (u32 rest = hits; rest != 0;) {
        const u32 before = rest;
        if (!row.passes_over(first + next(rest))) left |= before ^ rest;
      }
      hits = left;
    }
    if (!__any_sync(kWarp, hits != 0)) return;
    const int own = __popc(hits), sum = scan_warp(own);
    int place = 0;
    if (team.thread % 32 == 31) place = atomicAdd(&count, sum);
    place = __shfl_sync(kWarp, place, 31) + sum - own;
    if (place + own > room) return;
    while (hits != 0) {
      const int at = next(hits);
      kept[place++] = entry_of(rank_of(scores[at]), first + at);
    }
  });
  // A few before the first vector and after the last.
  const int before = piece.head - from, t = team.thread;
  const int outside = t < before ? from + t : piece.head + 4 * piece.vectors + t - before;
  if (t < 64 && outside < to) keep(count, kept, room, row, outside, bar);
}

/// Appends the first columns whose scores rank `rank` until `kept` holds `wanted`; returns how many it holds.
template <bool kPicky>
__device__ __forceinline__ int keep_ties(const Team& team, Shared& shared, u64* kept, int held, int wanted,
                                         const Row<kPicky>& row, u32 rank) {
  constexpr int kEach = 8;
  const int lane = team.thread % 32;
  for (int base = 0; base < row.count && held < wanted; base += kThreads * kEach) {
    const int from = base + team.thread / 32 * (32 * kEach) + lane;
    u32 tied[kEach];  // of the warp
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int column = from + 32 * i;
      tied[i] = __float_as_uint(column < row.count ? row.scores[column] : 0);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int column = from + 32 * i;
      const bool is = column < row.count && rank_of(__uint_as_float(tied[i])) == rank;
      tied[i] = __ballot_sync(kWarp, is && !(kPicky && row.passes_over(column)));
      sum += __popc(tied[i]);
    }
    unsigned total = 0;
    int place = held + static_cast<int>(scan(team, shared, lane == 0 ? static_cast<unsigned>(sum) : 0, total));
    place = __shfl_sync(kWarp, place, 0);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int mine = place + __popc(tied[i] & ((1u << lane) - 1));
      if ((tied[i] >> lane & 1) != 0 && mine < wanted) kept[mine] = entry_of(rank, from + 32 * i);
      place += __popc(tied[i]);
    }
    held = min(wanted, held + static_cast<int>(total));
    team.sync();
  }
  return held;
}

/// What a search keeps columns above, and whether ties at it may be wanted.
struct Bar {
  u32 rank;
  bool tied;
};

/// How a row's bar is guessed: so that about `rank` of `size` samples are above it.
struct Guess {
  int size, whole;  ///< rows of no more columns are kept whole
  float rank;

  template <bool kPicky>
  __device__ __forceinline__ explicit Guess(const Row<kPicky>& row) {
    const int k = static_cast<int>(row.task.selected.shape[1]), room = row.task.room;
    whole = min(room, max(4096, 2 * k));
    size = min(row.task.samples, row.count < 4 ? 0 : 1 << (29 - __clz(row.count)));
    const float expected = static_cast<float>(k) * static_cast<float>(size) / static_cast<float>(max(1, row.count));
    // Four deviations above what is wanted, or as far from too few as from too many.
    const float middle = expected * sqrtf(static_cast<float>(room) / static_cast<float>(k));
    rank = min(expected + 4 * sqrtf(expected) + 4, middle);
  }
  template <bool kPicky>
  __device__ __forceinline__ Bar bar(const Team& team, Shared& shared, const Row<kPicky>& row) const {
    if (row.count <= whole) return {kLowest, true};
    Bar bar{};
    bar.rank = guess(team, shared, row, size, max(1, static_cast<int>(min(rank, static_cast<float>(size)))), bar.tied);
    bar.tied |= bar.rank == kLowest;
    return bar;
  }
};

/// Selects from a row of which `kept` holds all that is above `bar`, if `held` are no more than there is room for.
template <bool kPicky>
__device__ __forceinline__ void finish(const Team& team, Shared& shared, u64* kept, int held, Bar bar, Guess how,
                                       const Row<kPicky>& row) {
  const View<i32, 2>& selected = row.task.selected;
  const int room = row.task.room;
  const int k = static_cast<int>(selected.shape[1]);
  for (int tries = 1;; ++tries) {
    if (row.forced > 0 && row.listed())
      tries = kTries;
    else if (held + row.forced <= room) {
      if (team.thread < row.forced) kept[held + team.thread] = entry_of(kForced, team.thread == 0 ? 0 : row.count - 1);
      held += row.forced;
      team.sync();
      if (held < k && bar.tied) held = keep_ties(team, shared, kept, held, k, row, bar.rank);
      if (held < k && bar.rank == kLowest) held = keep_ties(team, shared, kept, held, k, row, 0);
      if (held >= k || bar.rank == kLowest) break;
    }
    if (tries == kTries) return select_from_row(team, shared, row.task, row.m);
    how.rank *= 0.5f * static_cast<float>(k + room) / static_cast<float>(max(held, 1));
    bar = how.bar(team, shared, row);
    if (team.thread == 0) shared.count = 0;
    team.sync();
    constexpr int kEach = 8;
    for (int base = team.thread; base < row.count; base += kEach * kThreads) {
      float scores[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        scores[i] = base + i * kThreads < row.count ? row.scores[base + i * kThreads] : NAN;
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (scores[i] > score_of(bar.rank))
          keep(shared.count, kept, room, row, base + i * kThreads, score_of(bar.rank));
      }
    }
    team.sync();
    held = shared.count;
  }

  u64 cut = 0;
  if (held > k) {
    const auto each = [&](const auto& visit) {
      for (int i = team.thread; i < held; i += kThreads) visit(kept[i]);
    };
    bool tied = false;
    cut = kth_best<u64>(team, shared, each, k, tied);
  }
  // In order, a bitmap of columns at a time: a column's place is the number of those before it.
  constexpr int kSpan = 32 * kBitmapWords, kEach = kBitmapWords / kThreads;
  static_assert(sizeof(shared.histogram) == kBitmapWords * sizeof(u16) && kEach == 8);
  u16* const befores = reinterpret_cast<u16*>(shared.histogram);
  int written = 0;
  for (int base = 0; base < row.count; base += kSpan) {
    uint4* const mine = reinterpret_cast<uint4*>(shared.bitmap + kEach * team.thread);
    mine[0] = mine[1] = make_uint4(0, 0, 0, 0);
    team.sync();
    const auto each = [&](const auto& visit) {
      for (int i = team.thread; i < held; i += kThreads) {
        const u64 entry = kept[i];
        const int column = column_of(entry) - base;
        if (entry >= cut && column >= 0 && column < kSpan) visit(column, column / 32, 1u << (column % 32));
      }
    };
    each([&](int, int word, u32 bit) { atomicOr(&shared.bitmap[word], bit); });
    team.sync();
    const uint4 low = mine[0], high = mine[1];
    const u32 words[kEach] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    unsigned befores_of[kEach + 1] = {0}, total = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) befores_of[i + 1] = befores_of[i] + static_cast<unsigned>(__popc(words[i]));
    const unsigned before = scan(team, shared, befores_of[kEach], total);
#pragma unroll
    for (int i = 0; i < kEach; ++i) befores[kEach * team.thread + i] = static_cast<u16>(before + befores_of[i]);
    team.sync();
    each([&](int column, int word, u32 bit) {
      const int place = written + befores[word] + __popc(shared.bitmap[word] & (bit - 1));
      column += base;
      selected(row.m, place) =
          row.listed() ? static_cast<i32>(row.token(column) - row.task.windows.begin[row.m]) : column;
    });
    written += static_cast<int>(total);
    team.sync();
  }
  for (int i = written + team.thread; i < k; i += kThreads) selected(row.m, i) = -1;
  for (int i = team.thread; i < kBins; i += kThreads) shared.histogram[i] = 0;
}

/// The blocks of a cluster share a row.
template <bool kPicky, int kVectors, int kStages>
__global__ void __launch_bounds__(kThreads, 2) select_few_kernel(__grid_constant__ const Task task) {
  extern __shared__ float4 ring[];
  __shared__ Shared shared;
  u64* kept = reinterpret_cast<u64*>(ring + kStages * kVectors * kThreads);
  const cg::cluster_group cluster = cg::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks()), block = static_cast<int>(cluster.block_rank());
  const Team team{static_cast<int>(threadIdx.x), 0};
  const Row<kPicky> row(task, blockIdx.x / blocks);
  const int each = (row.count + 4 * blocks - 1) / (4 * blocks) * 4;
  const int from = min(row.count, each * block), to = min(row.count, from + each);
  const auto piece_of = [&](int) { return Piece(row, from, to, true); };
  for (int i = team.thread; i < kBins; i += kThreads) shared.histogram[i] = 0;
  if (team.thread == 0) shared.count = 0;
  team.sync();

  Stream<kVectors, kStages, decltype(piece_of)> stream(ring, team.thread, piece_of);
  const Guess how(row);
  const Bar bar = how.bar(team, shared, row);
  keep_above(team, stream, shared.count, kept, row, from, to, score_of(bar.rank));
  cluster.sync();
  // The first block gets what all keep.
  int before = 0, held = 0;
  for (int b = 0; b < blocks; ++b) {
    const int count = *cluster.map_shared_rank(&shared.count, b);
    before += b < block ? count : 0;
    held += count;
  }
  if (block > 0 && held <= task.room) {
    u64* all = cluster.map_shared_rank(kept, 0) + before;
    for (int i = team.thread; i < shared.count; i += kThreads) all[i] = kept[i];
  }
  cluster.sync();
  if (block == 0) finish(team, shared, kept, held, bar, how, row);
}

/// Half of a block's warps read a row while the others finish the one before and guess the next one's bar.
template <bool kPicky, int kVectors, int kStages>
__global__ void __launch_bounds__(2 * kThreads, 1) select_many_kernel(__grid_constant__ const Task task, int buffers) {
  extern __shared__ float4 ring[];
  __shared__ Shared shared;
  __shared__ int counts[2];
  __shared__ Bar bars[2];
  u64* all_kept = reinterpret_cast<u64*>(ring + kStages * kVectors * kThreads);
  constexpr int kReaders = 1, kFinishers = 2, kReady = 3, kFull = 5;  // barriers
  const auto wait = [](int barrier) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(2 * kThreads) : "memory"); };
  const auto tell = [](int barrier) {
    __syncwarp();
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "n"(2 * kThreads) : "memory");
  };
  const int rows = static_cast<int>(task.logits.shape[0]), step = static_cast<int>(gridDim.x),
            start = static_cast<int>(blockIdx.x);
  const auto kept_of_turn = [&](int turn) { return all_kept + (turn % buffers) * task.room; };
  if (threadIdx.x < kThreads) {
    const Team team{static_cast<int>(threadIdx.x), kReaders};
    const auto piece_of = [&](int i) {
      const Row<kPicky> row(task, start + i * step);
      return Piece(row, 0, row.count, start + (i + 1) * step >= rows);
    };
    Stream<kVectors, kStages, decltype(piece_of)> stream(ring, team.thread, piece_of);
    for (int m = start, turn = 0; m < rows; m += step, ++turn) {
      const int b = turn % 2;
      const Row<kPicky> row(task, m);
      wait(kReady + b);
      keep_above(team, stream, counts[b], kept_of_turn(turn), row, 0, row.count, score_of(bars[b].rank));
      tell(kFull + b);
    }
  } else {
    const Team team{static_cast<int>(threadIdx.x) - kThreads, kFinishers};
    for (int i = team.thread; i < kBins; i += kThreads) shared.histogram[i] = 0;
    team.sync();
    for (int m = start - step, turn = -1; m < rows; m += step, ++turn) {
      const int b = turn & 1;
      if (m + step < rows) {
        const Row<kPicky> next(task, m + step);
        const Bar bar = Guess(next).bar(team, shared, next);
        if (team.thread == 0) {
          bars[1 - b] = bar;
          counts[1 - b] = 0;
        }
        if (buffers == 2 || turn < 0) tell(kReady + 1 - b);
      }
      if (turn < 0) continue;
      const Row<kPicky> row(task, m);
      wait(kFull + b);
      finish(team, shared, kept_of_turn(turn), counts[b], bars[b], Guess(row), row);
      team.sync();
      if (buffers == 1 && m + step < rows) tell(kReady + 1 - b);
    }
  }
}

/// What columns are to a kernel for rows of few of them. Lists are of runs whose length is a power of two.
enum class Short { window, window_with_ends, list };

/// The key of which `wanted` in a block reach it, and how many of those that equal it are wanted.
struct Cut {
  u32 key;
  bool tied;
  int ties;
};

/// The cut of `wanted` among the keys of a team, kEach of a thread, those that are not 0; they are more, and between
/// `lowest` and `highest`.
template <int kEach>
__device__ __forceinline__ Cut find_cut(const Team& team, Shared& shared, const u32 (&keys)[kEach], u32 lowest,
                                        u32 highest, int wanted) {
  constexpr int kBinsEach = kBins / kThreads;
  const int shift = max(0, 32 - __clz(static_cast<int>(highest - lowest)) - 11);
  const u32 histogram = static_cast<u32>(__cvta_generic_to_shared(shared.histogram));
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    asm volatile("{\n.reg .pred is;\nsetp.ne.u32 is, %1, 0;\n@is red.shared.add.u32 [%0], 1;\n}" ::"r"(
                     histogram + 4 * ((keys[i] - lowest) >> shift)),
                 "r"(keys[i])
                 : "memory");
  }
  team.sync();
  const int best = kBins - 1 - kBinsEach * team.thread;
  unsigned here[kBinsEach], mine = 0, total = 0;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) {
    here[i] = shared.histogram[best - i];
    shared.histogram[best - i] = 0;
    mine += here[i];
  }
  unsigned above = scan(team, shared, mine, total);
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) {
    if (above < static_cast<unsigned>(wanted) && static_cast<unsigned>(wanted) <= above + here[i]) {
      shared.digit = best - i;
      shared.wanted = wanted - static_cast<int>(above);
      shared.inside = static_cast<int>(here[i]);
    }
    above += here[i];
  }
  team.sync();
  const u32 digit = static_cast<u32>(shared.digit);
  const int inside = shared.inside, rest = shared.wanted;
  if (inside == rest || shift == 0) return {lowest + (digit << shift), inside != rest, rest};
  if (inside > kThreads) {
    const auto each = [&](const auto& visit) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (keys[i] != 0) visit(keys[i]);
      }
    };
    bool tied = false;
    const u32 key = kth_best<u32>(team, shared, each, wanted, tied);
    return {key, tied, shared.wanted};
  }
  // The keys of the bin, one a thread.
  u32* const list = shared.bitmap;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (keys[i] != 0 && (keys[i] - lowest) >> shift == digit) list[atomicAdd(&shared.last, 1)] = keys[i];
  }
  team.sync();
  const u32 own = team.thread < inside ? list[team.thread] : 0;
  const auto each = [&](const auto& visit) {
    if (own != 0) visit(own);
  };
  bool tied = false;
  const u32 key = kth_best<u32>(team, shared, each, rest, tied);
  return {key, tied, shared.wanted};
}

/// Rows of few columns: a block holds a row's ranks in registers, column i * kThreads + t with thread t. The k-th best
/// is found among all of them, and what reaches it goes to its place in the order of columns.
template <int kEach, Short kKind>
__global__ void __launch_bounds__(kThreads, kEach <= 16 ? 3 : 2)
    select_short_kernel(__grid_constant__ const Task task, int log_length) {
  __shared__ Shared shared;
  __shared__ unsigned counts[kEach * kWarps];  // of columns that are taken, and from bit 16 on of those that are tied
  static_assert(kEach * kWarps <= kThreads && kEach * kThreads < 1 << 16);
  constexpr bool kListed = kKind == Short::list;
  const Team team{static_cast<int>(threadIdx.x), 0};
  const int warp = team.thread / 32, lane = team.thread % 32;
  const u32 lanes_before = (1u << lane) - 1;
  const i64 m = blockIdx.x;
  const float* const scores = &task.logits(m, team.thread);
  const int begin = task.windows.begin[m], width = static_cast<int>(task.logits.shape[1]);
  const int seen_tokens = max(0, task.windows.end[m] - begin), count = kListed ? width : min(width, seen_tokens);
  const i32* const runs = kListed ? &task.columns.runs(m, 0) : nullptr;
  const i64 offset = kListed ? static_cast<i64>(task.columns.origin[m]) - begin : 0;
  /// Counted from the row's begin.
  const auto token_of = [&](int column) -> i64 {
    return offset + (static_cast<i64>(runs[column >> log_length]) << log_length) + (column & ((1 << log_length) - 1));
  };
  for (int i = team.thread; i < kBins; i += kThreads) shared.histogram[i] = 0;
  if (team.thread == 0) {
    shared.count = shared.last = 0;
    shared.highest = 0;
    shared.lowest = ~0u;
  }

  u32 keys[kEach];  // ranks from 1 on; 0: not to be chosen
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    keys[i] = i * kThreads + team.thread < count ? __float_as_uint(__ldg(scores + i * kThreads)) : 0;
  }
  int mine = 0;
  u32 highest = 0, lowest = ~0u;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int column = i * kThreads + team.thread;
    bool seen = column < count;
    if constexpr (kListed) {
      // A run of -1 is behind all others.
      const u32 run = seen ? static_cast<u32>(__ldg(runs + (column >> log_length))) : ~0u;
      const i64 token = offset + (static_cast<i64>(run) << log_length) + (column & ((1 << log_length) - 1));
      seen = token >= 0 && token < seen_tokens;
    }
    keys[i] = seen ? rank_of(__uint_as_float(keys[i])) + 1 : 0;
    if (kKind == Short::window_with_ends && seen && (column == 0 || column == count - 1)) keys[i] = kForced;
    mine += seen ? 1 : 0;
    highest = max(highest, keys[i]);
    lowest = min(lowest, keys[i] - 1);
  }
  mine = __reduce_add_sync(kWarp, mine);
  highest = __reduce_max_sync(kWarp, highest);
  lowest = __reduce_min_sync(kWarp, lowest);
  team.sync();
  if (lane == 0) {
    atomicAdd(&shared.count, mine);
    atomicMax(&shared.highest, highest);
    atomicMin(&shared.lowest, lowest);
  }
  team.sync();
  const int visible = shared.count, k = static_cast<int>(min(task.selected.shape[1], i64{kEach} * kThreads));
  highest = shared.highest;
  lowest = shared.lowest + 1;
  Cut cut{1, false, 0};
  if (visible > k) cut = find_cut(team, shared, keys, lowest, highest, k);

  const auto store = [&](int column, int place) {
    task.selected(m, place) = kListed ? static_cast<i32>(token_of(column)) : column;
  };
  if (!cut.tied) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const u32 taken = __ballot_sync(kWarp, keys[i] >= cut.key);
      if (lane == 0) counts[i * kWarps + warp] = static_cast<unsigned>(__popc(taken));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const u32 taken = __ballot_sync(kWarp, keys[i] > cut.key), same = __ballot_sync(kWarp, keys[i] == cut.key);
      if (lane == 0) counts[i * kWarps + warp] = static_cast<unsigned>(__popc(taken) | __popc(same) << 16);
    }
  }
  team.sync();
  unsigned total = 0;
  const bool counts_here = team.thread < kEach * kWarps;
  const unsigned before = scan(team, shared, counts_here ? counts[team.thread] : 0, total);
  if (counts_here) counts[team.thread] = before;
  team.sync();
  if (!cut.tied) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const bool is = keys[i] >= cut.key;
      const u32 taken = __ballot_sync(kWarp, is);
      const int place = static_cast<int>(counts[i * kWarps + warp]) + __popc(taken & lanes_before);
      if (is) store(i * kThreads + team.thread, place);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const bool above = keys[i] > cut.key, equal = keys[i] == cut.key;
      const u32 taken = __ballot_sync(kWarp, above), same = __ballot_sync(kWarp, equal);
      const unsigned from = counts[i * kWarps + warp];
      const int tie = static_cast<int>(from >> 16) + __popc(same & lanes_before);
      const int place = static_cast<int>(from & 0xffffu) + __popc(taken & lanes_before) + min(tie, cut.ties);
      if (above || (equal && tie < cut.ties)) store(i * kThreads + team.thread, place);
    }
  }
  for (i64 i = min(visible, k) + team.thread; i < task.selected.shape[1]; i += kThreads) task.selected(m, i) = -1;
}

template <Short kKind>
void launch_short(const Task& task, int log_length, cudaStream_t stream) {
  const i64 width = task.logits.shape[1];
  const auto kernel = width <= 4 * kThreads    ? select_short_kernel<4, kKind>
                      : width <= 8 * kThreads  ? select_short_kernel<8, kKind>
                      : width <= 16 * kThreads ? select_short_kernel<16, kKind>
                                               : select_short_kernel<32, kKind>;
  kernel<<<static_cast<unsigned>(task.logits.shape[0]), kThreads, 0, stream>>>(task, log_length);
}

/// Whether kernels for rows of few columns take it.
bool is_short(const Task& task) {
  const i64 width = task.logits.shape[1];
  if (width == 0 || width > 32 * kThreads || task.logits.stride[1] != 1) return false;
  return !task.columns.listed || (!task.force_ends && std::has_single_bit(static_cast<u64>(task.columns.length)));
}

void select_short(const Task& task, cudaStream_t stream) {
  const int log_length = std::countr_zero(static_cast<u64>(task.columns.length));
  (task.columns.listed ? launch_short<Short::list>
   : task.force_ends   ? launch_short<Short::window_with_ends>
                       : launch_short<Short::window>)(task, log_length, stream);
}

__global__ void __launch_bounds__(kThreads) select_slowly_kernel(__grid_constant__ const Task task) {
  __shared__ Shared shared;
  select_from_row(Team{static_cast<int>(threadIdx.x), 0}, shared, task, blockIdx.x);
}

}  // namespace

void select(const SelectTask& given, int processors, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(given.logits);
  if (given.selected.size() == 0) return;
  const i64 rows = given.selected.shape[0], width = logits.shape[1], k = given.selected.shape[1];
  Task task{logits, given.windows, columns_of(given.candidates), given.force_ends, given.selected, 0, 0};

  if (is_short(task)) {
    select_short(task, stream);
    return check(cudaGetLastError(), "select");
  }

  // The more samples, the less room for what a guess lets through: four deviations more than is expected.
  constexpr i64 kRooms[] = {6144, 11264, 20480};
  const auto need = [&](i64 samples) {
    const double expected = static_cast<double>(k * samples) / static_cast<double>(std::max<i64>(width, 1));
    const double rank = expected + 4 * std::sqrt(expected) + 4;
    return static_cast<double>(k) * (rank + 4 * std::sqrt(rank)) / expected;
  };
  if (width == 0 || k + k / 3 > kRooms[2]) {
    select_slowly_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(task);
    return check(cudaGetLastError(), "select");
  }
  task.samples = need(kMostSamples / 2) <= kRooms[0] ? kMostSamples / 2 : kMostSamples;
  const double least = need(task.samples);
  task.room = static_cast<int>(least <= kRooms[0] ? kRooms[0] : least <= kRooms[1] ? kRooms[1] : kRooms[2]);
  const bool picky = task.columns.listed || task.force_ends;
  const auto bytes_of = [&](int vectors, int buffers) { return 16 * vectors * kThreads + 8 * buffers * task.room; };
  // A block that takes rows in turn is best with several, and long ones.
  if (rows >= 2 * processors && width > 32768 && task.room <= kRooms[1]) {
    const int buffers = task.room == kRooms[0] ? 2 : 1, bytes = bytes_of(12, buffers);
    const auto kernel = picky ? select_many_kernel<true, 4, 3> : select_many_kernel<false, 4, 3>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "select: shared memory");
    kernel<<<static_cast<unsigned>(std::min<i64>(rows, processors)), 2 * kThreads, static_cast<std::size_t>(bytes),
             stream>>>(task, buffers);
    return check(cudaGetLastError(), "select");
  }
  const int together = task.room == kRooms[0] ? 2 : 1;
  // Clusters of eight leave many a processor without one.
  i64 blocks = 1;
  const auto fit = [&](i64 more) { return more * rows <= (more == 8 ? processors / 2 : processors); };
  while (blocks < 8 && fit(2 * blocks) && width >= 8192 * blocks) blocks *= 2;
  const bool alone = task.room != kRooms[2] && (together == 1 || rows * blocks <= processors);
  const auto kernel = alone ? (picky ? select_few_kernel<true, 4, 3> : select_few_kernel<false, 4, 3>)
                            : (picky ? select_few_kernel<true, 2, 2> : select_few_kernel<false, 2, 2>);
  const int bytes = bytes_of(alone ? 12 : 4, 1);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "select: shared memory");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(rows * blocks);
  config.blockDim = kThreads;
  config.dynamicSmemBytes = static_cast<std::size_t>(bytes);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, task), "select");
}

}  // namespace misa::cuda
