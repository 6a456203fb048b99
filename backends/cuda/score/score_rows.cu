// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): FP8 or bf16, head_dim 128, any columns
//
// Scores listed tokens and blocks: keys lie wherever a row's columns say. Tiles of 64 columns of all rows form one
// line, which is cut into equal parts, one a warpgroup of the device; none of them waits for another. A warp gathers
// its 16 keys of each tile through a ring of its own (asynchronous copies, whole lines of 128 bytes), several tiles
// ahead, and the columns' runs one tile ahead of that; so it needs no barrier. It multiplies them out of registers with
// the heads of the row in shared memory, and reduces one tile over heads while the next is multiplied. Bound by issue
// slots and L2. The head sum has the order of score_tile.cu. Vectors lie in shared memory in panels of 128 bytes: one
// of FP8, two of bf16.

#include <algorithm>
#include <bit>
#include <limits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/ptx/cp_async.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/score/head_sum.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 64, kWarpKeys = 16;

/// Bytes of a vector, and the steps of 32 bytes in which tensor cores take it.
template <class T>
constexpr int kBytes = kDim* static_cast<int>(sizeof(T));
template <class T>
constexpr int kSteps = kBytes<T> / 32;
/// Stages of a warp's ring, a tile each.
template <class T>
constexpr int kStages = sizeof(T) == 1 ? 4 : 2;
/// Warpgroups of a block: what registers allow.
template <class T, int H>
constexpr int kGroups = sizeof(T) == 1 && H <= 32 ? 5 : 4;

template <class T>
struct Arguments {
  View<const T, 3> queries;
  View<const float, 2> weights;
  Keys<T> keys;
  Windows windows;
  Columns columns;
  View<float, 2> logits;
  int log_length, in_run;  ///< of runs whose length is a power of two; the bits of a column that say where in its run
  u32 last_run;            ///< above all runs that hold tokens, and its tokens are above all that rows see
  int rows, columns_of_row, tiles;  ///< tiles of a row
};

template <class T, int H>
struct Shared {
  static constexpr int kPanels = sizeof(T);
  alignas(1024) u8 queries[kGroups<T, H>][kPanels][H * 128];
  alignas(1024) u8 keys[4 * kGroups<T, H>][kStages<T>][kPanels][kWarpKeys * 128];
};

/// H: heads, rounded up to a power of two from 8 on; the missing ones have weight 0. Simple: contiguous keys, and runs
/// whose length is a power of two; else any.
template <class T, int H, bool Simple>
class Scorer {
  static constexpr int kStages = cuda::kStages<T>, kSteps = cuda::kSteps<T>, kPanels = Shared<T, H>::kPanels;

 public:
  __device__ Scorer(const Arguments<T>& arguments, Shared<T, H>& shared, int warp)
      : arguments_(arguments),
        group_(warp / 4),
        lane_(static_cast<int>(threadIdx.x % 32)),
        own_key_(warp % 4 * kWarpKeys + lane_ / 4 + lane_ % 2 * 8),
        queries_(shared_address(shared.queries[group_])) {
    const u32 ring = shared_address(shared.keys[warp]);
    copy_to_ = ring + static_cast<u32>(swizzled(kCopies / 2 * (lane_ / kLanes), lane_ % 8 * 16) +
                                       lane_ % kLanes / 8 * kWarpKeys * 128);
    read_from_ = ring + static_cast<u32>(lane_ % 16 * 128);
    // One of the two lanes that have a score stores it.
    own_tiles_ = lane_ % 4 < 2 ? (arguments_.columns_of_row - own_key_ + kTileKeys - 1) / kTileKeys : 0;
    copy_from_ = reinterpret_cast<u64>(arguments_.keys.values.data) + static_cast<u32>(lane_ % kLanes * 16);
  }

  /// Part `part` of `parts` of the line of tiles.
  __device__ void run(i64 part, i64 parts) {
    const i64 all = static_cast<i64>(arguments_.rows) * arguments_.tiles, end = all * (part + 1) / parts;
    for (i64 at = all * part / parts; at < end;) {
      const i64 m = at / arguments_.tiles, first = at - m * arguments_.tiles;
      const i64 last = min(static_cast<i64>(arguments_.tiles), first + end - at);
      take_row(m);
      score(m, static_cast<int>(first), static_cast<int>(last));
      at += last - first;
    }
  }

 private:
  static constexpr int kLanes = kBytes<T> / 16;            // that copy a vector
  static constexpr int kCopies = kWarpKeys * kLanes / 32;  // of a lane, of each tile

  __device__ void take_row(i64 m) {
    const auto barrier = [&] { group_barrier(1 + group_, 128); };
    const int heads = static_cast<int>(arguments_.queries.shape[1]);
    constexpr int kChunks = 8 * kPanels;  // of 16 bytes
    barrier();
    for (int i = static_cast<int>(threadIdx.x % 128); i < H * kChunks; i += 128) {
      const int head = i / kChunks, chunk = i % kChunks;
      const uint4 value =
          head < heads ? *(reinterpret_cast<const uint4*>(&arguments_.queries(m, head, 0)) + chunk) : uint4{};
      const u32 to = queries_ + static_cast<u32>(chunk / 8 * H * 128 + swizzled(head, chunk % 8 * 16));
      store_shared(to, value);
    }
    fence_for_tensor_cores();
    barrier();
    heads_ = SpreadHeads<H, T>(arguments_.weights, m);
    begin_ = arguments_.windows.begin[m];
    end_ = arguments_.windows.end[m];
    sequence_ = arguments_.windows.sequence[m];
    origin_ = arguments_.columns.listed ? arguments_.columns.origin[m] : begin_;
    runs_ = arguments_.columns.listed ? &arguments_.columns.runs(m, 0) : nullptr;
    visible_ = static_cast<u32>(max(0, end_ - begin_));
    logits_ = &arguments_.logits(m, own_key_);
  }

  __device__ void score(i64 m, int first, int last) {
    if (!arguments_.columns.listed) {
      const int visible = (max(0, end_ - begin_) + kTileKeys - 1) / kTileKeys, seen = max(first, min(last, visible));
      for (int tile = seen; tile < last; ++tile) store(tile, -std::numeric_limits<float>::infinity());
      last = seen;
    }
    if (first == last) return;
    next_run_ = run_of(first);
#pragma unroll
    for (int i = 0; i < kStages; ++i) fetch(i, first + i, last);
    int tile = first;
    // The ring's stages are constants, and so registers hold what belongs to them.
    for (; tile < last; tile += kStages) {
#pragma unroll
      for (int i = 0; i < kStages; ++i) {
        if (tile + i < last) score_tile(tile + i, last, i);
      }
    }
    wait_for_copies<0>();
    __syncwarp();
  }

  __device__ void score_tile(int tile, int last, int stage) {
    float sums[H / 2];
    wait_for_copies<kStages - 1>();
    __syncwarp();
    multiply(sums, stage);
    const float scale = scales_[stage];
    const bool seen = seen_[stage];
    __syncwarp();
    fetch(stage, tile + kStages, last);
    wgmma_wait<0>(sums);
    store(tile, score_of_sums(sums, scale, seen));
  }

  /// Returns the run of this lane's column of a tile, or the column where no runs are listed; -1: none.
  __device__ int run_of(int tile) const {
    const int column = tile * kTileKeys + own_key_;
    if (column >= arguments_.columns_of_row) return -1;
    if constexpr (Simple) return __ldg(runs_ + (column >> arguments_.log_length));
    if (!arguments_.columns.listed) return column;
    return __ldg(runs_ + static_cast<u32>(column) / static_cast<u32>(arguments_.columns.length));
  }

  /// Returns the token of this lane's column of a tile, -1: none that the row sees.
  __device__ int token_of(int tile, int run) const {
    const int column = tile * kTileKeys + own_key_;
    if constexpr (Simple) {
      const u32 in_row = (min(static_cast<u32>(run), arguments_.last_run) << arguments_.log_length) +
                         static_cast<u32>(column & arguments_.in_run);
      const int token = origin_ + static_cast<int>(in_row);
      return static_cast<u32>(token) - static_cast<u32>(begin_) < visible_ ? token : -1;
    }
    if (run < 0) return -1;
    i64 token = static_cast<i64>(origin_) + run;
    if (arguments_.columns.listed) {
      const u32 length = static_cast<u32>(arguments_.columns.length);
      token = origin_ + static_cast<i64>(run) * length + static_cast<u32>(column) % length;
    }
    return token >= begin_ && token < end_ ? static_cast<int>(token) : -1;
  }

  /// Begins to copy a tile's keys to `stage`, and to load the run after that. Two lanes know each of the warp's keys:
  /// those that store its score, and two that do the same for nothing.
  __device__ void fetch(int stage, int tile, int last) {
    if (tile < last) {
      const int token = token_of(tile, next_run_);
      next_run_ = run_of(tile + 1);
      seen_[stage] = token >= 0;
      scales_[stage] = 1;
      u64 key = 0;
      if constexpr (Simple) {
        constexpr bool kScaled = sizeof(T) == 1;
        if (kScaled && token >= 0) scales_[stage] = __ldg(arguments_.keys.scales.data + static_cast<u32>(token));
      } else if (token >= 0) {
        float scale = 1;
        key = reinterpret_cast<u64>(arguments_.keys.vector(sequence_, token, scale));
        scales_[stage] = scale;
      }
      // The lanes that copy a key are among those that know it. Keys that are eight apart are swizzled alike.
      constexpr int kNear = kCopies / 2;
      const u32 to = copy_to_ + static_cast<u32>(stage * kPanels * kWarpKeys * 128);
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const u32 at = (to ^ (i % kNear * 16)) + static_cast<u32>((i % kNear + i / kNear * 8) * 128);
        const int knower = i % kNear * 4 + i / kNear;
        if constexpr (Simple) {
          const int of_key = __shfl_sync(kFullWarp, token, knower, kLanes);
          copy_async_unless_negative(of_key, at, copy_from_ + static_cast<u64>(static_cast<u32>(of_key)) * kBytes<T>);
        } else {
          const u64 of_key = __shfl_sync(kFullWarp, key, knower, kLanes);
          copy_async_unless_negative(of_key != 0 ? 0 : -1, at, of_key + static_cast<u32>(lane_ % kLanes * 16));
        }
      }
    }
    commit_copies();
  }

  /// Begins sums[64 keys of the warpgroup, H] = keys of a stage * queries.
  __device__ void multiply(float (&sums)[H / 2], int stage) const {
    u32 keys[kSteps][4];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      // Lanes 0 to 15 give the rows' first 16 bytes of the step, the others the next 16.
      const int chunk = (step % 4 * 2 + lane_ / 16) ^ (lane_ % 8);
      const u32 from = read_from_ + static_cast<u32>(((stage * kPanels + step / 4) * kWarpKeys * 128) + chunk * 16);
      load_matrices(keys[step], from);
    }
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const u64 b = wgmma_operand(queries_ + step / 4 * H * 128) + 2 * (step % 4);
      wgmma_from_registers<T, H>(sums, keys[step], b, step > 0);
    }
    wgmma_commit();
  }

  /// Returns the score of this lane's column.
  __device__ float score_of_sums(const float (&sums)[H / 2], float scale, bool seen) const {
    const float low = heads_.partial(sums, 0, 0), high = heads_.partial(sums, 0, 1);
    const bool odd = lane_ % 2 != 0;
    float sum = __fadd_rn(odd ? high : low, __shfl_xor_sync(kFullWarp, odd ? low : high, 1));
    sum = __fadd_rn(sum, __shfl_xor_sync(kFullWarp, sum, 2));
    return seen ? scale * sum : -std::numeric_limits<float>::infinity();
  }

  __device__ void store(int tile, float score) const {
    if (tile < own_tiles_) logits_[tile * kTileKeys] = score;
  }

  const Arguments<T>& arguments_;
  const int group_, lane_, own_key_;
  int own_tiles_;
  const u32 queries_;  ///< addresses in shared memory
  u32 copy_to_, read_from_, visible_;
  u64 copy_from_;  ///< this lane's part of the first key
  SpreadHeads<H, T> heads_;
  int begin_, end_, sequence_, origin_, next_run_;
  const i32* runs_;
  float* logits_;  ///< of this lane's column of the first tile
  float scales_[kStages];
  bool seen_[kStages];
};

template <class T, int H, bool Simple>
__global__ void __launch_bounds__(128 * kGroups<T, H>, 1)
    score_rows_kernel(const __grid_constant__ Arguments<T> arguments) {
  const int warp = __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x / 32), 0);
  Scorer<T, H, Simple>(arguments, shared_as<Shared<T, H>>(), warp)
      .run(static_cast<i64>(blockIdx.x) * kGroups<T, H> + warp / 4, static_cast<i64>(gridDim.x) * kGroups<T, H>);
}

template <class T, int H, bool Simple>
void launch(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const auto& keys = std::get<View<const T, 3>>(task.keys.values);
  const Columns columns = columns_of(task.candidates);
  const int log_length = Simple ? std::countr_zero(static_cast<u64>(columns.length)) : 0;
  const Arguments<T> arguments{.queries = std::get<View<const T, 3>>(task.queries.values),
                               .weights = task.queries.weights,
                               .keys = {keys, task.keys.scales, task.keys.block_table},
                               .windows = task.windows,
                               .columns = columns,
                               .logits = logits,
                               .log_length = log_length,
                               .in_run = (1 << log_length) - 1,
                               .last_run = 0x7fffffffu >> log_length,
                               .rows = static_cast<int>(logits.shape[0]),
                               .columns_of_row = static_cast<int>(logits.shape[1]),
                               .tiles = static_cast<int>(ceil_div(logits.shape[1], kTileKeys))};
  constexpr int kGroups = cuda::kGroups<T, H>;
  const i64 blocks = std::min<i64>(num_sms, ceil_div(logits.shape[0] * i64{arguments.tiles}, kGroups));
  launch_kernel("score_rows", score_rows_kernel<T, H, Simple>, {blocks, 128 * kGroups, sizeof(Shared<T, H>), stream},
                false, arguments);
}

template <class T>
bool takes(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const T, 3>>(&task.queries.values);
  const auto* keys = std::get_if<View<const T, 3>>(&task.keys.values);
  if (queries == nullptr || keys == nullptr || queries->shape[2] != kDim || queries->shape[1] > 64) return false;
  return vectors_align(*queries) && vectors_align(*keys) && keys->shape[0] * keys->shape[1] > 0;
}

/// Whether keys and their scales are contiguous, and runs have a length that is a power of two.
template <class T>
bool is_simple(const ScoreTask& task) {
  const auto& keys = std::get<View<const T, 3>>(task.keys.values);
  const View<const float, 2>& scales = task.keys.scales;
  return task.candidates && std::has_single_bit(static_cast<u64>(task.candidates->length)) &&
         task.candidates->length <= 1 << 20 && task.keys.block_table.data == nullptr && keys.stride[1] == kDim &&
         (scales.data != nullptr) == (sizeof(T) == 1) && (scales.data == nullptr || scales.stride[1] == 1);
}

template <class T>
void score_rows(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  with_heads(heads_of(task.queries),
             [&]<int H>() { (is_simple<T>(task) ? launch<T, H, true> : launch<T, H, false>)(task, num_sms, stream); });
}

}  // namespace

bool single_rows(const ScoreTask& task) { return takes<E4m3>(task) || takes<Bf16>(task); }

void score_single_rows(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  takes<E4m3>(task) ? score_rows<E4m3>(task, num_sms, stream) : score_rows<Bf16>(task, num_sms, stream);
}

}  // namespace misa::cuda
