#pragma once

#include <cmath>

#include "backends/cuda/select/stream.cuh"

// The search of a row by a sample: a score that some more than k others exceed, what is above it, and the k best of
// that
//
// Every guess is checked: with fewer than k above it the row's ties at that score are counted in order, and a guess
// that was too high, or too low for the room there is, is made again, at last by a radix selection over the whole row.

namespace misa::cuda::topk {

constexpr int kMostSamples = 8192, kGroup = 4, kTries = 4;

/// A column and its score's rank: better columns have larger ones, and no two are equal.
__device__ inline u64 entry_of(u32 rank, int column) { return (u64{rank} << 32) | ~static_cast<u32>(column); }
__device__ inline int column_of(u64 entry) { return static_cast<int>(~static_cast<u32>(entry)); }

/// The rank of a score that about `wanted` of a sample of `size` columns exceed, not below that of -inf; `tied` where
/// many columns may have that score. `size` is a power of two from kThreads.
template <bool kPicky>
__device__ __forceinline__ u32 guess(const Block& team, Shared& shared, const Row<kPicky>& row, int size, int wanted,
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

/// Puts the columns of a piece that score above `bar` into `kept`, as far as there is room, and adds how many there
/// are to `count`. The piece is that of the columns from `from` to `to`, and the next in the stream.
template <int kVectors, int kStages, class PieceOf, bool kPicky>
__device__ __forceinline__ void keep_above(const Block& team, Stream<kVectors, kStages, PieceOf>& stream, int& count,
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
__device__ __forceinline__ int keep_ties(const Block& team, Shared& shared, u64* kept, int held, int wanted,
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
  __device__ __forceinline__ Bar bar(const Block& team, Shared& shared, const Row<kPicky>& row) const {
    if (row.count <= whole) return {kLowest, true};
    Bar bar{};
    bar.rank = guess(team, shared, row, size, max(1, static_cast<int>(min(rank, static_cast<float>(size)))), bar.tied);
    bar.tied |= bar.rank == kLowest;
    return bar;
  }
};

/// Selects from a row of which `kept` holds all that is above `bar`, if `held` are no more than there is room for.
template <bool kPicky>
__device__ __forceinline__ void finish(const Block& team, Shared& shared, u64* kept, int held, Bar bar, Guess how,
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

}  // namespace misa::cuda::topk
