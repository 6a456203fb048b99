#pragma once

#include <cmath>
#include <cstdint>

#include "backends/cuda/select/stream.cuh"

// The search of a row by a sample of its scores
//
// The sample gives a threshold that some more than k columns exceed. Only columns above it are kept and compared with
// one another. A kernel that has a bit for each column takes a second threshold, which some fewer than k columns
// exceed: it marks columns above that one at once, and keeps only those between the two.
//
// Every guess is checked. If fewer than k columns are above the threshold, ties at it are counted in order. A guess
// that was too high or too low is made again, and at last a radix selection reads the whole row.

namespace misa::cuda::topk {

constexpr int kMostSamples = 8192, kGroup = 8, kTries = 4;
constexpr float kDeviations = 5;  // of a number of samples, to each side of what is wanted

/// A column and its score's rank: better columns have larger ones, and no two are equal.
__device__ inline u64 entry_of(u32 rank, int column) { return (u64{rank} << 32) | ~static_cast<u32>(column); }
__device__ inline int column_of(u64 entry) { return static_cast<int>(~static_cast<u32>(entry)); }

/// Says what a search takes: columns above `sure` are selected, and those from it down to above `rank` may be.
/// Ties at `rank` may be wanted where `tied`.
struct Bar {
  u32 rank, sure;
  bool tied;
};

/// How many columns are above Bar::sure, and how many below it and above Bar::rank.
struct Found {
  int sure, open;
};

/// Guesses a bar from a sample of `size` columns, a power of two from kThreads: about `high` of the sample are above
/// its rank, which is not below that of -inf, and about `low` above what is sure; none where `low` is below 1.
///
/// One histogram, of scores from the least to the best of the sample, is enough unless too many share a bin.
template <class Row>
__device__ __forceinline__ Bar guess(const Block& team, Shared& shared, const Row& row, int size, float low,
                                     float high) {
  constexpr int kEach = kMostSamples / kThreads;
  const int edge = static_cast<int>((32 - reinterpret_cast<std::uintptr_t>(row.scores) % 32) % 32 / 4);
  const u32 span = static_cast<u32>(row.count - edge - kGroup);
  const int log_groups = 31 - __clz(size / kGroup), thread = team.thread;
  // A thread has four columns in a row of each group that it takes part in, and two threads share a group.
  const auto column_of_sample = [&](int i) {
    const u32 vector = static_cast<u32>(thread + i / 4 * kThreads), group = vector / 2;
    const u32 column = static_cast<u32>(static_cast<u64>(span) * group >> log_groups) / kGroup * kGroup;
    return edge + static_cast<int>(column + vector % 2 * 4) + i % 4;
  };
  const auto is_there = [&](int i) { return 4 * (thread + i / 4 * kThreads) < size; };
  float scores[kEach];
#pragma unroll
  for (int i = 0; i < kEach; i += 4) {
    const float4 four = is_there(i) ? __ldg(reinterpret_cast<const float4*>(row.scores + column_of_sample(i)))
                                    : make_float4(NAN, NAN, NAN, NAN);
    scores[i] = four.x, scores[i + 1] = four.y, scores[i + 2] = four.z, scores[i + 3] = four.w;
  }
  if (Row::kIsPicky) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (is_there(i) && row.passes_over(column_of_sample(i))) scores[i] = NAN;
    }
  }
  const auto each = [&](const auto& visit) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (is_there(i)) visit(scores[i]);
    }
  };

  if (thread == 0) {
    shared.highest = 0;
    shared.lowest = kHighest;
    shared.inside = kMostSamples;
    shared.digit = 0;
    shared.first = shared.last = 0;
  }
  team.sync();
  u32 highest = 0, lowest = kHighest;
  each([&](float score) {
    const u32 rank = rank_of(score);
    highest = max(highest, rank);
    lowest = min(lowest, rank == 0 ? kHighest : rank);
  });
  highest = __reduce_max_sync(kWarp, highest);
  lowest = __reduce_min_sync(kWarp, lowest);
  if (thread % 32 == 0) {
    atomicMax(&shared.highest, highest);
    atomicMin(&shared.lowest, lowest);
  }
  team.sync();
  const float least = score_of(shared.lowest), width = (score_of(shared.highest) - least) / kBins;
  const int wanted = static_cast<int>(high), sure = static_cast<int>(low);
  Bar bar{kLowest, kHighest, true};
  bool is_sure = sure < 1;  // whether bar.sure is what it shall be
  if (width > 0 && width < INFINITY && high < static_cast<float>(size)) {
    each([&](float score) {
      if (score >= least) atomicAdd(&shared.histogram[min(kBins - 1, static_cast<int>((score - least) / width))], 1u);
    });
    team.sync();
    read_histogram(team, shared, [&](int digit, int above, int here) {
      if (above < wanted && wanted <= above + here) {
        shared.digit = digit;
        shared.inside = here;
      }
      if (above < sure && sure <= above + here) {
        shared.first = digit + 1;
        shared.last = here;
      }
    });
    team.sync();
    const auto edge_of = [&](int bin) { return rank_of(fmaf(static_cast<float>(bin), width, least)); };
    const int most = max(2, (wanted - sure) / 8);
    if (sure >= 1 && shared.last <= most) {
      bar.sure = edge_of(shared.first);
      is_sure = true;
    }
    if (is_sure && shared.inside <= most) return {edge_of(shared.digit), bar.sure, false};
  }

  const auto each_rank = [&](const auto& visit) { each([&](float score) { visit(rank_of(score)); }); };
  if (high < static_cast<float>(size)) {
    const u32 found = kth_best<u32>(team, shared, each_rank, max(1, wanted), bar.tied);
    bar.rank = max(kLowest, bar.tied || found <= kLowest ? found : rank_below(found));
    bar.tied |= bar.rank == kLowest;
  }
  if (!is_sure) {
    const u32 least_rank = bar.rank == kLowest ? 0 : bar.rank;
    const auto each_above = [&](const auto& visit) {
      each_rank([&](u32 rank) {
        if (rank >= least_rank) visit(rank);
      });
    };
    bool tied = false;
    bar.sure = kth_best<u32>(team, shared, each_above, sure, tied);
  }
  bar.sure = max(bar.sure, bar.rank);
  return bar;
}

/// Holds what a search finds: up to `room` candidates, and a bit for each column that is selected for sure.
struct Places {
  u64* kept;
  u32* marks;
  int room;

  __device__ __forceinline__ void mark(int column) const { atomicOr(&marks[column / 32], 1u << (column % 32)); }
};

/// Marks or keeps a column if it is above the bar, and counts it.
template <class Row>
__device__ __forceinline__ void take(int& sure, int& open, Places places, const Row& row, int column, Bar bar) {
  const float score = row.scores[column];
  if (!(score > score_of(bar.rank)) || row.passes_over(column)) return;
  if (score > score_of(bar.sure)) {
    places.mark(column);
    atomicAdd(&sure, 1);
    return;
  }
  const int place = atomicAdd(&open, 1);
  if (place < places.room) places.kept[place] = entry_of(rank_of(score), column);
}

/// Marks or keeps the columns of a piece that are above the bar and adds how many there are to `sure` and `open`. The
/// piece is that of the columns from `from` to `to`, and the next in the stream.
template <int kVectors, int kStages, class PieceOf, class Row>
__device__ __forceinline__ void take_piece(const Block& team, Stream<kVectors, kStages, PieceOf>& stream, int& sure,
                                           int& open, Places places, const Row& row, int from, int to, Bar bar) {
  const Piece piece(row, from, to, true);
  const float lowest = score_of(bar.rank), highest = score_of(bar.sure);
  int marked = 0;
  stream.read(piece.vectors, [&](const float4* mine, int number, int vectors) {
    // One bit a score, the first one's highest: see above_bit.
    u32 hits = 0;
    const auto look = [&](int i) {
      const float4 four = mine[i * kThreads];
      for (const float score : {four.x, four.y, four.z, four.w}) {
        hits = __funnelshift_l(above_bit(score, lowest), hits, 1);
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
    u32 left = 0;
    for (u32 rest = hits; rest != 0;) {
      const u32 before = rest;
      const int at = next(rest);
      if (row.passes_over(first + at)) continue;
      if (scores[at] > highest) {
        places.mark(first + at);
        ++marked;
      } else {
        left |= before ^ rest;
      }
    }
    if (!__any_sync(kWarp, left != 0)) return;
    const int own = __popc(left), sum = scan_warp(own);
    int place = 0;
    if (team.thread % 32 == 31) place = atomicAdd(&open, sum);
    place = __shfl_sync(kWarp, place, 31) + sum - own;
    if (place + own > places.room) return;
    while (left != 0) {
      const int at = next(left);
      places.kept[place++] = entry_of(rank_of(scores[at]), first + at);
    }
  });
  marked = __reduce_add_sync(kWarp, marked);
  if (team.thread % 32 == 0 && marked > 0) atomicAdd(&sure, marked);
  // A few before the first vector and after the last.
  const int before = piece.head - from, t = team.thread;
  const int outside = t < before ? from + t : piece.head + 4 * piece.vectors + t - before;
  if (t < 64 && outside < to) take(sure, open, places, row, outside, bar);
}

/// Marks, or keeps from the place `held`, the first columns whose scores rank `rank` until `wanted` are held; returns
/// how many are.
template <class Row>
__device__ __forceinline__ int take_ties(const Block& team, Shared& shared, Places places, int held, int wanted,
                                         const Row& row, u32 rank) {
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
      tied[i] = __ballot_sync(kWarp, is && !(Row::kIsPicky && row.passes_over(column)));
      sum += __popc(tied[i]);
    }
    unsigned total = 0;
    int place = held + static_cast<int>(scan(team, shared, lane == 0 ? static_cast<unsigned>(sum) : 0, total));
    place = __shfl_sync(kWarp, place, 0);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int mine = place + __popc(tied[i] & ((1u << lane) - 1));
      if ((tied[i] >> lane & 1) != 0 && mine < wanted) {
        if constexpr (Row::kIsMarked)
          places.mark(from + 32 * i);
        else
          places.kept[mine] = entry_of(rank, from + 32 * i);
      }
      place += __popc(tied[i]);
    }
    held = min(wanted, held + static_cast<int>(total));
    team.sync();
  }
  return held;
}

/// How a row's bar is guessed: so that about `low` of `size` samples are sure and `high` are above its rank.
struct Guess {
  int size, whole;  ///< rows of no more columns are kept whole
  float low = 0, high;

  template <class Row>
  __device__ __forceinline__ explicit Guess(const Row& row) {
    const int k = row.wanted(), room = row.task.room;
    whole = min(room, max(4096, 2 * k));
    size = min(row.task.samples, row.count < 4 ? 0 : 1 << (29 - __clz(row.count)));
    const float expected = static_cast<float>(k) * static_cast<float>(size) / static_cast<float>(max(1, row.count));
    if constexpr (Row::kIsMarked) {
      const float margin = kDeviations * sqrtf(expected) + 4;
      low = expected - margin;
      high = expected + margin;
    } else {
      // Four deviations above what is wanted, or as far from too few as from too many.
      high =
          min(expected + 4 * sqrtf(expected) + 4, expected * sqrtf(static_cast<float>(room) / static_cast<float>(k)));
    }
  }
  template <class Row>
  __device__ __forceinline__ Bar bar(const Block& team, Shared& shared, const Row& row) const {
    if (row.count <= whole) return {kLowest, kHighest, true};
    // All columns are selected.
    if (Row::kIsMarked && row.count <= row.wanted()) return {kLowest, kLowest, true};
    return guess(team, shared, row, size, low, high);
  }
  /// Moves the guess by what was found with it.
  template <class Row>
  __device__ __forceinline__ void mend(const Row& row, Found found) {
    const float k = static_cast<float>(row.wanted()), room = static_cast<float>(row.task.room),
                sure = static_cast<float>(found.sure), open = static_cast<float>(found.open);
    if constexpr (!Row::kIsMarked) {
      high *= 0.5f * (k + room) / max(open, 1.0f);
    } else if (sure > k) {
      high = low;
      low *= 0.8f * k / sure;
    } else if (sure + open < k) {
      low = high;
      high *= 1.25f * k / max(sure + open, 1.0f);
    } else {
      const float middle = low + (high - low) * (k - sure) / open, part = 0.5f * room / open;
      low = middle - part * (middle - low);
      high = middle + part * (high - middle);
    }
  }
};

/// Selects from a row of which `places` hold what is above `bar`, if there was room for it. Leaves no mark.
template <class Row>
__device__ __forceinline__ void finish(const Block& team, Shared& shared, Places places, Found found, Bar bar,
                                       Guess how, const Row& row) {
  const View<i32, 2>& selected = row.task.selected;
  const int k = row.wanted();
  u64* const kept = places.kept;
  int held = 0;  // of `kept`
  for (int tries = 1;; ++tries) {
    if (found.sure <= k && found.open <= places.room) {
      held = found.open;
      team.sync();
      int all = found.sure + held;
      if (all < k && bar.tied) all = take_ties(team, shared, places, all, k, row, bar.rank);
      if (all < k && bar.rank == kLowest) all = take_ties(team, shared, places, all, k, row, 0);
      if constexpr (!Row::kIsMarked) held = all;
      if (all >= k || bar.rank == kLowest) break;
    }
    if constexpr (Row::kIsMarked) {
      team.sync();
      for (int i = team.thread; i < kBitmapWords; i += kThreads) places.marks[i] = 0;
    }
    if (tries == kTries) return select_from_row(team, shared, row.task, row.m);
    how.mend(row, found);
    bar = how.bar(team, shared, row);
    team.sync();
    if (team.thread == 0) shared.first = shared.count = 0;
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
        if (scores[i] > score_of(bar.rank)) {
          take(shared.first, shared.count, places, row, base + i * kThreads, bar);
        }
      }
    }
    team.sync();
    found = {shared.first, shared.count};
    team.sync();
  }

  u64 cut = 0;
  if (const int wanted = k - found.sure; held > wanted) {
    const auto each = [&](const auto& visit) {
      for (int i = team.thread; i < held; i += kThreads) visit(kept[i]);
    };
    bool tied = false;
    cut = wanted == 0 ? ~u64{0} : kth_best<u64>(team, shared, each, wanted, tied);
  }
  // In order, a bitmap of columns at a time: a warp has words of it in a row, a lane every 32nd of them.
  constexpr int kSpan = 32 * kBitmapWords, kEach = kBitmapWords / kThreads;
  int written = 0;
  for (int base = 0; base < row.count; base += kSpan) {
    for (int i = team.thread; i < held; i += kThreads) {
      const u64 entry = kept[i];
      const int column = column_of(entry) - base;
      if (entry >= cut && column >= 0 && column < kSpan) places.mark(column);
    }
    team.sync();
    const int lane = team.thread % 32, first = kEach * (team.thread - lane) + lane;
    u32 words[kEach];
    int own = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      words[i] = places.marks[first + 32 * i];
      places.marks[first + 32 * i] = 0;
      own += __popc(words[i]);
    }
    unsigned total = 0;
    int place = static_cast<int>(scan(team, shared, static_cast<unsigned>(own), total));
    place = written + __shfl_sync(kWarp, place, 0);
#pragma unroll
    for (int i = 0; i < kEach; i += 2) {
      // Two words at once: their bits are counted in the halves of one number.
      const int counts = __popc(words[i]) | __popc(words[i + 1]) << 16, sums = scan_warp(counts);
      const int both = __shfl_sync(kWarp, sums, 31), before = sums - counts;
      const auto write = [&](u32 word, int at, int column) {
        for (u32 rest = word; rest != 0; rest &= rest - 1) {
          const int one = column + __ffs(static_cast<int>(rest)) - 1;
          selected(row.m, row.first() + at++) =
              row.listed() ? static_cast<i32>(row.token(one) - row.task.windows.begin[row.m]) : row.first() + one;
        }
      };
      const int column = base + 32 * (first + 32 * i);
      write(words[i], place + (before & 0xffff), column);
      place += both & 0xffff;
      write(words[i + 1], place + (before >> 16), column + 32 * 32);
      place += both >> 16;
    }
    written += static_cast<int>(total);
    team.sync();
  }
  row.write_forced(team);
  for (int i = written + team.thread; i < k; i += kThreads) selected(row.m, row.first() + i) = -1;
}

}  // namespace misa::cuda::topk
