// Rows of many columns: their k best by a sample, a pass over the row, and a selection of what that lets through
//
// Many long rows: a block takes one after the other, and while half of its warps read a row the others finish the one
// before and sample the next. Else the blocks of a cluster share a row, and the first finishes it.
// Bound by memory, one read of the scores, where rows are many and long; by barriers and latencies elsewhere.

#include <cooperative_groups.h>

#include <algorithm>
#include <cmath>

#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/select/sampled.cuh"
#include "backends/cuda/select/select.cuh"

namespace misa::cuda::topk {
namespace {

namespace cg = cooperative_groups;

/// The blocks of a cluster share a row.
template <bool kPicky, int kVectors, int kStages>
__global__ void __launch_bounds__(kThreads, 2) select_few_kernel(__grid_constant__ const Task task) {
  extern __shared__ float4 ring[];
  __shared__ Shared shared;
  u64* kept = reinterpret_cast<u64*>(ring + kStages * kVectors * kThreads);
  const cg::cluster_group cluster = cg::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks()), block = static_cast<int>(cluster.block_rank());
  const Block team{static_cast<int>(threadIdx.x), 0};
  const Row<kPicky> row(task, blockIdx.x / blocks);
  const int each = (row.count + 4 * blocks - 1) / (4 * blocks) * 4;
  const int from = min(row.count, each * block), to = min(row.count, from + each);
  const auto piece_of = [&](int) { return Piece(row, from, to, true); };
  for (int i = team.thread; i < kBins; i += kThreads) shared.histogram[i] = 0;
  for (int i = team.thread; i < kBitmapWords; i += kThreads) shared.bitmap[i] = 0;
  if (team.thread == 0) shared.first = shared.count = 0;
  team.sync();

  Stream<kVectors, kStages, decltype(piece_of)> stream(ring, team.thread, piece_of);
  const Guess how(row);
  const Bar bar = how.bar(team, shared, row);
  const Places places{kept, shared.bitmap, task.room};
  take_piece(team, stream, shared.first, shared.count, places, row, from, to, bar);
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
  if (block == 0) finish(team, shared, places, {0, held}, bar, how, row);
}

/// Half of a block's warps read a row while the others finish the one before and guess the next one's bar.
template <bool kPicky, bool kMarked, int kVectors, int kStages>
__global__ void __launch_bounds__(2 * kThreads, 1) select_many_kernel(__grid_constant__ const Task task, int buffers) {
  extern __shared__ float4 ring[];
  __shared__ Shared shared;
  __shared__ u32 more_marks[kBitmapWords];
  __shared__ Found found[2];
  __shared__ Bar bars[2];
  u64* all_kept = reinterpret_cast<u64*>(ring + kStages * kVectors * kThreads);
  constexpr int kReaders = 1, kFinishers = 2, kReady = 3, kFull = 5;  // barriers
  const auto wait = [](int barrier) { group_barrier(barrier, 2 * kThreads); };
  const auto tell = [](int barrier) { group_arrive(barrier, 2 * kThreads); };
  const int rows = static_cast<int>(task.logits.shape[0]), step = static_cast<int>(gridDim.x),
            start = static_cast<int>(blockIdx.x);
  const auto places_of_turn = [&](int turn) {
    const int b = turn % buffers;
    return Places{all_kept + b * task.room, b == 0 ? shared.bitmap : more_marks, task.room};
  };
  if (threadIdx.x < kThreads) {
    shrink_registers<40>();
    const Block team{static_cast<int>(threadIdx.x), kReaders};
    const auto piece_of = [&](int i) {
      const Row<kPicky, kMarked> row(task, start + i * step);
      return Piece(row, 0, row.count, start + (i + 1) * step >= rows);
    };
    Stream<kVectors, kStages, decltype(piece_of)> stream(ring, team.thread, piece_of);
    for (int m = start, turn = 0; m < rows; m += step, ++turn) {
      const int b = turn % 2;
      const Row<kPicky, kMarked> row(task, m);
      wait(kReady + b);
      take_piece(team, stream, found[b].sure, found[b].open, places_of_turn(turn), row, 0, row.count, bars[b]);
      tell(kFull + b);
    }
  } else {
    grow_registers<88>();
    const Block team{static_cast<int>(threadIdx.x) - kThreads, kFinishers};
    for (int i = team.thread; i < kBins; i += kThreads) shared.histogram[i] = 0;
    for (int i = team.thread; i < kBitmapWords; i += kThreads) shared.bitmap[i] = more_marks[i] = 0;
    team.sync();
    for (int m = start - step, turn = -1; m < rows; m += step, ++turn) {
      const int b = turn & 1;
      if (m + step < rows) {
        const Row<kPicky, kMarked> next(task, m + step);
        const Bar bar = Guess(next).bar(team, shared, next);
        if (team.thread == 0) {
          bars[1 - b] = bar;
          found[1 - b] = {0, 0};
        }
        if (buffers == 2 || turn < 0) tell(kReady + 1 - b);
      }
      if (turn < 0) continue;
      const Row<kPicky, kMarked> row(task, m);
      wait(kFull + b);
      finish(team, shared, places_of_turn(turn), found[b], bars[b], Guess(row), row);
      team.sync();
      if (buffers == 1 && m + step < rows) tell(kReady + 1 - b);
    }
  }
}

}  // namespace

/// How many candidates a block keeps: one that shares an SM, one that has it alone, and at most; and one of two rows at
/// once.
constexpr i64 kRooms[] = {6144, 11264, 20480}, kRoomOfTwo = 5632;

bool is_sampled(const Task& task) {
  const i64 k = task.selected.shape[1];
  const bool searches = task.forced() == 0 || (!task.columns.listed && task.forced() < k);
  return task.logits.shape[1] > 0 && k + k / 3 <= kRooms[2] && searches;
}

void select_sampled(Task task, int num_sms, cudaStream_t stream) {
  const i64 rows = task.selected.shape[0], width = task.logits.shape[1], k = task.selected.shape[1];
  // A block that takes rows in turn is best with several, and long ones.
  const bool many = rows >= 2 * num_sms && width > 32768;
  const bool marked = many && width <= 32 * kBitmapWords;
  // The more samples, the less room for what a guess lets through: four deviations more than is expected.
  const auto need = [&](i64 samples) {
    const double expected = static_cast<double>(k * samples) / static_cast<double>(std::max<i64>(width, 1));
    const double found = marked ? 2 * (kDeviations * std::sqrt(expected) + 4) : expected + 4 * std::sqrt(expected) + 4;
    return static_cast<double>(k) * (found + 4 * std::sqrt(found)) / expected;
  };
  const i64 least_room = many ? kRoomOfTwo : kRooms[0];
  task.samples = need(kMostSamples / 2) <= least_room ? kMostSamples / 2 : kMostSamples;
  const double least = need(task.samples);
  task.room = static_cast<int>(marked || least <= least_room ? least_room : least <= kRooms[1] ? kRooms[1] : kRooms[2]);
  const bool picky = task.columns.listed || task.forced() > 0;
  const auto bytes_of = [&](int vectors, int buffers) { return 16 * vectors * kThreads + 8 * buffers * task.room; };
  if (many && task.room <= kRooms[1]) {
    const int buffers = task.room == kRoomOfTwo ? 2 : 1, bytes = bytes_of(12, buffers);
    const auto kernel = marked
                            ? (picky ? select_many_kernel<true, true, 4, 3> : select_many_kernel<false, true, 4, 3>)
                            : (picky ? select_many_kernel<true, false, 4, 3> : select_many_kernel<false, false, 4, 3>);
    return launch_kernel("select", kernel, {std::min<i64>(rows, num_sms), 2 * kThreads, bytes, stream}, false, task,
                         buffers);
  }
  const int together = task.room == kRooms[0] ? 2 : 1;
  // Clusters of eight leave many an SM without one.
  i64 blocks = 1;
  const auto fit = [&](i64 more) { return more * rows <= (more == 8 ? num_sms / 2 : num_sms); };
  while (blocks < 8 && fit(2 * blocks) && width >= 8192 * blocks) blocks *= 2;
  const bool alone = task.room != kRooms[2] && (together == 1 || rows * blocks <= num_sms);
  const auto kernel = alone ? (picky ? select_few_kernel<true, 4, 3> : select_few_kernel<false, 4, 3>)
                            : (picky ? select_few_kernel<true, 2, 2> : select_few_kernel<false, 2, 2>);
  launch_kernel("select", kernel, {rows * blocks, kThreads, bytes_of(alone ? 12 : 4, 1), stream, blocks}, false, task);
}

}  // namespace misa::cuda::topk
