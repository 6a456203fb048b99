// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): FP8, head_dim 128, many rows over windows
//
// A tile is 128 keys x up to 256 query vectors. Two warpgroups multiply 64 keys each on the tensor cores, half of the
// columns while they reduce the other half over heads; a third one feeds them: one warp the keys and the queries (TMA),
// three the key scales. The queries stand in the tile so that a lane holds all heads of the same queries: no shuffle.
// Bound by what products and reductions take of the registers together, and by power.
//
// The head sum has one order, which every FP8 kernel here follows: four partial sums, head h in number (h / 2) % 4,
// each ascending from its first product; then (0 + 1) + (2 + 3).

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/pipeline/ring.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/score/score.hpp"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 128, kColumns = 256;
constexpr int kConsumers = 2, kThreads = 128 * (kConsumers + 1);
constexpr int kStages = 8, kQueryStages = 2;
constexpr int kGroup = 4;  ///< tiles of keys that the consumers take in one go

/// How the H heads of Q queries stand in the tile's N columns.
///   H > 32: column 8 i + 2 c + e is head 2 i + e of query c
///   else:   column 8 (g H + i) + c is head i of query 8 g + c
template <int H>
struct Tile {
  static constexpr bool kPairs = H > 32;
  static constexpr int kGroups = kPairs ? 1 : 32 / H;
  static constexpr int kQueries = kPairs ? 4 : 8 * kGroups;
  static constexpr int kWidth = kPairs ? 256 : 8 * H * kGroups;
  __host__ __device__ static constexpr int query(int column) {
    return kPairs ? column % 8 / 2 : 8 * (column / 8 / H) + column % 8;
  }
  __host__ __device__ static constexpr int head(int column) {
    return kPairs ? column / 8 * 2 + column % 2 : column / 8 % H;
  }
};

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

/// What the consumers must know of a tile of keys.
struct alignas(16) KeyTile {
  static constexpr int kNewRows = 1;  ///< the next tile of queries
  static constexpr int kLeads = 2;    ///< a group of kGroup tiles for the same queries
  static constexpr int kWhole = 4;    ///< every query sees every key
  int token;                          ///< first; -1: there is no more work
  int flags;
  int first_row, last_row;  ///< of the tile that may see it
};

struct Rows {
  alignas(16) float weights[kColumns];  ///< by column
  int begin[kColumns], end[kColumns];
  int offset[kColumns];  ///< of token 0, from the tile's first row
  int first;             ///< row of the batch that is row 0 of the tile
};

struct Shared {
  alignas(1024) u8 queries[kQueryStages][kColumns * kDim];
  alignas(1024) u8 keys[kStages][kTileKeys * kDim];
  float scales[kStages][kTileKeys];
  KeyTile tiles[kStages];
  Rows rows[kQueryStages];
  u64 full[kStages], empty[kStages], queries_full[kQueryStages], queries_empty[kQueryStages];
};

/// Rows of a tile of queries that share a sequence, and the tokens that any, or all, of them see.
struct Run {
  int first, last;  ///< rows [first, last) of the tile
  int sequence, low, high, all_low, all_high;
};

/// The run that begins at row `first` of the tile; by a whole warp.
__device__ Run find_run(const Arguments& arguments, int row0, int count, int first) {
  const Windows& windows = arguments.windows;
  Run run{first, first, 0, 0x7fffffff, 0, 0, 0x7fffffff};
  const int lane = static_cast<int>(threadIdx.x % 32);
  run.sequence = windows.sequence[row0 + first];
  const bool paged = arguments.table.data != nullptr;
  for (int base = first; base < count; base += 32) {
    const int row = base + lane;
    const bool same = row < count && (!paged || windows.sequence[row0 + row] == run.sequence);
    const unsigned others = ~__ballot_sync(kFullWarp, same);
    const int here = others == 0 ? 32 : __ffs(static_cast<int>(others)) - 1;
    if (lane < here) {
      const int begin = windows.begin[row0 + row], end = windows.end[row0 + row];
      if (begin < end) {
        run.low = min(run.low, begin);
        run.high = max(run.high, end);
      }
      run.all_low = max(run.all_low, begin);
      run.all_high = min(run.all_high, end);
    }
    run.last = base + here;
    if (here < 32) break;
  }
  run.low = __reduce_min_sync(kFullWarp, run.low);
  run.high = __reduce_max_sync(kFullWarp, run.high);
  run.all_low = __reduce_max_sync(kFullWarp, run.all_low);
  run.all_high = __reduce_min_sync(kFullWarp, run.all_high);
  return run;
}

/// Calls `rows(row0, count)` for every tile of queries that this block shall score keys with, and then
/// `keys(token, run, first_of_rows, leads, count)` for its tiles of keys; by a whole warp.
template <int H, class OnRows, class OnKeys>
__device__ void for_each_tile(const Arguments& arguments, const OnRows& on_rows, const OnKeys& on_keys) {
  const int units = arguments.row_tiles * arguments.parts;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
    const int row0 = unit % arguments.row_tiles * Tile<H>::kQueries, part = unit / arguments.row_tiles;
    const int count = min(Tile<H>::kQueries, arguments.rows - row0);
    bool fresh = true;
    for (int first = 0; first < count;) {
      const Run run = find_run(arguments, row0, count, first);
      first = run.last;
      if (run.low >= run.high) continue;
      const int begin = run.low / kTileKeys, tiles = (run.high + kTileKeys - 1) / kTileKeys - begin;
      const int from = begin + static_cast<int>(static_cast<i64>(tiles) * part / arguments.parts);
      const int to = begin + static_cast<int>(static_cast<i64>(tiles) * (part + 1) / arguments.parts);
      for (int tile = from; tile < to; ++tile) {
        if (fresh) on_rows(row0, count);
        const int place = (tile - from) % kGroup;
        on_keys(tile * kTileKeys, run, fresh, place == 0 && to - tile >= kGroup, count);
        fresh = false;
      }
    }
  }
}

template <int H>
__device__ void copy_queries_and_keys(const Arguments& arguments, const CUtensorMap& query_map,
                                      const CUtensorMap& key_map, Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int stage = 0, query_stage = 0;
  u32 parity = 1, query_parity = 1;
  for_each_tile<H>(
      arguments,
      [&](int row0, int) {
        if (lane == 0) {
          const u32 full = shared_address(&shared.queries_full[query_stage]);
          barrier_wait(shared_address(&shared.queries_empty[query_stage]), query_parity);
          barrier_expect(full, Tile<H>::kWidth * kDim);
          const u32 to = shared_address(shared.queries[query_stage]);
          if constexpr (Tile<H>::kPairs) {
            tma_load(to, query_map, full, 0, 0, row0, 0);
          } else {
            for (int group = 0; group < Tile<H>::kGroups; ++group) {
              tma_load(to + group * 8 * H * kDim, query_map, full, 0, row0 + 8 * group, 0);
            }
          }
        }
        if (++query_stage == kQueryStages) query_stage = 0, query_parity ^= 1;
      },
      [&](int token, const Run& run, bool, bool, int) {
        const u32 full = shared_address(&shared.full[stage]);
        const int copies = min(kTileKeys, run.high - token + arguments.box - 1) / arguments.box;
        if (lane == 0) {
          barrier_wait(shared_address(&shared.empty[stage]), parity);
          barrier_expect(full, copies * arguments.box * kDim);
        }
        __syncwarp();
        if (lane < copies) {
          int page = 0, slot = token + lane * arguments.box;
          if (arguments.table.data != nullptr) {
            page = arguments.table(run.sequence, slot / arguments.page_size);
            slot %= arguments.page_size;
          }
          tma_load(shared_address(shared.keys[stage] + lane * arguments.box * kDim), key_map, full, 0, slot, page);
        }
        if (++stage == kStages) stage = 0, parity ^= 1;
      });
  if (lane == 0) {
    barrier_wait(shared_address(&shared.empty[stage]), parity);
    barrier_arrive(shared_address(&shared.full[stage]));
  }
}

/// Warp `self` of kHelpers: every kHelpers-th tile's scales; the first also what the consumers need of the queries.
constexpr int kHelpers = 3;

template <int H>
__device__ void copy_scales(const Arguments& arguments, Shared& shared, int self) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int stage = 0, query_stage = 0, turn = 0;
  u32 parity = 1, query_parity = 1;
  const auto next = [&] {
    if (++stage == kStages) stage = 0, parity ^= 1;
    if (++turn == kHelpers) turn = 0;
  };
  for_each_tile<H>(
      arguments,
      [&](int row0, int count) {
        if (self == 0) {
          barrier_wait(shared_address(&shared.queries_empty[query_stage]), query_parity);
          Rows& rows = shared.rows[query_stage];
          for (int column = lane; column < Tile<H>::kWidth; column += 32) {
            const int row = Tile<H>::query(column);
            rows.weights[column] = row < count ? arguments.weights(row0 + row, Tile<H>::head(column)) : 0.0f;
          }
          if (lane == 0) rows.first = row0;
          for (int row = lane; row < Tile<H>::kQueries; row += 32) {
            const int begin = row < count ? arguments.windows.begin[row0 + row] : 0;
            rows.begin[row] = begin;
            rows.end[row] = row < count ? arguments.windows.end[row0 + row] : 0;
            rows.offset[row] = static_cast<int>(row * arguments.logits.stride[0]) - begin;
          }
          barrier_arrive(shared_address(&shared.queries_full[query_stage]));
        }
        if (++query_stage == kQueryStages) query_stage = 0, query_parity ^= 1;
      },
      [&](int token, const Run& run, bool fresh, bool leads, int count) {
        if (turn == self) {
          float scale[kTileKeys / 32];
#pragma unroll
          for (int i = 0; i < kTileKeys / 32; ++i) {
            const int at = token + 32 * i + lane;
            scale[i] = 1;
            if (arguments.scales.data != nullptr && at < run.high) {
              i64 page = 0, slot = at;
              if (arguments.table.data != nullptr) {
                page = arguments.table(run.sequence, at / arguments.page_size);
                slot = at % arguments.page_size;
              }
              scale[i] = arguments.scales(page, slot);
            }
          }
          barrier_wait(shared_address(&shared.empty[stage]), parity);
#pragma unroll
          for (int i = 0; i < kTileKeys / 32; ++i) shared.scales[stage][32 * i + lane] = scale[i];
          if (lane == 0) {
            const bool everyone = run.first == 0 && run.last == Tile<H>::kQueries && count == Tile<H>::kQueries;
            const bool whole = everyone && token >= run.all_low && token + kTileKeys <= run.all_high;
            shared.tiles[stage] = {token, fresh * KeyTile::kNewRows + leads * KeyTile::kLeads + whole * KeyTile::kWhole,
                                   run.first, run.last};
          }
          barrier_arrive(shared_address(&shared.full[stage]));
        }
        next();
      });
  if (turn == self) {
    barrier_wait(shared_address(&shared.empty[stage]), parity);
    if (lane == 0) shared.tiles[stage].token = -1;
    barrier_arrive(shared_address(&shared.full[stage]));
  }
  // What no row sees.
  for (i64 m = blockIdx.x; m < arguments.rows; m += gridDim.x) {
    const int visible = max(0, arguments.windows.end[m] - arguments.windows.begin[m]);
    for (i64 c = visible + 32 * self + lane; c < arguments.logits.shape[1]; c += 32 * kHelpers) {
      arguments.logits(m, c) = -std::numeric_limits<float>::infinity();
    }
  }
}

/// A lane's part of one tile of keys after the other against a tile of queries. The columns are multiplied in two
/// halves, and one of them is always being multiplied while the other is reduced, from one tile to the next too.
template <int H>
class Scorer {
  using T = Tile<H>;
  static constexpr bool kCarry = T::kGroups == 1;  // the halves share queries
  static constexpr int kSplit = kCarry ? T::kWidth / 2 : 8 * H * ((T::kGroups + 1) / 2);
  static constexpr int kQueries = T::kPairs ? 1 : 2;  // of a lane, of each group

 public:
  __device__ Scorer(const Arguments& arguments, Shared& shared, int consumer)
      : arguments_(arguments),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x % 128)),
        quad_(thread_ % 4),
        key_(consumer * 64 + thread_ / 32 * 16 + thread_ % 32 / 4),
        first_key_(consumer * 64) {}

  __device__ void run() {
    for (;;) {
      const KeyTile tile = wait_for_keys();
      if (tile.token < 0) return;
      if ((tile.flags & KeyTile::kNewRows) != 0) take_rows();
      if ((tile.flags & KeyTile::kLeads) != 0) {
        score<kGroup>(tile);
      } else {
        score<1>(tile);
      }
    }
  }

 private:
  __device__ KeyTile wait_for_keys() const {
    barrier_wait(shared_address(&shared_.full[stage_]), parity_);
    return shared_.tiles[stage_];
  }

  /// `Count` tiles for the same queries, the first of which is there. The compiler lets a product be under way while
  /// another is read only where it sees all of its way: not round a loop.
  template <int Count>
  __device__ void score(KeyTile tile) {
    float low[kSplit / 2], high[(T::kWidth - kSplit) / 2];
    start(low, 0);
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      start(high, kSplit);
      const float scale[2] = {shared_.scales[stage_][key_], shared_.scales[stage_][key_ + 8]};
      const KeyTile now = tile;
      float partial[kQueries][2][4];  // of the queries that the halves share
      wgmma_wait<1>(low);
      finish<0, kSplit>(low, now, scale, partial);
      if constexpr (kCarry) {
#pragma unroll
        for (auto& query : partial) {
          keep_here(query[0]);
          keep_here(query[1]);
        }
      }
      const u32 done = shared_address(&shared_.empty[stage_]);
      if (++stage_ == kStages) stage_ = 0, parity_ ^= 1;
      if (i + 1 < Count) {
        tile = wait_for_keys();
        start(low, 0);
        wgmma_wait<1>(high);
      } else {
        wgmma_wait<0>(high);
      }
      __syncwarp();
      barrier_arrive_if(thread_ % 32 == 0, done);
      finish<kSplit, T::kWidth>(high, now, scale, partial);
    }
  }

  __device__ void take_rows() {
    if (logits_ != nullptr) {  // each warp for itself: they need not be at the same tile
      __syncwarp();
      if (thread_ % 32 == 0) barrier_arrive(shared_address(&shared_.queries_empty[query_stage_]));
    }
    if (++query_stage_ == kQueryStages) query_stage_ = 0, query_parity_ ^= 1;
    barrier_wait(shared_address(&shared_.queries_full[query_stage_]), query_parity_);
    const Rows& rows = shared_.rows[query_stage_];
    logits_ = arguments_.logits.data + rows.first * arguments_.logits.stride[0];
#pragma unroll
    for (int i = 0; i < T::kWidth / 8; ++i) {
      const float2 pair = *reinterpret_cast<const float2*>(&rows.weights[8 * i + 2 * quad_]);
      weights_[2 * i] = 0.5f * pair.x;
      weights_[2 * i + 1] = 0.5f * pair.y;
    }
  }

  /// Columns [from, from + 2 * Count) of the current tile.
  template <int Count>
  __device__ void start(float (&sums)[Count], int from) {
    const u64 a = wgmma_operand(shared_address(shared_.keys[stage_] + first_key_ * kDim));
    const u64 b = wgmma_operand(shared_address(shared_.queries[query_stage_] + from * kDim));
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDim / 32; ++step) wgmma<2 * Count>(sums, a + 2 * step, b + 2 * step, step > 0);
    wgmma_commit();
  }

  /// Reduces columns [From, To) over heads and stores the queries whose last column is among them.
  template <int From, int To, int Count>
  __device__ void finish(const float (&sums)[Count], const KeyTile& tile, const float (&scale)[2],
                         float (&carried)[kQueries][2][4]) const {
    constexpr int kFirst = From / 8, kLast = To / 8;  // pairs of columns that a lane holds
    constexpr int kEach = T::kPairs ? H / 2 : H;      // pairs of a group
    constexpr int kFirstGroup = kFirst / kEach, kGroups = kLast / kEach - kFirstGroup;  // that end here
    float scores[kGroups > 0 ? kGroups : 1][kQueries][2];
#pragma unroll
    for (int group = kFirstGroup; group * kEach < kLast; ++group) {
      const int begin = max(kFirst, group * kEach), end = min(kLast, (group + 1) * kEach);
#pragma unroll
      for (int e = 0; e < kQueries; ++e) {
        float fresh[2][4] = {};
        float(&partial)[2][4] = kCarry ? carried[e] : fresh;
#pragma unroll
        for (int pair = begin; pair < end; ++pair) {
#pragma unroll
          for (int odd = 0; odd < (T::kPairs ? 2 : 1); ++odd) {
            const int head = T::kPairs ? 2 * pair + odd : pair - group * kEach, column = T::kPairs ? odd : e;
            const float w = weights_[2 * pair + column];
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              const float x = twice_relu(sums[4 * (pair - kFirst) + 2 * r + column]);
              float& p = partial[r][head / 2 % 4];
              p = head < 8 && head % 2 == 0 ? __fmul_rn(w, x) : __fmaf_rn(w, x, p);
            }
          }
        }
        if (end == (group + 1) * kEach) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float sum =
                __fadd_rn(__fadd_rn(partial[r][0], partial[r][1]), __fadd_rn(partial[r][2], partial[r][3]));
            scores[group - kFirstGroup][e][r] = scale[r] * sum;
          }
        }
      }
    }
    if constexpr (kGroups > 0) {
      if ((tile.flags & KeyTile::kWhole) != 0) {
        store<true>(tile, kFirstGroup, scores);
      } else {
        store<false>(tile, kFirstGroup, scores);
      }
    }
  }

  /// Without branches where every query sees every key.
  template <bool Whole, int Groups>
  __device__ void store(const KeyTile& tile, int first_group, const float (&scores)[Groups][kQueries][2]) const {
    const Rows& rows = shared_.rows[query_stage_];
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int row = T::kPairs ? quad_ : 8 * (first_group + i) + 2 * quad_;
      int offset[kQueries];
      if constexpr (T::kPairs) {
        offset[0] = rows.offset[row];
      } else {
        const int2 two = *reinterpret_cast<const int2*>(&rows.offset[row]);
        offset[0] = two.x;
        offset[1] = two.y;
      }
#pragma unroll
      for (int e = 0; e < kQueries; ++e) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int token = tile.token + key_ + 8 * r;
          if (Whole || sees(tile, rows, row + e, token)) logits_[offset[e] + token] = scores[i][e][r];
        }
      }
    }
  }

  __device__ static bool sees(const KeyTile& tile, const Rows& rows, int row, int token) {
    return row >= tile.first_row && row < tile.last_row && token >= rows.begin[row] && token < rows.end[row];
  }

  const Arguments& arguments_;
  Shared& shared_;
  const int thread_, quad_, key_, first_key_;
  int stage_ = 0, query_stage_ = kQueryStages - 1;
  u32 parity_ = 0, query_parity_ = 1;
  float* logits_ = nullptr;
  float weights_[T::kWidth / 4];  ///< half of each: see twice_relu
};

template <int H>
__global__ void __launch_bounds__(kThreads, 1)
    score_tile_kernel(const __grid_constant__ Arguments arguments, const __grid_constant__ CUtensorMap query_map,
                      const __grid_constant__ CUtensorMap key_map) {
  Shared& shared = shared_as<Shared>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(shared_address(&shared.full[i]), 33);
      barrier_init(shared_address(&shared.empty[i]), kConsumers * 4);
    }
    for (int i = 0; i < kQueryStages; ++i) {
      barrier_init(shared_address(&shared.queries_full[i]), 33);
      barrier_init(shared_address(&shared.queries_empty[i]), kConsumers * 4);
    }
    barrier_fence();
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x / 128), warp = static_cast<int>(threadIdx.x / 32 % 4);
  if (group == kConsumers) {
    shrink_registers<40>();
    if (warp == 0) {
      copy_queries_and_keys<H>(arguments, query_map, key_map, shared);
    } else {
      copy_scales<H>(arguments, shared, warp - 1);
    }
  } else {
    grow_registers<232>();
    Scorer<H>(arguments, shared, __shfl_sync(kFullWarp, group, 0)).run();
  }
}

template <int H>
void launch(const ScoreTask& task, const View<const E4m3, 3>& queries, const View<const E4m3, 3>& keys, int num_sms,
            cudaStream_t stream) {
  using T = Tile<H>;
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const bool paged = task.keys.block_table.data != nullptr;
  Arguments arguments{.weights = task.queries.weights,
                      .scales = task.keys.scales,
                      .table = task.keys.block_table,
                      .page_size = static_cast<int>(keys.shape[1]),
                      .box = kTileKeys,
                      .windows = task.windows,
                      .logits = logits,
                      .rows = static_cast<int>(logits.shape[0]),
                      .row_tiles = static_cast<int>(ceil_div(logits.shape[0], T::kQueries)),
                      .parts = 1};
  while (paged && keys.shape[1] % arguments.box != 0) arguments.box /= 2;
  // As many parts of the keys as leave the last round of blocks full. A unit costs half a tile more than its tiles.
  const double tiles = static_cast<double>(ceil_div(logits.shape[1], kTileKeys));
  double least = std::numeric_limits<double>::infinity();
  for (int parts = 1; parts == 1 || (kGroup * parts <= tiles && parts <= 2 * num_sms); ++parts) {
    const double rounds = static_cast<double>(ceil_div(i64{arguments.row_tiles} * parts, num_sms));
    const double cost = rounds * (tiles / parts + 0.5);
    if (cost < least) least = cost, arguments.parts = parts;
  }

  const auto query_map = [&] {
    const i64 vector = queries.stride[1], row = queries.stride[0];
    if constexpr (T::kPairs) {
      return tensor_map<4>(queries.data, {kDim, 2, arguments.rows, H / 2}, {vector, row, 2 * vector},
                           {kDim, 2, 4, H / 2});
    } else {
      return tensor_map<3>(queries.data, {kDim, arguments.rows, H}, {row, vector}, {kDim, 8, H});
    }
  }();
  const CUtensorMap key_map = tensor_map<3>(keys.data, {kDim, keys.shape[1], keys.shape[0]},
                                            {keys.stride[1], keys.stride[0]}, {kDim, arguments.box, 1});
  const int blocks = std::min(num_sms, arguments.row_tiles * arguments.parts);
  launch_kernel("score_tile", score_tile_kernel<H>, {blocks, kThreads, sizeof(Shared), stream}, false, arguments,
                query_map, key_map);
}

using Launch = void (*)(const ScoreTask&, const View<const E4m3, 3>&, const View<const E4m3, 3>&, int, cudaStream_t);
constexpr std::array<Launch, 17> kLaunches{nullptr,    launch<1>,  launch<2>,  launch<3>,  launch<4>,  launch<5>,
                                           launch<6>,  launch<7>,  launch<8>,  launch<9>,  launch<10>, launch<11>,
                                           launch<12>, launch<13>, launch<14>, launch<15>, launch<16>};

Launch launch_for(i64 heads) {
  if (heads <= 16) return kLaunches[static_cast<std::size_t>(heads)];
  return heads == 32 ? launch<32> : heads == 64 ? launch<64> : nullptr;
}

}  // namespace

bool tiles(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const E4m3, 3>>(&task.queries.values);
  const auto* keys = std::get_if<View<const E4m3, 3>>(&task.keys.values);
  if (queries == nullptr || keys == nullptr || task.candidates || queries->shape[2] != kDim) return false;
  if (launch_for(queries->shape[1]) == nullptr) return false;
  // The longest offset of a tile's rows must fit 32 bits, and copies want multiples of 16 bytes.
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  if (logits.stride[0] * kColumns > 0x7fffffff) return false;
  if (!vectors_align(*queries) || !vectors_align(*keys)) return false;
  if (task.keys.block_table.data == nullptr) return queries->shape[0] >= 16;
  // Paged rows share a tile only where they share a sequence.
  return keys->shape[1] % 8 == 0 && queries->shape[0] >= 16 && queries->shape[0] >= 8 * task.keys.block_table.shape[0];
}

void score_in_tiles(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  const auto& queries = std::get<View<const E4m3, 3>>(task.queries.values);
  const auto& keys = std::get<View<const E4m3, 3>>(task.keys.values);
  launch_for(queries.shape[1])(task, queries, keys, num_sms, stream);
}

}  // namespace misa::cuda
