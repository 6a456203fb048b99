// The k best columns of each row: higher score, then lower token; NaN last, -0 equals +0; ascending, -1 pads
//
// A block takes a row. A sample of the row gives a score that some more than k others exceed; one pass over the row
// keeps those in shared memory, a radix selection among them finds the k best, and a bitmap puts them in order. Every
// guess is checked: with fewer than k above it the row's ties at that score are counted in order, and a guess that was
// too high, or too low for the room there is, is made again, at last by a radix selection over the whole row.
// Bound by memory: one read of the scores.

#include <algorithm>
#include <cub/block/block_scan.cuh>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/keys.cuh"

namespace misa::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kBins = 2048, kBitmapWords = 4096, kSamples = 4096, kGroup = 8, kTries = 4;

__device__ inline float score_of(u32 rank) {
  return __uint_as_float((rank & 0x80000000u) != 0 ? rank & 0x7fffffffu : ~rank);
}

/// Better columns have larger ones; no two are equal.
__device__ inline u64 entry_of(u32 rank, u32 column) { return (u64{rank} << 32) | (0xffffffffu - column); }
__device__ inline u32 column_of(u64 entry) { return 0xffffffffu - static_cast<u32>(entry); }

/// A row, whatever its columns and scores: four passes find the k-th best score byte by byte, a fifth writes what is
/// above it and the first of those that equal it, in order. No buffer that could overflow.
__device__ void select_from_row(const View<const float, 2>& logits, const Windows& windows, const Columns& columns,
                                bool force_ends, const View<i32, 2>& selected, i64 m) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  __shared__ unsigned histogram[256];
  __shared__ u32 prefix;
  __shared__ i64 wanted;
  __shared__ int first, last, visible;
  const i64 k = selected.shape[1];
  const int count = static_cast<int>(logits.shape[1]);
  const auto token = [&](int column) { return columns.token(windows, m, column); };

  if (threadIdx.x == 0) {
    first = count;
    last = -1;
    visible = 0;
    prefix = 0;
  }
  __syncthreads();
  for (int c = threadIdx.x; c < count; c += kThreads) {
    if (token(c) < 0) continue;
    atomicMin(&first, c);
    atomicMax(&last, c);
    atomicAdd(&visible, 1);
  }
  __syncthreads();
  const auto rank = [&](int c) {
    return force_ends && (c == first || c == last) ? rank_of(INFINITY) : rank_of(logits(m, c));
  };
  if (threadIdx.x == 0) wanted = k < visible ? k : visible;
  __syncthreads();
  const bool all = visible <= k;

  // The rank of the k-th best, most significant byte first; `wanted` is how many of those that share it are needed.
  for (int shift = 24; shift >= 0 && !all; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kThreads) histogram[i] = 0;
    __syncthreads();
    const u32 mask = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    for (int c = threadIdx.x; c < count; c += kThreads) {
      if (token(c) < 0) continue;
      const u32 one = rank(c);
      if ((one & mask) == prefix) atomicAdd(&histogram[(one >> shift) & 255], 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int byte = 255;
      for (; histogram[byte] < wanted; --byte) wanted -= histogram[byte];
      prefix |= static_cast<u32>(byte) << shift;
    }
    __syncthreads();
  }

  int written = 0, ties = 0;
  const u32 kth = prefix;
  for (int base = 0; base < count; base += kThreads) {
    const int c = base + static_cast<int>(threadIdx.x);
    const i64 id = c < count ? token(c) : -1;
    const u32 one = id >= 0 ? rank(c) : 0;
    const bool tied = id >= 0 && !all && one == kth;
    int tie = 0, tied_here = 0, place = 0, placed_here = 0;
    Scan(storage).ExclusiveSum(tied ? 1 : 0, tie, tied_here);
    __syncthreads();
    const bool taken = id >= 0 && (all || one > kth || (tied && ties + tie < wanted));
    Scan(storage).ExclusiveSum(taken ? 1 : 0, place, placed_here);
    __syncthreads();
    if (taken) selected(m, written + place) = static_cast<i32>(id - windows.begin[m]);
    ties += tied_here;
    written += placed_here;
  }
  for (i64 i = written + threadIdx.x; i < k; i += kThreads) selected(m, i) = -1;
}

/// What a block keeps of its row.
struct Shared {
  unsigned histogram[kBins];
  u32 bitmap[kBitmapWords];
  unsigned warp_sums[kWarps];
  int count, digit, wanted, inside, first, last;
  u64 largest;
};

/// Sum of `value` over the threads before this one; `total` over all. A barrier at the end.
__device__ unsigned scan(Shared& shared, unsigned value, unsigned& total) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned sum = value;
  for (unsigned step = 1; step < 32; step *= 2) {
    const unsigned before = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += before;
  }
  if (lane == 31) shared.warp_sums[warp] = sum;
  __syncthreads();
  unsigned before = 0, all = 0;
#pragma unroll
  for (unsigned i = 0; i < kWarps; ++i) {
    const unsigned one = shared.warp_sums[i];
    before += i < warp ? one : 0;
    all += one;
  }
  total = all;
  __syncthreads();
  return before + sum - value;
}

/// An entry that exactly `wanted` of the `count` reach, 1 <= wanted <= count.
__device__ u64 kth_best(Shared& shared, const u64* entries, int count, int wanted) {
  if (threadIdx.x == 0) shared.largest = 0;
  u64 largest = 0, smallest = ~u64{0};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    largest = max(largest, entries[i]);
    smallest = min(smallest, entries[i]);
  }
  __syncthreads();
  // The bits in which entries differ begin where the largest and the smallest do.
  const u64 base = [&] {
    __shared__ u64 low;
    if (threadIdx.x == 0) low = ~u64{0};
    __syncthreads();
    for (unsigned step = 16; step > 0; step /= 2) {
      largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, step));
      smallest = min(smallest, __shfl_xor_sync(0xffffffffu, smallest, step));
    }
    if (threadIdx.x % 32 == 0) {
      atomicMax(reinterpret_cast<unsigned long long*>(&shared.largest), static_cast<unsigned long long>(largest));
      atomicMin(reinterpret_cast<unsigned long long*>(&low), static_cast<unsigned long long>(smallest));
    }
    __syncthreads();
    return low;
  }();
  int top = 64 - __clzll(static_cast<i64>(shared.largest - base));  // bits still open
  u64 prefix = 0;
  for (;;) {
    const int shift = max(0, top - 11);
    for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) shared.histogram[i] = 0;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
      const u64 value = entries[i] - base;
      if (top >= 64 || value >> top == prefix) atomicAdd(&shared.histogram[(value >> shift) & (kBins - 1)], 1u);
    }
    __syncthreads();
    constexpr int kEach = kBins / kThreads;
    const int highest = kBins - 1 - kEach * static_cast<int>(threadIdx.x);
    unsigned mine = 0, total = 0;
    for (int i = 0; i < kEach; ++i) mine += shared.histogram[highest - i];
    unsigned above = scan(shared, mine, total);
    for (int i = 0; i < kEach; ++i) {
      const unsigned here = shared.histogram[highest - i];
      if (above < static_cast<unsigned>(wanted) && static_cast<unsigned>(wanted) <= above + here) {
        shared.digit = highest - i;
        shared.wanted = wanted - static_cast<int>(above);
        shared.inside = static_cast<int>(here);
      }
      above += here;
    }
    __syncthreads();
    prefix = (top >= 64 ? 0 : prefix << (top - shift)) | static_cast<u64>(shared.digit);
    wanted = shared.wanted;
    const bool done = shared.inside == wanted || shift == 0;
    __syncthreads();
    if (done) return base + (prefix << shift);
    top = shift;
  }
}

/// A score that about `room` columns of the row exceed, more than k as far as a sample can tell.
__device__ u32 guess(Shared& shared, u64* sample, const float* row, int count, int rank) {
  const int groups = kSamples / kGroup;
  for (int i = static_cast<int>(threadIdx.x); i < groups; i += kThreads) {
    const int at = static_cast<int>(static_cast<i64>(count - kGroup) * i / (groups - 1));
    for (int j = 0; j < kGroup; ++j) sample[i * kGroup + j] = entry_of(rank_of(row[at + j]), i * kGroup + j);
  }
  __syncthreads();
  const u64 found = kth_best(shared, sample, kSamples, rank);
  // The entry itself may be no sample's: the smallest that reaches it is.
  __shared__ u32 smallest;
  if (threadIdx.x == 0) smallest = 0xffffffffu;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSamples; i += kThreads) {
    if (sample[i] >= found) atomicMin(&smallest, static_cast<u32>(sample[i] >> 32));
  }
  __syncthreads();
  return smallest;
}

/// Puts the columns above `bar` into `kept`, as far as there is room; returns how many there are.
__device__ int keep_above(Shared& shared, u64* kept, int room, const float* row, int count, float bar) {
  if (threadIdx.x == 0) shared.count = 0;
  __syncthreads();
  const auto keep = [&](float score, int column) {
    if (!(score > bar)) return;
    const int place = atomicAdd(&shared.count, 1);
    if (place < room) kept[place] = entry_of(rank_of(score), static_cast<u32>(column));
  };
  const int head = min(count, static_cast<int>((16 - reinterpret_cast<std::uintptr_t>(row) % 16) % 16 / 4));
  const int vectors = (count - head) / 4;
  const float4* body = reinterpret_cast<const float4*>(row + head);
  constexpr int kUnroll = 4;
  int v = static_cast<int>(threadIdx.x);
  for (; v + (kUnroll - 1) * kThreads < vectors; v += kUnroll * kThreads) {
    float4 four[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) four[u] = __ldcs(body + v + u * kThreads);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const float4& f = four[u];
      if (!(f.x > bar || f.y > bar || f.z > bar || f.w > bar)) continue;
      const int column = head + 4 * (v + u * kThreads);
      keep(f.x, column);
      keep(f.y, column + 1);
      keep(f.z, column + 2);
      keep(f.w, column + 3);
    }
  }
  for (; v < vectors; v += kThreads) {
    const float4 f = __ldcs(body + v);
    const int column = head + 4 * v;
    keep(f.x, column);
    keep(f.y, column + 1);
    keep(f.z, column + 2);
    keep(f.w, column + 3);
  }
  if (static_cast<int>(threadIdx.x) < head) keep(row[threadIdx.x], static_cast<int>(threadIdx.x));
  const int tail = head + 4 * vectors + static_cast<int>(threadIdx.x);
  if (tail < count) keep(row[tail], tail);
  __syncthreads();
  const int found = shared.count;
  __syncthreads();
  return found;
}

/// Appends the first columns that score exactly `bar` until `kept` holds `wanted`; returns how many it holds.
__device__ int keep_ties(Shared& shared, u64* kept, int held, int wanted, const float* row, int count, float bar) {
  constexpr int kEach = 4;
  for (int base = 0; base < count && held < wanted; base += kThreads * kEach) {
    const int from = base + kEach * static_cast<int>(threadIdx.x);
    unsigned mine = 0, total = 0;
    for (int i = from; i < min(count, from + kEach); ++i) mine += row[i] == bar ? 1 : 0;
    int place = held + static_cast<int>(scan(shared, mine, total));
    for (int i = from; i < min(count, from + kEach); ++i) {
      if (row[i] != bar) continue;
      if (place < wanted) kept[place] = entry_of(rank_of(bar), static_cast<u32>(i));
      ++place;
    }
    held = min(wanted, held + static_cast<int>(total));
  }
  __syncthreads();
  return held;
}

__global__ void __launch_bounds__(kThreads, 3)
    select_kernel(View<const float, 2> logits, Windows windows, Columns columns, bool force_ends, View<i32, 2> selected,
                  int room) {
  extern __shared__ u64 kept[];
  __shared__ Shared shared;
  const i64 m = blockIdx.x;
  const int k = static_cast<int>(selected.shape[1]), width = static_cast<int>(logits.shape[1]);
  const float* row = &logits(m, 0);
  const int visible = max(0, min(width, windows.end[m] - windows.begin[m]));
  const int scanned = columns.listed ? width : visible;
  int held = 0;

  if (scanned <= room) {  // all fit
    if (threadIdx.x == 0) {
      shared.count = 0;
      shared.first = width;
      shared.last = -1;
    }
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < scanned; c += kThreads) {
      if (columns.listed && columns.token(windows, m, c) < 0) continue;
      kept[atomicAdd(&shared.count, 1)] = entry_of(rank_of(row[c]), static_cast<u32>(c));
      if (force_ends) {
        atomicMin(&shared.first, c);
        atomicMax(&shared.last, c);
      }
    }
    __syncthreads();
    held = shared.count;
    for (int i = static_cast<int>(threadIdx.x); i < held && force_ends; i += kThreads) {
      const int column = static_cast<int>(column_of(kept[i]));
      if (column == shared.first || column == shared.last) kept[i] = entry_of(rank_of(INFINITY), column_of(kept[i]));
    }
    __syncthreads();
  } else {
    const float expected = static_cast<float>(k) * kSamples / static_cast<float>(scanned);
    int rank = static_cast<int>(expected + 4 * sqrtf(expected)) + 4;
    bool found = false;
    for (int tries = 0; tries < kTries && !found && !columns.listed && !force_ends; ++tries) {
      rank = max(1, min(rank, kSamples));
      const u32 guessed = guess(shared, kept, row, scanned, rank);
      if (guessed == 0) break;  // NaN
      const float bar = score_of(guessed);
      held = keep_above(shared, kept, room, row, scanned, bar);
      if (held > room) {
        rank /= 2;
        continue;
      }
      if (held < k) held = keep_ties(shared, kept, held, k, row, scanned, bar);
      found = held >= k;
      rank *= 2;
    }
    if (!found) return select_from_row(logits, windows, columns, force_ends, selected, m);
  }

  const u64 bar = held > k ? kth_best(shared, kept, held, k) : 0;
  // In order, a bitmap of columns at a time.
  constexpr int kSpan = 32 * kBitmapWords, kEach = kBitmapWords / kThreads;
  int written = 0;
  for (int base = 0; base < scanned; base += kSpan) {
    for (int i = static_cast<int>(threadIdx.x); i < kBitmapWords; i += kThreads) shared.bitmap[i] = 0;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < held; i += kThreads) {
      const int column = static_cast<int>(column_of(kept[i])) - base;
      if (kept[i] >= bar && column >= 0 && column < kSpan) atomicOr(&shared.bitmap[column / 32], 1u << (column % 32));
    }
    __syncthreads();
    const int from = kEach * static_cast<int>(threadIdx.x);
    unsigned mine = 0, total = 0;
    for (int i = 0; i < kEach; ++i) mine += static_cast<unsigned>(__popc(shared.bitmap[from + i]));
    int place = written + static_cast<int>(scan(shared, mine, total));
    for (int i = 0; i < kEach; ++i) {
      for (u32 word = shared.bitmap[from + i]; word != 0; word &= word - 1) {
        const int column = base + 32 * (from + i) + __ffs(static_cast<int>(word)) - 1;
        selected(m, place++) =
            columns.listed ? static_cast<i32>(columns.token(windows, m, column) - windows.begin[m]) : column;
      }
    }
    written += static_cast<int>(total);
    __syncthreads();
  }
  for (int i = written + static_cast<int>(threadIdx.x); i < k; i += kThreads) selected(m, i) = -1;
}

__global__ void __launch_bounds__(kThreads)
    select_slowly_kernel(View<const float, 2> logits, Windows windows, Columns columns, bool force_ends,
                         View<i32, 2> selected) {
  select_from_row(logits, windows, columns, force_ends, selected, blockIdx.x);
}

}  // namespace

void select(const SelectTask& task, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  if (task.selected.size() == 0) return;
  const unsigned rows = static_cast<unsigned>(task.selected.shape[0]);
  // Room for what a guess lets through, most of the time; never for less than the sample.
  constexpr i64 kMostRoom = 24576;
  const i64 room = std::max<i64>(kSamples, (logits.shape[1] > 262144 ? 6 : 3) * task.selected.shape[1]);
  if (logits.shape[1] == 0 || task.selected.shape[1] > kMostRoom / 2) {
    select_slowly_kernel<<<rows, kThreads, 0, stream>>>(logits, task.windows, columns_of(task.candidates),
                                                        task.force_ends, task.selected);
  } else {
    const i64 bytes = std::min(room, kMostRoom) * 8;
    check(cudaFuncSetAttribute(select_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
          "select: shared memory");
    select_kernel<<<rows, kThreads, static_cast<std::size_t>(bytes), stream>>>(
        logits, task.windows, columns_of(task.candidates), task.force_ends, task.selected, static_cast<int>(bytes / 8));
  }
  check(cudaGetLastError(), "select");
}

}  // namespace misa::cuda
