// E[m, h] = |w[m, h]| * mean over block means of relu(q[m, h] . kbar), the best heads, and their queries gathered:
// FP8 or bf16 queries of 32 or 64 heads, head_dim 128
//
// Queries are read once, and the chosen ones are written once. A block takes some tiles of 64 query vectors (one or two
// rows) against block means that lie in shared memory as f16, each scaled by a power of two. One warp copies tiles
// (TMA), another the rows' own last means. Three warpgroups take turns at the tiles: they convert one to f16 in
// registers, multiply it with 64 means at a time and keep the sums only. Six warps rank its heads and write out the
// chosen ones while other tiles are multiplied. Means are numbered from the start of the cache, so that a sum does not
// depend on what else is routed. The row's own last mean is multiplied as two f16 operands that add up to it. Bound by
// register-file bandwidth, which MMA, sums and all other instructions share: they hardly overlap.

#include <algorithm>
#include <cstdint>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/f16_operands.cuh"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/pipeline/ring.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kVectors = 64, kMeans = 64;   // of a tile
constexpr int kGroups = 3, kRankers = 6, kCopiers = 2;  // warpgroups that sum, warps that rank, and that copy
constexpr int kSummers = 128 * kGroups, kThreads = kSummers + 32 * (kRankers + kCopiers);
constexpr int kPiece = 256;      // means in shared memory at a time
constexpr int kMostTiles = 128;  // of a block
constexpr int kMostRows = 2;     // of a tile

struct Arguments {
  View<const float, 2> weights;
  View<const float, 2> means;  ///< [P, D]
  Windows windows;
  View<const float, 2> tails;
  View<i32, 2> heads;
  View<double, 2> energies;
  u8* routed_values;
  View<float, 2> routed_weights;
  int rows, tiles, tiles_per_block;
};

/// A row's own last mean, f32, divided by `scale`, as two f16 operands of the tensor cores that add up to it: lane l %
/// 4 multiplies one element of each step of 16 dimensions.
struct Tail {
  uint2 planes[2][8][4];
  float scale;
};

/// Q: the queries' elements.
template <class Q>
struct Shared {
  static constexpr int kPanels = sizeof(Q), kStages = 12 / kPanels;
  // A stage belongs to one warpgroup and one ranker: a parity does not tell a round from the one before the last.
  static_assert(kStages % kGroups == 0 && kStages % kRankers == 0);
  alignas(1024) u8 queries[kStages][kPanels][kVectors * 128];  ///< panels of 128 bytes, 128-byte swizzle
  alignas(16) Tail tails[kStages][kMostRows];
  float sums[kMostTiles][kVectors];
  float scales[kPiece];
  int begin[kMostTiles * kMostRows], end[kMostTiles * kMostRows];
  u8 chosen[kRankers][kVectors];
  Ring<kStages> ring;
  u64 summed[kStages];  ///< barriers: the stage's heads are summed
};

/// The work of a block: its tiles, once for each piece of means that one of its rows sees; at least once.
template <int H>
struct Work {
  static constexpr int kRows = kVectors / H;  // of a tile
  int first_row, rows, tiles;
  int low = 0x7fffffff, high = 0;  ///< means that any row sees
  int first_piece, pieces;

  /// Finds what does not depend on the windows.
  __device__ explicit Work(const Arguments& arguments) {
    const int first = static_cast<int>(blockIdx.x) * arguments.tiles_per_block;
    tiles = min(arguments.tiles - first, arguments.tiles_per_block);
    first_row = first * kRows;
    rows = min(arguments.rows - first_row, tiles * kRows);
  }
  template <class Q>
  __device__ void find_pieces(const Shared<Q>& shared) {
    for (int row = static_cast<int>(threadIdx.x % 32); row < rows; row += 32) {
      if (shared.begin[row] >= shared.end[row]) continue;
      low = min(low, shared.begin[row]);
      high = max(high, shared.end[row]);
    }
    low = __reduce_min_sync(kFullWarp, low);
    high = __reduce_max_sync(kFullWarp, high);
    first_piece = low < high ? low / kPiece : 0;
    pieces = low < high ? (high - 1) / kPiece + 1 - first_piece : 1;
  }
};

template <class Q>
using Turn = Cursor<Shared<Q>::kStages>;

/// Splits a mean, four dimensions a lane; by a whole warp.
__device__ inline void split_tail(const float4& four, Tail& tail) {
  const int lane = static_cast<int>(threadIdx.x % 32), quad = lane / 8, step = lane % 8;
  const ScaledMean mean = scale_mean(four);
  const float inverse = 1 / mean.scale;
  const auto rest = [&](float x, __half high) {
    return __hisinf(high) != 0 ? 0.0f : fmaf(x, inverse, -__half2float(high));
  };
  const __half2 low = __floats2half2_rn(rest(four.x, mean.low.x), rest(four.y, mean.low.y));
  const __half2 high = __floats2half2_rn(rest(four.z, mean.high.x), rest(four.w, mean.high.y));
  const auto bits = [](const __half2& two) { return *reinterpret_cast<const u32*>(&two); };
  tail.planes[0][step][quad] = {bits(mean.low), bits(mean.high)};
  tail.planes[1][step][quad] = {bits(low), bits(high)};
  if (lane == 0) tail.scale = 0.5f * mean.scale;  // see twice_relu
}

/// Returns the number of tiles whose queries are copied before the windows are known.
template <class Q, int H>
__device__ int first_queries(const Work<H>& work) {
  return min(Shared<Q>::kStages, work.tiles);
}

/// Copies the queries of a tile; by one lane.
template <class Q, int H>
__device__ void copy_queries(const CUtensorMap& query_map, Shared<Q>& shared, const Work<H>& work, int stage,
                             int tile) {
  const u32 full = shared.ring.full_at(stage);
  barrier_expect(full, kVectors * kDim * sizeof(Q));
#pragma unroll
  for (int panel = 0; panel < Shared<Q>::kPanels; ++panel) {
    tma_load(shared_address(shared.queries[stage][panel]), query_map, full, 128 * panel, 0,
             work.first_row + tile * Work<H>::kRows);
  }
}

/// Copies the queries of all tiles but the first_queries(); by one lane.
template <class Q, int H>
__device__ void copy_more_queries(const CUtensorMap& query_map, Shared<Q>& shared, const Work<H>& work) {
  int tile = first_queries<Q>(work);
  Turn<Q> turn{0};
  turn.advance(tile);
  for (int piece = 0; piece < work.pieces; ++piece) {
    for (; tile < work.tiles; ++tile) {
      shared.ring.wait_empty(turn);
      copy_queries(query_map, shared, work, turn.stage, tile);
      turn.advance(1);
    }
    tile = 0;
  }
}

/// Copies the rows' own last means, two tiles ahead; by a whole warp.
template <class Q, int H>
__device__ void copy_tails(const Arguments& arguments, Shared<Q>& shared, const Work<H>& work) {
  constexpr int kRows = Work<H>::kRows;
  const int lane = static_cast<int>(threadIdx.x % 32);
  struct Rows {
    float4 tails[kRows];
  };
  const auto load = [&](int row) {
    Rows rows{};
    if (row >= work.tiles * kRows) row -= work.tiles * kRows;  // of the next piece
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (arguments.tails.data != nullptr && row + r < work.rows) {
        rows.tails[r] = *reinterpret_cast<const float4*>(&arguments.tails(work.first_row + row + r, 4 * lane));
      }
    }
    return rows;
  };
  Rows now = load(0), next = load(kRows);
  Turn<Q> turn{0};
  for (int piece = 0; piece < work.pieces; ++piece) {
    for (int row = 0; row < work.rows; row += kRows) {
      const Rows later = load(row + 2 * kRows);
      shared.ring.wait_empty(turn);
#pragma unroll
      for (int r = 0; r < kRows; ++r) split_tail(now.tails[r], shared.tails[turn.stage][r]);
      barrier_arrive(shared.ring.full_at(turn.stage));
      turn.advance(1);
      now = next;
      next = later;
    }
  }
}

/// Loads means [from, to) of the piece at `base` as f16 operands; by warp `self` of Warps.
template <int Warps, class Q>
__device__ void load_means(const Arguments& arguments, Shared<Q>& shared, u8* panels, int base, int from, int to,
                           int self) {
  constexpr int kAtOnce = 7;
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int first = from + self; first < to; first += Warps * kAtOnce) {
    float4 four[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int p = min(first + i * Warps, to - 1);
      four[i] = *reinterpret_cast<const float4*>(&arguments.means(base + p, 4 * lane));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int p = first + i * Warps;
      const ScaledMean mean = scale_mean(four[i]);
      if (p >= to) continue;
      if (lane == 0) shared.scales[p] = 0.5f * mean.scale;  // see twice_relu
      store_key(panels, kPiece * 128, p, mean.low, mean.high);
    }
  }
  fence_for_tensor_cores();
}

/// Computes a lane's part of the sums of a tile: vectors l / 4 and l / 4 + 8 of its warp's sixteen, and every fourth
/// pair of means.
template <class Q, int H>
class Summer {
 public:
  __device__ Summer(const Arguments& arguments, Shared<Q>& shared, const u8* panels, const Work<H>& work)
      : arguments_(arguments),
        shared_(shared),
        panels_(wgmma_operand(shared_address(panels))),
        work_(work),
        vector_(static_cast<int>(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4)),
        quad_(static_cast<int>(threadIdx.x % 4)) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int byte = 16 * (kParts * quad_ + part);
      parts_[part] = byte / 128 * kVectors * 128 + swizzled(vector_, byte % 128);
    }
  }

  __device__ void add(const Turn<Q>& turn, int tile, int base, bool first, bool last) {
    const int row = tile * Work<H>::kRows + vector_ / H;
    const int2 own = seen_by(row, base);
    int2 any = own;  // the tile multiplies what any of its rows sees
    if constexpr (Work<H>::kRows > 1) {
      const int2 other = seen_by(row ^ 1, base);
      any = {min(own.x, other.x), max(own.y, other.y)};
    }
    const bool own_tail = arguments_.tails.data != nullptr && own.x < own.y;
    const int2 seen{own.x, own.y - (own_tail ? 1 : 0)};
    const int end = min(kPiece, any.y);

    shared_.ring.wait_full(turn);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      uint4 words[kParts];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        words[part] = *reinterpret_cast<const uint4*>(&shared_.queries[turn.stage][0][0] + parts_[part] + 8 * 128 * r);
      }
      scale_[r] = set_query(queries_, r, words);
    }
    float sum[2][2] = {};
    for (int at = max(0, any.x) / kMeans * kMeans; at < end; at += kMeans) multiply(at, seen, sum);
    float mine = total_of({sum[0][0] + sum[0][1], sum[1][0] + sum[1][1]});
    if (last && own_tail) mine += weight_of_tail(shared_.tails[turn.stage][vector_ / H]);
    mine *= quad_ % 2 == 0 ? scale_[0] : scale_[1];
    if (quad_ < 2) {
      float& total = shared_.sums[tile][vector_ + 8 * quad_];
      total = first ? mine : total + mine;
    }
    barrier_arrive(shared_address(&shared_.summed[turn.stage]));
  }

 private:
  static constexpr int kParts = 2 * sizeof(Q);  // of a lane's 32 dimensions, 16 bytes each

  /// Returns the means that a row sees, counted from `base`.
  __device__ int2 seen_by(int row, int base) const {
    if (row >= work_.rows || shared_.begin[row] >= shared_.end[row]) return {kPiece, 0};
    return {shared_.begin[row] - base, shared_.end[row] - base};
  }

  /// Adds the terms of those means [at, at + 64) of the piece that are in `seen`.
  __device__ void multiply(int at, const int2& seen, float (&sum)[2][2]) {
    float dots[kMeans / 2];
    // Only the lower half of the operand changes; 64-bit additions would cost as much as the rest.
    const auto panel = [&](u32 offset) { return (panels_ >> 32 << 32) | (static_cast<u32>(panels_) + offset); };
    const u32 first = static_cast<u32>(at) * (128 / 16);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      constexpr u32 kPanel = kPiece * 128 / 16;
      wgmma_f16(dots, queries_[step], panel(first + step / 4 * kPanel + 2 * (step % 4)), step > 0);
    }
    wgmma_commit();
    const int from = max(0, seen.x - at), count = min(kMeans, seen.y - at) - from;
    const u64 bits = count > 0 ? ~u64{0} >> (kMeans - count) << from : 0;
    const u32 mine[2] = {static_cast<u32>(bits) >> (2 * quad_), static_cast<u32>(bits >> 32) >> (2 * quad_)};
    wgmma_wait<0>(dots);
#pragma unroll
    for (int j = 0; j < kMeans / 8; ++j) {
      const float2 scales = *reinterpret_cast<const float2*>(&shared_.scales[at + 8 * j + 2 * quad_]);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float scale = e == 0 ? scales.x : scales.y;
        const bool here = (mine[j / 4] & (1u << (8 * (j % 4) + e))) != 0;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float more = fmaf(scale, twice_relu(dots[4 * j + 2 * r + e]), sum[r][e]);
          sum[r][e] = here ? more : sum[r][e];
        }
      }
    }
  }

  /// Returns the tail's term of the vector whose total this lane has. Even columns are the first plane, odd ones the
  /// second.
  __device__ float weight_of_tail(const Tail& tail) const {
    const int plane = static_cast<int>(threadIdx.x / 4 % 2);
    float dots[2][4] = {};  // for even and odd steps: one chain would take twice as long
#pragma unroll
    for (int step = 0; step < 8; ++step) mma_f16(dots[step % 2], queries_[step], tail.planes[plane][step][quad_]);
    float sum[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = dots[0][i] + dots[1][i];
    return tail.scale * twice_relu(quad_ % 2 == 0 ? sum[0] + sum[1] : sum[2] + sum[3]);
  }

  /// Sums over the four lanes that share two vectors: lanes 0 and 2 get the first one's total, 1 and 3 the second
  /// one's.
  __device__ float total_of(const float2& parts) const {
    const bool second = quad_ % 2 == 1;
    float total = second ? parts.y : parts.x;
    total += __shfl_xor_sync(kFullWarp, second ? parts.x : parts.y, 1);
    return total + __shfl_xor_sync(kFullWarp, total, 2);
  }

  const Arguments& arguments_;
  Shared<Q>& shared_;
  const u64 panels_;
  const Work<H>& work_;
  const int vector_, quad_;
  int parts_[kParts];  ///< offsets in a tile
  u32 queries_[8][4];
  float scale_[2];  ///< what the queries were divided by
};

template <class Q, int H>
__device__ void sum_tiles(const Arguments& arguments, Shared<Q>& shared, u8* panels, const Work<H>& work) {
  const auto barrier = [] { group_barrier(1, kSummers); };
  Summer<Q, H> summer(arguments, shared, panels, work);
  int tile = static_cast<int>(threadIdx.x / 128);
  Turn<Q> turn{tile};
  for (int piece = 0; piece < work.pieces; ++piece) {
    const int number = work.first_piece + piece, base = number * kPiece;
    if (number > 0) {  // the first one is there
      if (piece > 0) barrier();
      load_means<kSummers / 32>(arguments, shared, panels, base, max(0, work.low - base) / kMeans * kMeans,
                                min(kPiece, work.high - base), static_cast<int>(threadIdx.x / 32));
      barrier();
    }
    for (; tile < work.tiles; tile += kGroups) {
      summer.add(turn, tile, base, piece == 0, piece + 1 == work.pieces);
      turn.advance(kGroups);
    }
    tile -= work.tiles;
  }
}

/// Sets the `active` highest ranks of a row to 0. The lanes of a warp have kRows rows, two ranks each. Of equal ranks
/// the lower head is taken; the first attempt is right where no two are equal.
template <int kRows>
__device__ void take_highest(int active, u32& first, u32& second) {
  constexpr int kLanes = 32 / kRows;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const u32 lanes = kRows == 1 ? kFullWarp : 0xffffu << (lane / kLanes * kLanes);
  const auto highest = [&] {
    u32 best = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool same = kRows == 1 || lane / kLanes == r;
      const u32 of_row = __reduce_max_sync(kFullWarp, same ? max(first, second) : 0);
      if (same) best = of_row;
    }
    return best;
  };
  const u32 ranks[2] = {first, second};
  for (int place = 0; place < active; ++place) {
    const u32 best = highest();
    first = first == best ? 0 : first;
    second = second == best ? 0 : second;
  }
  const int taken =
      __popc(__ballot_sync(kFullWarp, first == 0) & lanes) + __popc(__ballot_sync(kFullWarp, second == 0) & lanes);
  if (__all_sync(kFullWarp, taken == active)) return;
  first = ranks[0];
  second = ranks[1];
  for (int place = 0; place < active; ++place) {
    const u32 best = highest();
    const u32 holders = __ballot_sync(kFullWarp, max(first, second) == best) & lanes;
    if (__ffs(static_cast<int>(holders)) - 1 != lane) continue;
    if (first == best) {
      first = 0;
    } else {
      second = 0;
    }
  }
}

/// Ranks the heads of a tile's rows by their sums and writes out the chosen ones; by a whole warp. Lane l has vectors 2
/// l and 2 l + 1, so that the order of lanes is that of heads.
template <class Q, int H>
__device__ void choose(const Arguments& arguments, Shared<Q>& shared, const Work<H>& work, int tile,
                       const float2& weights, const u8 (&queries)[Shared<Q>::kPanels][kVectors * 128], u8* chosen) {
  constexpr int kRows = Work<H>::kRows, kLanes = 32 / kRows;  // that share a row
  const int lane = static_cast<int>(threadIdx.x % 32), active = static_cast<int>(arguments.heads.shape[1]);
  const int row = tile * kRows + lane / kLanes, m = work.first_row + row, head = 2 * (lane % kLanes);
  const bool inside = row < work.rows;
  const float blocks = static_cast<float>(inside ? max(1, shared.end[row] - shared.begin[row]) : 1);
  const float2 sums = *reinterpret_cast<const float2*>(&shared.sums[tile][2 * lane]);
  const float energies[2] = {fabsf(weights.x) * sums.x / blocks, fabsf(weights.y) * sums.y / blocks};
  if (inside && arguments.energies.data != nullptr) {
    arguments.energies(m, head) = energies[0];
    arguments.energies(m, head + 1) = energies[1];
  }
  u32 first = max(1u, rank_of(energies[0])), second = max(1u, rank_of(energies[1]));
  take_highest<kRows>(active, first, second);
  const u32 lanes = kRows == 1 ? kFullWarp : 0xffffu << (lane / kLanes * kLanes);
  const u32 below = lanes & ((1u << lane) - 1);
  const int place =
      __popc(__ballot_sync(kFullWarp, first == 0) & below) + __popc(__ballot_sync(kFullWarp, second == 0) & below);
  const auto keep = [&](int at, int one, float weight) {
    chosen[lane / kLanes * active + at] = static_cast<u8>(lane / kLanes * H + one);
    if (!inside) return;
    arguments.heads(m, at) = one;
    arguments.routed_weights(m, at) = weight;
  };
  if (first == 0) keep(place, head, weights.x);
  if (second == 0) keep(place + (first == 0 ? 1 : 0), head + 1, weights.y);
  __syncwarp();
  const int first_row = tile * kRows, rows = min(kRows, work.rows - first_row);
  constexpr int kBytes = kDim * sizeof(Q), kParts = kBytes / 16;
  u8* to = arguments.routed_values + static_cast<i64>(work.first_row + first_row) * active * kBytes;
  for (int i = lane; i < rows * active * kParts; i += 32) {
    const int part = i % kParts;
    *reinterpret_cast<uint4*>(to + 16 * i) =
        *reinterpret_cast<const uint4*>(queries[part / 8] + swizzled(chosen[i / kParts], part % 8 * 16));
  }
  __syncwarp();
}

/// Chooses heads, as warp `self` of kRankers.
template <class Q, int H>
__device__ void choose_heads(const Arguments& arguments, Shared<Q>& shared, const Work<H>& work, int self) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const auto weights_of = [&](int tile) {
    const int row = tile * Work<H>::kRows + 2 * lane / H, head = 2 * lane % H;
    if (row >= work.rows) return float2{0, 0};
    return float2{arguments.weights(work.first_row + row, head), arguments.weights(work.first_row + row, head + 1)};
  };
  int tile = self;
  Turn<Q> turn{self};
  for (int piece = 0; piece < work.pieces; ++piece) {
    const bool last = piece + 1 == work.pieces;
    float2 next = weights_of(tile);
    for (; tile < work.tiles; tile += kRankers) {
      const float2 weights = next;
      if (last) next = weights_of(tile + kRankers);
      barrier_wait(shared_address(&shared.summed[turn.stage]), turn.parity);
      if (last) choose<Q, H>(arguments, shared, work, tile, weights, shared.queries[turn.stage], shared.chosen[self]);
      barrier_arrive(shared.ring.empty_at(turn.stage));
      turn.advance(kRankers);
    }
    tile -= work.tiles;
  }
}

template <class Q, int H>
__global__ void __launch_bounds__(kThreads, 1)
    route_tile_kernel(const __grid_constant__ Arguments arguments, const __grid_constant__ CUtensorMap query_map) {
  Shared<Q>& shared = shared_as<Shared<Q>>();
  u8* panels = reinterpret_cast<u8*>(&shared + 1);
  if (threadIdx.x == 0) {
    shared.ring.init(33, 32);
    for (u64& summed : shared.summed) barrier_init(shared_address(&summed), 128);
    barrier_fence();
  }
  wait_for_stream();
  Work<H> work(arguments);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  if (thread == 0) {  // the thread that initialised the barriers
    for (int tile = 0; tile < first_queries<Q>(work); ++tile) copy_queries(query_map, shared, work, tile, tile);
  }
  static_assert(kMostTiles * kMostRows <= kThreads);
  if (thread < work.rows) {
    shared.begin[thread] = arguments.windows.begin[work.first_row + thread];
    shared.end[thread] = arguments.windows.end[work.first_row + thread];
  }
  // The first piece is nearly always needed, and can be loaded before the windows are known.
  load_means<kThreads / 32>(arguments, shared, panels, 0, 0,
                            static_cast<int>(min(static_cast<i64>(kPiece), arguments.means.shape[0])), warp);
  __syncthreads();
  work.find_pieces(shared);
  if (warp >= kSummers / 32) {
    shrink_registers<72>();
    const int self = warp - kSummers / 32 - kCopiers;
    if (self >= 0) {
      choose_heads<Q, H>(arguments, shared, work, self);
    } else if (self == -1) {
      copy_tails<Q, H>(arguments, shared, work);
    } else if (thread % 32 == 0) {
      copy_more_queries<Q, H>(query_map, shared, work);
    }
  } else {
    grow_registers<112>();
    sum_tiles<Q, H>(arguments, shared, panels, work);
  }
}

template <class Q, int H>
void launch(const Arguments& arguments, const View<const Q, 3>& queries, cudaStream_t stream) {
  constexpr int kBytes = sizeof(Shared<Q>) + kPiece * 256;
  constexpr i64 kSize = sizeof(Q);
  const CUtensorMap query_map =
      tensor_map<3>(queries.data, {kDim * kSize, H, arguments.rows},
                    {queries.stride[1] * kSize, queries.stride[0] * kSize}, {128, H, kVectors / H});
  launch_kernel("route_tile", route_tile_kernel<Q, H>,
                {ceil_div(arguments.tiles, arguments.tiles_per_block), kThreads, kBytes, stream}, true, arguments,
                query_map);
}

template <class Q>
bool takes(const RankGatherTask& both) {
  const auto* queries = std::get_if<View<const Q, 3>>(&both.rank.queries.values);
  if (queries == nullptr || queries->shape[2] != kDim || !vectors_align(*queries)) return false;
  return queries->shape[1] == 32 || queries->shape[1] == 64;
}

template <class Q>
void route_queries(const RankGatherTask& both, int num_sms, cudaStream_t stream) {
  const RankTask& task = both.rank;
  const auto& queries = std::get<View<const Q, 3>>(task.queries.values);
  const auto& means = std::get<View<const float, 3>>(task.keys.values);
  const i64 rows = queries.shape[0], heads = queries.shape[1], tiles = ceil_div(rows * heads, kVectors);
  const Q* routed = std::get<View<const Q, 3>>(both.gather.values).data;
  const Arguments arguments{.weights = task.queries.weights,
                            .means = {means.data, {means.shape[1], means.shape[2]}, {means.stride[1], means.stride[2]}},
                            .windows = task.windows,
                            .tails = task.tails,
                            .heads = task.heads,
                            .energies = task.energies,
                            .routed_values = reinterpret_cast<u8*>(const_cast<Q*>(routed)),
                            .routed_weights = both.gather.weights,
                            .rows = static_cast<int>(rows),
                            .tiles = static_cast<int>(tiles),
                            .tiles_per_block = static_cast<int>(std::min<i64>(kMostTiles, ceil_div(tiles, num_sms)))};
  (heads == 64 ? launch<Q, 64> : launch<Q, 32>)(arguments, queries, stream);
}

}  // namespace

bool routes_in_tiles(const RankGatherTask& both) {
  const RankTask& task = both.rank;
  const auto* means = std::get_if<View<const float, 3>>(&task.keys.values);
  if (task.router != Router::pooled || means == nullptr || !vectors_align(*means)) return false;
  if (task.keys.block_table.data != nullptr || task.keys.scales.data != nullptr) return false;
  if (task.tails.data != nullptr && (reinterpret_cast<std::uintptr_t>(task.tails.data) % 16 != 0 ||
                                     task.tails.stride[0] % 4 != 0 || task.tails.stride[1] != 1)) {
    return false;
  }
  return takes<E4m3>(both) || takes<Bf16>(both);
}

void route_in_tiles(const RankGatherTask& both, int num_sms, cudaStream_t stream) {
  takes<E4m3>(both) ? route_queries<E4m3>(both, num_sms, stream) : route_queries<Bf16>(both, num_sms, stream);
}

}  // namespace misa::cuda
