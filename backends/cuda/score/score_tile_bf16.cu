// logits[m, c] = sum over h of weights[m, h] * relu(q[m, h] . k): bf16, head_dim 128, many rows over windows
//
// A tile is 128 keys x 256 query vectors: 256 / H queries of H heads, H rounded up to a power of two from 8 on. Two
// warpgroups multiply 64 keys each on the tensor cores, in two halves of 128 vectors, and reduce one half over heads
// while the other, or the other warpgroup, multiplies. A warp of a third one brings keys and queries (TMA), in panels
// of 64 dimensions; its other warps write what no row sees. Up to 16 heads the vectors stand so that a lane holds all
// heads of its queries; else it holds a fourth of them, and four lanes add theirs for four pairs at a time. Bound by
// the tensor cores.
//
// The head sum has the order of score_tile.cu, as that of score_rows.cu: a pair's bits are the same from both.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/pipeline/ring.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/score/head_sum.cuh"
#include "backends/cuda/score/score.hpp"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 128, kVectors = 256, kHalf = kVectors / 2;
constexpr int kConsumers = 2, kThreads = 128 * (kConsumers + 1);
constexpr int kStages = 4, kPanels = 2;
constexpr int kQueryBytes = kVectors * kDim * 2;

/// How queries stand in the tile.
///   H <= 16: vector 8 (g H + h) + c is head h of query 8 g + c
///   else:    vector H q + h is head h of query q
template <int H>
struct Tile {
  static constexpr bool kGrouped = H <= 16;
  static constexpr int kQueries = kVectors / H;
  static_assert(kQueries <= 32);
};

struct Arguments {
  View<const float, 2> weights;  ///< [M, heads]
  View<const i32, 2> table;      ///< empty: contiguous
  int page_size;
  int box;  ///< keys that one copy brings
  Windows windows;
  View<float, 2> logits;
  int rows, row_tiles, parts;
};

/// What the consumers must know of a tile of keys.
struct alignas(16) KeyTile {
  int token;                ///< first; -1: there is no more work
  int row0;                 ///< the first query; -1: those of the tile before
  u16 first_row, last_row;  ///< of the tile's queries that may see it
  bool whole;               ///< every query sees every key
};

/// Of a tile of queries.
struct Rows {
  int begin[32], end[32];
  alignas(16) int offset[32];  ///< of token 0 in the logits, from the tile's first row
};

struct Shared {
  alignas(1024) u8 queries[kPanels][kVectors * 128];
  alignas(1024) u8 keys[kStages][kPanels][kTileKeys * 128];
  KeyTile tiles[kStages];
  Rows rows;
  u64 full[kStages], empty[kStages], queries_full, queries_empty;
};

/// Rows of a tile of queries that share a sequence, and the tokens that any, or all, of them see.
struct Run {
  int first, last;  ///< rows [first, last) of the tile
  int sequence, low, high, all_low, all_high;
};

/// The run that begins at row `first` of a tile of at most 32; by a whole warp.
__device__ Run find_run(const Arguments& arguments, int row0, int count, int first) {
  const int lane = static_cast<int>(threadIdx.x % 32), row = row0 + first + lane;
  const bool inside = first + lane < count;
  Run run{first, count, arguments.windows.sequence[row0 + first], 0x7fffffff, 0, 0, 0x7fffffff};
  if (arguments.table.data != nullptr) {
    const bool other = inside && arguments.windows.sequence[row] != run.sequence;
    const unsigned others = __ballot_sync(kFullWarp, other);
    if (others != 0) run.last = first + __ffs(static_cast<int>(others)) - 1;
  }
  if (first + lane < run.last) {
    run.all_low = arguments.windows.begin[row];
    run.all_high = arguments.windows.end[row];
    if (run.all_low < run.all_high) {
      run.low = run.all_low;
      run.high = run.all_high;
    }
  }
  run.low = __reduce_min_sync(kFullWarp, run.low);
  run.high = __reduce_max_sync(kFullWarp, run.high);
  run.all_low = __reduce_max_sync(kFullWarp, run.all_low);
  run.all_high = __reduce_min_sync(kFullWarp, run.all_high);
  return run;
}

/// Brings keys and queries; by a whole warp.
template <int H>
class Copier {
  static constexpr int kQueries = Tile<H>::kQueries;

 public:
  __device__ Copier(const Arguments& arguments, Shared& shared, const CUtensorMap& query_map,
                    const CUtensorMap& key_map)
      : arguments_(arguments),
        shared_(shared),
        query_map_(query_map),
        key_map_(key_map),
        lane_(static_cast<int>(threadIdx.x % 32)) {}

  __device__ void run() {
    const int units = arguments_.row_tiles * arguments_.parts;
    for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
      // A last tile that would not be full begins earlier: its first rows get the same bits twice.
      const int row0 = max(0, min(unit % arguments_.row_tiles * kQueries, arguments_.rows - kQueries));
      const int count = min(kQueries, arguments_.rows), part = unit / arguments_.row_tiles;
      bool fresh = true;
      for (int first = 0; first < count;) {
        const Run run = find_run(arguments_, row0, count, first);
        first = run.last;
        if (run.low >= run.high) continue;
        const int begin = run.low / kTileKeys, tiles = (run.high + kTileKeys - 1) / kTileKeys - begin;
        const int from = begin + static_cast<int>(static_cast<i64>(tiles) * part / arguments_.parts);
        const int to = begin + static_cast<int>(static_cast<i64>(tiles) * (part + 1) / arguments_.parts);
        for (int tile = from; tile < to; ++tile) {
          const int token = tile * kTileKeys;
          const bool whole =
              run.first == 0 && run.last == kQueries && token >= run.all_low && token + kTileKeys <= run.all_high;
          copy_keys(run, {token, fresh ? row0 : -1, static_cast<u16>(run.first), static_cast<u16>(run.last), whole});
          // After the keys: the consumers give the queries back when they see that there are new ones.
          if (fresh) copy_queries(row0);
          fresh = false;
        }
      }
    }
    barrier_wait(shared_address(&shared_.empty[stage_]), parity_);
    if (lane_ == 0) {
      shared_.tiles[stage_].token = -1;
      barrier_arrive(shared_address(&shared_.full[stage_]));
    }
  }

 private:
  __device__ void copy_keys(const Run& run, const KeyTile& tile) {
    const u32 full = shared_address(&shared_.full[stage_]);
    const int copies = min(kTileKeys, run.high - tile.token + arguments_.box - 1) / arguments_.box;
    barrier_wait(shared_address(&shared_.empty[stage_]), parity_);
    if (lane_ == 0) {
      shared_.tiles[stage_] = tile;
      barrier_expect(full, static_cast<u32>(copies * arguments_.box * kDim * 2));
    }
    __syncwarp();
    if (lane_ < copies) {
      int page = 0, slot = tile.token + lane_ * arguments_.box;
      if (arguments_.table.data != nullptr) {
        page = arguments_.table(run.sequence, slot / arguments_.page_size);
        slot %= arguments_.page_size;
      }
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel) {
        const u32 to = shared_address(shared_.keys[stage_][panel] + lane_ * arguments_.box * 128);
        tma_load(to, key_map_, full, 128 * panel, slot, page);
      }
    }
    if (++stage_ == kStages) stage_ = 0, parity_ ^= 1;
  }

  __device__ void copy_queries(int row0) {
    const u32 full = shared_address(&shared_.queries_full);
    const int row = row0 + lane_;
    barrier_wait(shared_address(&shared_.queries_empty), query_parity_);
    if (lane_ < kQueries && row < arguments_.rows) {
      const int begin = arguments_.windows.begin[row];
      shared_.rows.begin[lane_] = begin;
      shared_.rows.end[lane_] = arguments_.windows.end[row];
      shared_.rows.offset[lane_] = static_cast<int>(lane_ * arguments_.logits.stride[0]) - begin;
    }
    if (lane_ == 0) {
      barrier_expect(full, kQueryBytes);
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel) {
        const u32 to = shared_address(shared_.queries[panel]);
        if constexpr (Tile<H>::kGrouped) {
          for (int query = 0; query < kQueries; query += 8) {
            tma_load(to + query * H * 128, query_map_, full, 128 * panel, row0 + query, 0);
          }
        } else {
          tma_load(to, query_map_, full, 128 * panel, 0, row0);
        }
      }
    }
    barrier_arrive(full);
    query_parity_ ^= 1;
  }

  const Arguments& arguments_;
  Shared& shared_;
  const CUtensorMap& query_map_;
  const CUtensorMap& key_map_;
  const int lane_;
  int stage_ = 0;
  u32 parity_ = 1, query_parity_ = 1;
};

/// Columns of the logits behind the rows' windows; by warp `self` of `warps`.
__device__ void fill_unseen(const Arguments& arguments, int self, int warps) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (i64 m = blockIdx.x; m < arguments.rows; m += gridDim.x) {
    const int visible = max(0, arguments.windows.end[m] - arguments.windows.begin[m]);
    for (i64 c = visible + 32 * self + lane; c < arguments.logits.shape[1]; c += 32 * warps) {
      arguments.logits(m, c) = -std::numeric_limits<float>::infinity();
    }
  }
}

/// A lane's part of tiles of keys against tiles of queries.
template <int H>
class Scorer {
  static constexpr bool kGrouped = Tile<H>::kGrouped;
  static constexpr int kQueries = Tile<H>::kQueries;
  using Heads = std::conditional_t<kGrouped, GroupedHeads<H>, SpreadHeads<H, Bf16>>;
  static constexpr int kEach = kGrouped ? 8 : 1;  // queries of a Heads

 public:
  __device__ Scorer(const Arguments& arguments, Shared& shared, int consumer)
      : arguments_(arguments),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x % 128)),
        first_key_(consumer * 64),
        key_(consumer * 64 + thread_ / 32 * 16 + thread_ % 32 / 4 + (kGrouped ? 0 : thread_ % 2 * 8)) {}

  __device__ void run() {
    for (;;) {
      barrier_wait(shared_address(&shared_.full[stage_]), parity_);
      const KeyTile tile = shared_.tiles[stage_];
      if (tile.token < 0) return;
      if (tile.row0 >= 0) take_rows(tile.row0);
      float low[kHalf / 2], high[kHalf / 2];
      start<0>(low);
      start<1>(high);
      wgmma_wait<1>();
      tile.whole ? finish<true, 0>(low, tile) : finish<false, 0>(low, tile);
      wgmma_wait<0>();
      __syncwarp();
      if (thread_ % 32 == 0) barrier_arrive(shared_address(&shared_.empty[stage_]));
      if (++stage_ == kStages) stage_ = 0, parity_ ^= 1;
      tile.whole ? finish<true, 1>(high, tile) : finish<false, 1>(high, tile);
    }
  }

 private:
  __device__ void take_rows(int row0) {
    if (logits_ != nullptr) {  // each warp for itself: they need not be at the same tile
      __syncwarp();
      if (thread_ % 32 == 0) barrier_arrive(shared_address(&shared_.queries_empty));
    }
    logits_ = arguments_.logits.data + row0 * arguments_.logits.stride[0];
#pragma unroll
    for (int i = 0; i < kQueries / kEach; ++i) {
      heads_[i] = Heads(arguments_.weights, min(row0 + kEach * i, arguments_.rows - 1));
    }
    barrier_wait(shared_address(&shared_.queries_full), query_parity_);
    query_parity_ ^= 1;
  }

  template <int Half>
  __device__ void start(float (&dots)[kHalf / 2]) {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      const u32 keys = shared_address(shared_.keys[stage_][step / 4] + first_key_ * 128);
      const u32 queries = shared_address(shared_.queries[step / 4] + Half * kHalf * 128);
      wgmma_bf16<kHalf>(dots, wgmma_operand(keys) + 2 * (step % 4), wgmma_operand(queries) + 2 * (step % 4), step > 0);
    }
    wgmma_commit();
  }

  template <bool Whole>
  __device__ void store(const KeyTile& tile, int row, int offset, int token, float score) const {
    if constexpr (!Whole) {
      const Rows& rows = shared_.rows;
      if (row < tile.first_row || row >= tile.last_row || token < rows.begin[row] || token >= rows.end[row]) return;
    }
    logits_[offset + token] = score;
  }

  /// Reduces half of the vectors over heads. Without branches where every query sees every key.
  template <bool Whole, int Half>
  __device__ void finish(const float (&dots)[kHalf / 2], const KeyTile& tile) const {
    constexpr int kHere = kQueries / 2, kFirst = Half * kHere;
    const int token = tile.token + key_, quad = thread_ % 4;
    const int* offsets = shared_.rows.offset;
    if constexpr (kGrouped) {
#pragma unroll
      for (int at = 0; at < kHere; at += 8) {
        const int row = kFirst + at + 2 * quad;
        const int2 offset = *reinterpret_cast<const int2*>(&offsets[row]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int e = i / 2, r = i % 2;
          const float sum = heads_[(kFirst + at) / 8].sum(dots, at * H / 2, e, r);
          store<Whole>(tile, row + e, e == 0 ? offset.x : offset.y, token + 8 * r, sum);
        }
      }
    } else {
#pragma unroll
      for (int at = 0; at < kHere; at += 2) {  // two queries x two keys of a lane
        const int row = kFirst + at + quad / 2, offset = offsets[row];
        float partial[2][2];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          partial[i / 2][i % 2] = heads_[kFirst + at + i / 2].partial(dots, (at + i / 2) * H / 2, i % 2);
        }
        store<Whole>(tile, row, offset, token, sum_partials(partial));
      }
    }
  }

  const Arguments& arguments_;
  Shared& shared_;
  const int thread_, first_key_, key_;
  int stage_ = 0;
  u32 parity_ = 0, query_parity_ = 0;
  float* logits_ = nullptr;
  Heads heads_[kQueries / kEach];
};

template <int H>
__global__ void __launch_bounds__(kThreads, 1)
    score_tile_bf16_kernel(const __grid_constant__ Arguments arguments, const __grid_constant__ CUtensorMap query_map,
                           const __grid_constant__ CUtensorMap key_map) {
  Shared& shared = shared_as<Shared>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(shared_address(&shared.full[i]), 1);
      barrier_init(shared_address(&shared.empty[i]), kConsumers * 4);
    }
    barrier_init(shared_address(&shared.queries_full), 33);
    barrier_init(shared_address(&shared.queries_empty), kConsumers * 4);
    barrier_fence();
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x / 128), warp = static_cast<int>(threadIdx.x / 32 % 4);
  if (group == kConsumers) {
    shrink_registers<56>();
    if (warp == 0) {
      Copier<H>(arguments, shared, query_map, key_map).run();
    } else {
      fill_unseen(arguments, warp - 1, 3);
    }
  } else {
    grow_registers<224>();
    Scorer<H>(arguments, shared, group).run();
  }
}

/// Into how many parts the tiles of a row's keys are cut: what makes the rounds of blocks shortest, when a change of
/// queries costs as much as a tile.
int parts_for(i64 tiles, i64 row_tiles, i64 num_sms) {
  i64 best = 1, least = std::numeric_limits<i64>::max();
  for (i64 parts = 1; parts <= 64 && parts <= ceil_div(tiles, 4); ++parts) {
    const i64 rounds = ceil_div(row_tiles * parts, num_sms), cost = rounds * (ceil_div(tiles, parts) + 1);
    if (cost < least) least = cost, best = parts;
  }
  return static_cast<int>(best);
}

template <int H>
void launch(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  constexpr int kQueries = Tile<H>::kQueries;
  const auto& queries = std::get<View<const Bf16, 3>>(task.queries.values);
  const auto& keys = std::get<View<const Bf16, 3>>(task.keys.values);
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const i64 row_tiles = ceil_div(logits.shape[0], kQueries);
  Arguments arguments{.weights = task.queries.weights,
                      .table = task.keys.block_table,
                      .page_size = static_cast<int>(keys.shape[1]),
                      .box = kTileKeys,
                      .windows = task.windows,
                      .logits = logits,
                      .rows = static_cast<int>(logits.shape[0]),
                      .row_tiles = static_cast<int>(row_tiles),
                      .parts = parts_for(ceil_div(logits.shape[1], kTileKeys), row_tiles, num_sms)};
  while (task.keys.block_table.data != nullptr && keys.shape[1] % arguments.box != 0) arguments.box /= 2;

  const CUtensorMap query_map = [&] {
    const i64 row = queries.stride[0] * 2, vector = queries.stride[1] * 2;
    if constexpr (Tile<H>::kGrouped) {
      return tensor_map<3>(queries.data, {kDim * 2, queries.shape[0], queries.shape[1]}, {row, vector}, {128, 8, H});
    } else {
      return tensor_map<3>(queries.data, {kDim * 2, queries.shape[1], queries.shape[0]}, {vector, row},
                           {128, H, kQueries});
    }
  }();
  const CUtensorMap key_map = tensor_map<3>(keys.data, {kDim * 2, keys.shape[1], keys.shape[0]},
                                            {keys.stride[1] * 2, keys.stride[0] * 2}, {128, arguments.box, 1});
  const int blocks = std::min(num_sms, arguments.row_tiles * arguments.parts);
  launch_kernel("score_tile_bf16", score_tile_bf16_kernel<H>, {blocks, kThreads, sizeof(Shared), stream}, false,
                arguments, query_map, key_map);
}

}  // namespace

bool tiles_bf16(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const Bf16, 3>>(&task.queries.values);
  const auto* keys = std::get_if<View<const Bf16, 3>>(&task.keys.values);
  if (queries == nullptr || keys == nullptr || task.candidates || task.keys.scales.data != nullptr) return false;
  if (queries->shape[2] != kDim || queries->shape[1] > 64 || queries->shape[0] < 16) return false;
  if (!vectors_align(*queries) || !vectors_align(*keys)) return false;
  // The longest offset of a tile's rows must fit 32 bits.
  if (std::get<View<float, 2>>(task.logits).stride[0] * 32 > 0x7fffffff) return false;
  // Paged rows share a tile only where they share a sequence.
  const View<const i32, 2>& table = task.keys.block_table;
  return table.data == nullptr || (keys->shape[1] % 8 == 0 && queries->shape[0] >= 8 * table.shape[0]);
}

void score_in_bf16_tiles(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  with_heads(heads_of(task.queries), [&]<int H>() { launch<H>(task, num_sms, stream); });
}

}  // namespace misa::cuda
