// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): FP8, head_dim 128, many rows over windows
//
// A tile is 128 keys x up to 256 query vectors. Two warpgroups multiply 64 keys each on the tensor cores and reduce over
// heads while the other multiplies; a fourth of the block feeds them: one warp the keys and the queries (TMA), three the
// key scales. The queries stand in the tile so that a lane holds all heads of the same queries: no shuffle. Bound by
// the tensor cores.
//
// The head sum has one order, which every FP8 kernel here follows: four partial sums, head h in number (h / 2) % 4, each
// ascending from its first product; then (0 + 1) + (2 + 3).

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "backends/cuda/check.hpp"
#include "backends/cuda/keys.cuh"
#include "backends/cuda/score.hpp"
#include "backends/cuda/tma.cuh"
#include "backends/cuda/wgmma.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 128, kColumns = 256;
constexpr int kConsumers = 2, kThreads = 128 * (kConsumers + 1);
constexpr int kStages = 8, kQueryStages = 2;

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
  int token;       ///< first; -1: there is no more work
  bool new_rows;   ///< the next tile of queries
  bool whole;      ///< every query sees every key
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
    const unsigned others = ~__ballot_sync(0xffffffffu, same);
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
  run.low = __reduce_min_sync(0xffffffffu, run.low);
  run.high = __reduce_max_sync(0xffffffffu, run.high);
  run.all_low = __reduce_max_sync(0xffffffffu, run.all_low);
  run.all_high = __reduce_min_sync(0xffffffffu, run.all_high);
  return run;
}

/// Calls `rows(row0, count)` for every tile of queries that this block shall score keys with, and then
/// `keys(token, run, first_of_rows)` for its tiles of keys; by a whole warp.
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
        on_keys(tile * kTileKeys, run, fresh, count);
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
      [&](int token, const Run& run, bool, int) {
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
          __syncwarp();
          if (lane == 0) barrier_arrive(shared_address(&shared.queries_full[query_stage]));
        }
        if (++query_stage == kQueryStages) query_stage = 0, query_parity ^= 1;
      },
      [&](int token, const Run& run, bool fresh, int count) {
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
            shared.tiles[stage] = {token, fresh,
                                   everyone && token >= run.all_low && token + kTileKeys <= run.all_high, run.first,
                                   run.last};
          }
          __syncwarp();
          if (lane == 0) barrier_arrive(shared_address(&shared.full[stage]));
        }
        next();
      });
  if (turn == self && lane == 0) {
    barrier_wait(shared_address(&shared.empty[stage]), parity);
    shared.tiles[stage].token = -1;
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

template <int H>
__device__ void score_tiles(const Arguments& arguments, Shared& shared, int consumer) {
  using T = Tile<H>;
  constexpr int kPairs = T::kWidth / 8;  // columns that a lane holds, by twos
  const int thread = static_cast<int>(threadIdx.x % 128), lane = thread % 32, quad = lane % 4;
  const int key = consumer * 64 + thread / 32 * 16 + lane / 4;
  float weights[2 * kPairs];
  float sums[T::kWidth / 2];
  const Rows* rows = nullptr;
  float* logits = nullptr;
  int stage = 0, query_stage = kQueryStages - 1;
  u32 parity = 0, query_parity = 1;
  u64 b = 0;

  for (;;) {
    barrier_wait(shared_address(&shared.full[stage]), parity);
    const KeyTile tile = shared.tiles[stage];
    if (tile.token < 0) break;
    if (tile.new_rows) {
      if (rows != nullptr && thread == 0) barrier_arrive(shared_address(&shared.queries_empty[query_stage]));
      if (++query_stage == kQueryStages) query_stage = 0, query_parity ^= 1;
      barrier_wait(shared_address(&shared.queries_full[query_stage]), query_parity);
      rows = &shared.rows[query_stage];
      logits = arguments.logits.data + rows->first * arguments.logits.stride[0];
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const float2 pair = *reinterpret_cast<const float2*>(&rows->weights[8 * i + 2 * quad]);
        weights[2 * i] = pair.x;
        weights[2 * i + 1] = pair.y;
      }
      b = wgmma_operand(shared_address(shared.queries[query_stage]));
    }
    const u64 a = wgmma_operand(shared_address(shared.keys[stage] + consumer * 64 * kDim));
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDim / 32; ++step) wgmma<T::kWidth>(sums, a + 2 * step, b + 2 * step, step > 0);
    wgmma_commit();
    const float scale[2] = {shared.scales[stage][key], shared.scales[stage][key + 8]};
    wgmma_wait();
    __syncwarp();
    if (lane == 0) barrier_arrive(shared_address(&shared.empty[stage]));
    if (++stage == kStages) stage = 0, parity ^= 1;

    // Query `row` of the tile from its lane's registers: head h is register pair first + h * step.
    const auto finish = [&](int row, int first, int e, auto heads_in_pairs) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float partial[4] = {0, 0, 0, 0};
        constexpr bool kInPairs = decltype(heads_in_pairs)::value;
#pragma unroll
        for (int h = 0; h < H; ++h) {
          const int pair = kInPairs ? h / 2 : first + h, odd = kInPairs ? h % 2 : e;
          const float x = relu_nan(sums[4 * pair + 2 * r + odd]), w = weights[2 * pair + odd];
          float& p = partial[h / 2 % 4];
          p = h < 8 && h % 2 == 0 ? __fmul_rn(w, x) : __fmaf_rn(w, x, p);
        }
        const float sum = __fadd_rn(__fadd_rn(partial[0], partial[1]), __fadd_rn(partial[2], partial[3]));
        const int token = tile.token + key + 8 * r;
        if (tile.whole || (row >= tile.first_row && row < tile.last_row && token >= rows->begin[row] &&
                           token < rows->end[row])) {
          logits[rows->offset[row] + token] = scale[r] * sum;
        }
      }
    };
    if constexpr (T::kPairs) {
      finish(quad, 0, 0, std::true_type());
    } else {
#pragma unroll
      for (int group = 0; group < T::kGroups; ++group) {
#pragma unroll
        for (int e = 0; e < 2; ++e) finish(8 * group + 2 * quad + e, group * H, e, std::false_type());
      }
    }
  }
}

template <int H>
__global__ void __launch_bounds__(kThreads, 1)
    score_tile_kernel(const __grid_constant__ Arguments arguments, const __grid_constant__ CUtensorMap query_map,
                      const __grid_constant__ CUtensorMap key_map) {
  extern __shared__ u8 memory[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<std::uintptr_t>(memory) + 1023) & ~std::uintptr_t{1023});
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(shared_address(&shared.full[i]), 2);
      barrier_init(shared_address(&shared.empty[i]), kConsumers * 4);
    }
    for (int i = 0; i < kQueryStages; ++i) {
      barrier_init(shared_address(&shared.queries_full[i]), 2);
      barrier_init(shared_address(&shared.queries_empty[i]), kConsumers);
    }
    barrier_fence();
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x / 128), warp = static_cast<int>(threadIdx.x / 32 % 4);
  if (group == kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (warp == 0) {
      copy_queries_and_keys<H>(arguments, query_map, key_map, shared);
    } else {
      copy_scales<H>(arguments, shared, warp - 1);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    score_tiles<H>(arguments, shared, group);
  }
}

template <int H>
void launch(const ScoreTask& task, const View<const E4m3, 3>& queries, const View<const E4m3, 3>& keys, int processors,
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
  // Parts of some 32 tiles, and enough of them that the last round of blocks is a small part of all.
  const i64 tiles = ceil_div(logits.shape[1], kTileKeys);
  const i64 wanted = std::max(ceil_div(tiles, 32), ceil_div(8 * processors, arguments.row_tiles));
  arguments.parts = static_cast<int>(std::max<i64>(1, std::min(wanted, ceil_div(tiles, 4))));

  const auto query_map = [&] {
    const i64 vector = queries.stride[1], row = queries.stride[0];
    if constexpr (T::kPairs) {
      return tensor_map<4>(queries.data, {kDim, 2, arguments.rows, H / 2}, {vector, row, 2 * vector}, {kDim, 2, 4, H / 2});
    } else {
      return tensor_map<3>(queries.data, {kDim, arguments.rows, H}, {row, vector}, {kDim, 8, H});
    }
  }();
  const CUtensorMap key_map =
      tensor_map<3>(keys.data, {kDim, keys.shape[1], keys.shape[0]}, {keys.stride[1], keys.stride[0]},
                    {kDim, arguments.box, 1});
  constexpr int kBytes = static_cast<int>(sizeof(Shared)) + 1024;
  const auto kernel = score_tile_kernel<H>;
  static const bool ready = [&] {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "score: shared memory");
    return true;
  }();
  (void)ready;
  const int blocks = std::min(processors, arguments.row_tiles * arguments.parts);
  kernel<<<static_cast<unsigned>(blocks), kThreads, kBytes, stream>>>(arguments, query_map, key_map);
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

void score_in_tiles(const ScoreTask& task, int processors, cudaStream_t stream) {
  const auto& queries = std::get<View<const E4m3, 3>>(task.queries.values);
  const auto& keys = std::get<View<const E4m3, 3>>(task.keys.values);
  launch_for(queries.shape[1])(task, queries, keys, processors, stream);
  check(cudaGetLastError(), "score in tiles");
}

}  // namespace misa::cuda
