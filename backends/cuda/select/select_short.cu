// Rows of few columns: a block holds a row's ranks in registers, and finds the k-th best among all of them
//
// Bound by barriers and latencies.

#include <bit>

#include "backends/cuda/select/row.cuh"
#include "backends/cuda/select/select.cuh"

namespace misa::cuda::topk {
namespace {

/// What columns are to a kernel for rows of few of them. Lists are of runs whose length is a power of two.
enum class Short { window, window_with_forced, list };

/// The key of which `wanted` in a block reach it, and how many of those that equal it are wanted.
struct Cut {
  u32 key;
  bool tied;
  int ties;
};

/// The cut of `wanted` among the keys of a team, kEach of a thread, those that are not 0; they are more, and between
/// `lowest` and `highest`.
template <int kEach>
__device__ __forceinline__ Cut find_cut(const Block& team, Shared& shared, const u32 (&keys)[kEach], u32 lowest,
                                        u32 highest, int wanted) {
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
  find_digit(team, shared, wanted);
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
  __shared__ unsigned
      counts[kEach * Block::kWarps];  // of columns that are taken, and from bit 16 on of those that are tied
  static_assert(kEach * Block::kWarps <= kThreads && kEach * kThreads < 1 << 16);
  constexpr bool kListed = kKind == Short::list;
  const Block team{static_cast<int>(threadIdx.x), 0};
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

  const auto is_forced = [&](int column) {
    return kKind == Short::window_with_forced && column < count &&
           (column < task.forced_first || column >= count - task.forced_last);
  };

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
      // A run of -1 comes after all others.
      const u32 run = seen ? static_cast<u32>(__ldg(runs + (column >> log_length))) : ~0u;
      const i64 token = offset + (static_cast<i64>(run) << log_length) + (column & ((1 << log_length) - 1));
      seen = token >= 0 && token < seen_tokens;
    }
    keys[i] = seen ? rank_of(__uint_as_float(keys[i])) + 1 : 0;
    if (is_forced(column)) keys[i] = 0;  // no part of the search
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
  const int forced = kKind == Short::window_with_forced ? task.forced_first + task.forced_last : 0;
  if (visible > k)
    cut = forced < k ? find_cut(team, shared, keys, lowest, highest, k - forced) : Cut{kForced, false, 0};
  if constexpr (kKind == Short::window_with_forced) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (is_forced(i * kThreads + team.thread)) keys[i] = kForced;
    }
  }

  const auto store = [&](int column, int place) {
    task.selected(m, place) = kListed ? static_cast<i32>(token_of(column)) : column;
  };
  if (!cut.tied) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const u32 taken = __ballot_sync(kWarp, keys[i] >= cut.key);
      if (lane == 0) counts[i * Block::kWarps + warp] = static_cast<unsigned>(__popc(taken));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const u32 taken = __ballot_sync(kWarp, keys[i] > cut.key), same = __ballot_sync(kWarp, keys[i] == cut.key);
      if (lane == 0) counts[i * Block::kWarps + warp] = static_cast<unsigned>(__popc(taken) | __popc(same) << 16);
    }
  }
  team.sync();
  unsigned total = 0;
  const bool counts_here = team.thread < kEach * Block::kWarps;
  const unsigned before = scan(team, shared, counts_here ? counts[team.thread] : 0, total);
  if (counts_here) counts[team.thread] = before;
  team.sync();
  if (!cut.tied) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const bool is = keys[i] >= cut.key;
      const u32 taken = __ballot_sync(kWarp, is);
      const int place = static_cast<int>(counts[i * Block::kWarps + warp]) + __popc(taken & lanes_before);
      if (is) store(i * kThreads + team.thread, place);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const bool above = keys[i] > cut.key, equal = keys[i] == cut.key;
      const u32 taken = __ballot_sync(kWarp, above), same = __ballot_sync(kWarp, equal);
      const unsigned from = counts[i * Block::kWarps + warp];
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

}  // namespace

/// Whether kernels for rows of few columns take it.
bool is_short(const Task& task) {
  const i64 width = task.logits.shape[1];
  if (width == 0 || width > 32 * kThreads || task.logits.stride[1] != 1) return false;
  return !task.columns.listed || (task.forced() == 0 && std::has_single_bit(static_cast<u64>(task.columns.length)));
}

void select_short(const Task& task, cudaStream_t stream) {
  const int log_length = std::countr_zero(static_cast<u64>(task.columns.length));
  (task.columns.listed ? launch_short<Short::list>
   : task.forced() > 0 ? launch_short<Short::window_with_forced>
                       : launch_short<Short::window>)(task, log_length, stream);
}

}  // namespace misa::cuda::topk
