#pragma once

#include <algorithm>
#include <limits>

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/pipeline/ring.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "core/indexer/backend.hpp"

// Scores of many rows over windows, head_dim 128: what score_tile.cu (FP8) and score_tile_bf16.cu share.
//
// A tile is 128 keys x 256 query vectors of some rows. A block takes units of work: a tile of rows, and one of `parts`
// parts of the keys that its rows see. Two warpgroups score 64 keys of each tile. A third one feeds them: its first
// warp brings keys and queries (TMA), its other warps do what the kernel's policy says, and write -inf where no row
// sees a key. Operands lie in panels of 128 bytes with the 128-byte swizzle: one for FP8, two for bf16.

namespace misa::cuda::score_tile {

constexpr int kDim = 128, kTileKeys = 128, kVectors = 256;
constexpr int kConsumers = 2, kHelpers = 3, kThreads = 128 * (kConsumers + 1);
constexpr int kGroup = 4;  ///< tiles of keys that a policy may score in one go

struct Arguments {
  View<const float, 2> weights;  ///< [M, H]
  View<const float, 2> scales;   ///< [pages, page_size]; empty: 1
  View<const i32, 2> table;      ///< empty: contiguous
  int page_size;
  int box;  ///< keys that one copy brings
  Windows windows;
  View<float, 2> logits;
  int rows, row_tiles, parts;
};

/// A tile of keys, as the scoring warpgroups need it.
struct alignas(16) KeyTile {
  int token;                ///< the first; -1: there is no more work
  int row0;                 ///< the first row of a new tile of rows; -1: the rows are those of the tile before
  u16 first_row, last_row;  ///< rows of the tile that may see the keys
  bool whole;               ///< every row of a full tile sees every key
  bool leads;               ///< kGroup tiles of keys follow for the same rows, this one among them
};

/// The rows of a tile.
struct Rows {
  int begin[kVectors], end[kVectors];
  alignas(16) int offset[kVectors];  ///< of token 0 in the logits, from the tile's first row

  __device__ bool see(const KeyTile& tile, int row, int token) const {
    return row >= tile.first_row && row < tile.last_row && token >= begin[row] && token < end[row];
  }
};

/// T: the elements of queries and keys.
template <class T>
struct Shared {
  static constexpr int kPanels = sizeof(T), kStages = 8 / kPanels, kQueryStages = 2 / kPanels;
  alignas(1024) u8 queries[kQueryStages][kPanels][kVectors * 128];
  alignas(1024) u8 keys[kStages][kPanels][kTileKeys * 128];
  float scales[kStages][kTileKeys];                   ///< of FP8 keys
  alignas(16) float weights[kQueryStages][kVectors];  ///< of FP8 queries
  KeyTile tiles[kStages];
  Rows rows[kQueryStages];
  Ring<kStages> ring;
  Ring<kQueryStages> query_ring;
};

/// Neighbouring rows of a tile that share a sequence, and the tokens that any, or all, of them see.
struct Segment {
  int first, last;  ///< rows [first, last) of the tile
  int sequence, low, high, all_low, all_high;
};

/// Finds the segment that begins at row `first` of a tile of `count` rows; by a whole warp.
__device__ inline Segment find_segment(const Arguments& arguments, int row0, int count, int first) {
  const Windows& windows = arguments.windows;
  Segment segment{first, first, 0, 0x7fffffff, 0, 0, 0x7fffffff};
  const int lane = static_cast<int>(threadIdx.x % 32);
  segment.sequence = windows.sequence[row0 + first];
  const bool paged = arguments.table.data != nullptr;
  for (int base = first; base < count; base += 32) {
    const int row = base + lane;
    const bool same = row < count && (!paged || windows.sequence[row0 + row] == segment.sequence);
    const unsigned others = ~__ballot_sync(kFullWarp, same);
    const int here = others == 0 ? 32 : __ffs(static_cast<int>(others)) - 1;
    if (lane < here) {
      const int begin = windows.begin[row0 + row], end = windows.end[row0 + row];
      if (begin < end) {
        segment.low = min(segment.low, begin);
        segment.high = max(segment.high, end);
      }
      segment.all_low = max(segment.all_low, begin);
      segment.all_high = min(segment.all_high, end);
    }
    segment.last = base + here;
    if (here < 32) break;
  }
  segment.low = __reduce_min_sync(kFullWarp, segment.low);
  segment.high = __reduce_max_sync(kFullWarp, segment.high);
  segment.all_low = __reduce_max_sync(kFullWarp, segment.all_low);
  segment.all_high = __reduce_min_sync(kFullWarp, segment.all_high);
  return segment;
}

/// Calls `body(segment, tile)` for the tiles of keys that this block scores, with up to TileRows rows at a time; by a
/// whole warp.
template <int TileRows, class Body>
__device__ void for_each_tile(const Arguments& arguments, const Body& body) {
  const int units = arguments.row_tiles * arguments.parts;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
    // A last tile that would not be full begins earlier: its first rows get the same bits twice.
    const int row0 = max(0, min(unit % arguments.row_tiles * TileRows, arguments.rows - TileRows));
    const int count = min(TileRows, arguments.rows), part = unit / arguments.row_tiles;
    bool fresh = true;
    for (int first = 0; first < count;) {
      const Segment segment = find_segment(arguments, row0, count, first);
      first = segment.last;
      if (segment.low >= segment.high) continue;
      const int begin = segment.low / kTileKeys, tiles = (segment.high + kTileKeys - 1) / kTileKeys - begin;
      const int from = begin + static_cast<int>(static_cast<i64>(tiles) * part / arguments.parts);
      const int to = begin + static_cast<int>(static_cast<i64>(tiles) * (part + 1) / arguments.parts);
      const bool full = segment.first == 0 && segment.last == TileRows;
      for (int number = from; number < to; ++number) {
        const int token = number * kTileKeys;
        const bool whole = full && token >= segment.all_low && token + kTileKeys <= segment.all_high;
        const bool leads = (number - from) % kGroup == 0 && to - number >= kGroup;
        body(segment, KeyTile{token, fresh ? row0 : -1, static_cast<u16>(segment.first), static_cast<u16>(segment.last),
                              whole, leads});
        fresh = false;
      }
    }
  }
}

/// Page and slot of a token of a sequence.
__device__ inline int2 find_slot(const Arguments& arguments, int sequence, int token) {
  if (arguments.table.data == nullptr) return {0, token};
  return {arguments.table(sequence, token / arguments.page_size), token % arguments.page_size};
}

/// Brings keys, queries, and what the scoring warpgroups must know of them; by a whole warp.
template <class Policy>
__device__ void copy_tiles(const Arguments& arguments, const CUtensorMap& query_map, const CUtensorMap& key_map,
                           Shared<typename Policy::T>& shared) {
  using Memory = Shared<typename Policy::T>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  Cursor<Memory::kStages> at;
  Cursor<Memory::kQueryStages> query_at;
  const auto copy_queries = [&](int row0) {
    const u32 full = shared.query_ring.full_at(query_at.stage);
    shared.query_ring.wait_empty(query_at);
    if (lane != 0) return;
    barrier_expect(full, Policy::kCopied * 128 * Memory::kPanels);
#pragma unroll
    for (int panel = 0; panel < Memory::kPanels; ++panel) {
      const u32 to = shared_address(shared.queries[query_at.stage][panel]);
      Policy::copy_queries(to, query_map, full, 128 * panel, row0);
    }
  };
  // The scoring warpgroups give queries back when they see that there are new ones: with one stage, those come after
  // their first keys.
  constexpr bool kQueriesFirst = Memory::kQueryStages > 1;
  for_each_tile<Policy::kRows>(arguments, [&](const Segment& segment, const KeyTile& tile) {
    if (kQueriesFirst && tile.row0 >= 0) copy_queries(tile.row0);
    const u32 full = shared.ring.full_at(at.stage);
    const int copies = min(kTileKeys, segment.high - tile.token + arguments.box - 1) / arguments.box;
    if (lane == 0) {
      shared.ring.wait_empty(at);
      shared.tiles[at.stage] = tile;
      barrier_expect(full, static_cast<u32>(copies * arguments.box * 128 * Memory::kPanels));
    }
    __syncwarp();
    if (lane < copies) {
      const int2 from = find_slot(arguments, segment.sequence, tile.token + lane * arguments.box);
#pragma unroll
      for (int panel = 0; panel < Memory::kPanels; ++panel) {
        const u32 to = shared_address(shared.keys[at.stage][panel] + lane * arguments.box * 128);
        tma_load(to, key_map, full, 128 * panel, from.y, from.x);
      }
    }
    at.advance();
    if (tile.row0 < 0) return;
    if (!kQueriesFirst) copy_queries(tile.row0);
    Rows& rows = shared.rows[query_at.stage];
    for (int row = lane; row < Policy::kRows && tile.row0 + row < arguments.rows; row += 32) {
      const int begin = arguments.windows.begin[tile.row0 + row];
      rows.begin[row] = begin;
      rows.end[row] = arguments.windows.end[tile.row0 + row];
      rows.offset[row] = static_cast<int>(row * arguments.logits.stride[0]) - begin;
    }
    barrier_arrive(shared.query_ring.full_at(query_at.stage));
    query_at.advance();
  });
  if (lane == 0) {
    shared.ring.wait_empty(at);
    shared.tiles[at.stage].token = -1;
    barrier_arrive(shared.ring.full_at(at.stage));
  }
}

/// Writes -inf to the logits after the rows' windows; by warp `self` of kHelpers.
__device__ inline void fill_unseen(const Arguments& arguments, int self) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (i64 m = blockIdx.x; m < arguments.rows; m += gridDim.x) {
    const int visible = max(0, arguments.windows.end[m] - arguments.windows.begin[m]);
    for (i64 c = visible + 32 * self + lane; c < arguments.logits.shape[1]; c += 32 * kHelpers) {
      arguments.logits(m, c) = -std::numeric_limits<float>::infinity();
    }
  }
}

/// A warpgroup that scores: it goes through the rings and multiplies. A policy's Scorer adds the sum over heads.
template <class T>
class Consumer {
 protected:
  using Memory = Shared<T>;

  __device__ Consumer(const Arguments& arguments, Memory& shared, int self)
      : arguments_(arguments),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x % 128)),
        first_key_(self * 64),
        key_(first_key_ + thread_ / 32 * 16 + thread_ % 32 / 4) {}

  __device__ KeyTile wait_for_keys() const {
    shared_.ring.wait_full(at_);
    return shared_.tiles[at_.stage];
  }

  /// Gives the queries of the tile of rows before back; each warp for itself, for they need not be at the same tile.
  __device__ void take_rows(int row0) {
    if (logits_ != nullptr) {
      shared_.query_ring.release(query_at_.stage);
      query_at_.advance();
    }
    logits_ = arguments_.logits.data + row0 * arguments_.logits.stride[0];
  }
  __device__ void wait_for_queries() const { shared_.query_ring.wait_full(query_at_); }

  /// Begins to multiply the warpgroup's keys with the query vectors [from, from + 2 * Count).
  template <int Count>
  __device__ void start(float (&dots)[Count], int from) const {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4 * Memory::kPanels; ++step) {
      const u32 keys = shared_address(shared_.keys[at_.stage][step / 4] + first_key_ * 128);
      const u32 queries = shared_address(shared_.queries[query_at_.stage][step / 4] + from * 128);
      wgmma_of<T, 2 * Count>(dots, wgmma_operand(keys) + 2 * (step % 4), wgmma_operand(queries) + 2 * (step % 4),
                             step > 0);
    }
    wgmma_commit();
  }

  /// Stores a score unless the row does not see the token.
  template <bool Whole>
  __device__ void store(const KeyTile& tile, int row, int offset, int token, float score) const {
    if (Whole || shared_.rows[query_at_.stage].see(tile, row, token)) logits_[offset + token] = score;
  }

  const Arguments& arguments_;
  Memory& shared_;
  const int thread_, first_key_;
  const int key_;  ///< of the tile: the first that this lane has a score of
  Cursor<Memory::kStages> at_;
  Cursor<Memory::kQueryStages> query_at_;
  float* logits_ = nullptr;  ///< of the tile's first row
};

/// A policy has: T, the elements; kRows, the rows of a tile; kCopied, the query vectors that copies bring; kFeeding and
/// kScoring, the registers of threads; kFills, the threads that fill a stage and kQueryFills, those that fill one of
/// queries; query_map() and copy_queries(); help(), what the feeding warpgroup's other warps do; Scorer.
template <class Policy>
__global__ void __launch_bounds__(kThreads, 1)
    score_tile_kernel(const __grid_constant__ Arguments arguments, const __grid_constant__ CUtensorMap query_map,
                      const __grid_constant__ CUtensorMap key_map) {
  auto& shared = shared_as<Shared<typename Policy::T>>();
  if (threadIdx.x == 0) {
    shared.ring.init(Policy::kFills, kConsumers * 4);
    shared.query_ring.init(Policy::kQueryFills, kConsumers * 4);
    barrier_fence();
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x / 128), warp = static_cast<int>(threadIdx.x / 32 % 4);
  if (group == kConsumers) {
    shrink_registers<Policy::kFeeding>();
    if (warp == 0) {
      copy_tiles<Policy>(arguments, query_map, key_map, shared);
    } else {
      Policy::help(arguments, shared, warp - 1);
      fill_unseen(arguments, warp - 1);
    }
  } else {
    grow_registers<Policy::kScoring>();
    typename Policy::Scorer(arguments, shared, __shfl_sync(kFullWarp, group, 0)).run();
  }
}

/// Finds into how many parts the keys are cut so that the rounds of blocks are shortest; a change of rows costs as much
/// as `change` tiles of keys.
inline int parts_for(i64 tiles, i64 row_tiles, int num_sms, double change) {
  int best = 1;
  double least = std::numeric_limits<double>::infinity();
  for (int parts = 1; parts == 1 || (kGroup * parts <= tiles && parts <= 2 * num_sms); ++parts) {
    const double rounds = static_cast<double>(ceil_div(row_tiles * parts, num_sms));
    const double cost = rounds * (static_cast<double>(tiles) / parts + change);
    if (cost < least) least = cost, best = parts;
  }
  return best;
}

/// Whether a kernel whose tiles have up to `tile_rows` rows takes a task with elements of type T, as far as heads do
/// not decide it.
template <class T>
bool takes(const ScoreTask& task, i64 tile_rows) {
  const auto* queries = std::get_if<View<const T, 3>>(&task.queries.values);
  const auto* keys = std::get_if<View<const T, 3>>(&task.keys.values);
  if (queries == nullptr || keys == nullptr || task.candidates || queries->shape[2] != kDim) return false;
  // The longest offset of a tile's rows must fit 32 bits, and copies need multiples of 16 bytes.
  if (std::get<View<float, 2>>(task.logits).stride[0] * tile_rows > 0x7fffffff) return false;
  if (queries->shape[0] < 16 || !vectors_align(*queries) || !vectors_align(*keys)) return false;
  // Paged rows share a tile only where they share a sequence.
  const View<const i32, 2>& table = task.keys.block_table;
  return table.data == nullptr || (keys->shape[1] % 8 == 0 && queries->shape[0] >= 8 * table.shape[0]);
}

template <class Policy>
void launch(const char* name, const ScoreTask& task, int num_sms, cudaStream_t stream) {
  using T = typename Policy::T;
  constexpr i64 kSize = sizeof(T);
  const auto& queries = std::get<View<const T, 3>>(task.queries.values);
  const auto& keys = std::get<View<const T, 3>>(task.keys.values);
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const i64 row_tiles = ceil_div(logits.shape[0], Policy::kRows);
  Arguments arguments{.weights = task.queries.weights,
                      .scales = task.keys.scales,
                      .table = task.keys.block_table,
                      .page_size = static_cast<int>(keys.shape[1]),
                      .box = kTileKeys,
                      .windows = task.windows,
                      .logits = logits,
                      .rows = static_cast<int>(logits.shape[0]),
                      .row_tiles = static_cast<int>(row_tiles),
                      .parts = parts_for(ceil_div(logits.shape[1], kTileKeys), row_tiles, num_sms, Policy::kChange)};
  while (task.keys.block_table.data != nullptr && keys.shape[1] % arguments.box != 0) arguments.box /= 2;
  const CUtensorMap key_map = tensor_map<3>(keys.data, {kDim * kSize, keys.shape[1], keys.shape[0]},
                                            {keys.stride[1] * kSize, keys.stride[0] * kSize}, {128, arguments.box, 1});
  const i64 blocks = std::min(num_sms, arguments.row_tiles * arguments.parts);
  launch_kernel(name, score_tile_kernel<Policy>, {blocks, kThreads, sizeof(Shared<T>), stream}, false, arguments,
                Policy::query_map(queries), key_map);
}

}  // namespace misa::cuda::score_tile
