// E[m, h] = |w[m, h]| * mean over block means of relu(q[m, h] . kbar), the best heads, and their queries gathered: FP8
// queries of 32 or 64 heads, head_dim 128
//
// A block takes some tiles of 64 query vectors (one or two rows). Block means lie in shared memory as f16, each scaled
// by a power of two; a warpgroup holds the queries of a tile in registers, widened to f16, multiplies 64 means at a
// time and keeps sums alone. Means and their numbers are those of the whole cache, so that a sum does not depend on
// what else is routed. The row's own last mean is multiplied in f32. Bound by the tensor cores.

#include <algorithm>
#include <cstdint>

#include "backends/cuda/check.hpp"
#include "backends/cuda/keys.cuh"
#include "backends/cuda/means.cuh"
#include "backends/cuda/route.hpp"
#include "backends/cuda/tma.cuh"
#include "backends/cuda/wgmma.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kVectors = 64, kMeans = 64;  // of a tile
constexpr int kGroups = 4, kThreads = 128 * kGroups;
constexpr int kPiece = 512;      // means in shared memory at a time
constexpr int kMostTiles = 128;  // of a block

struct Arguments {
  View<const E4m3, 3> queries;
  View<const float, 2> weights;
  View<const float, 2> means;  ///< [P, D]
  Windows windows;
  View<const float, 2> tails;
  View<i32, 2> heads;
  View<double, 2> energies;
  E4m3* routed_values;
  View<float, 2> routed_weights;
  int rows, tiles, tiles_per_block, piece;
};

struct Shared {
  float sums[kMostTiles][kVectors];
  float scales[kPiece];
  u32 ranks[kGroups][kVectors];
  u32 kept[kGroups][kVectors / 32];
  int low, high;
};

__device__ inline void group_barrier(int group) { asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory"); }

/// Means [base, base + count) as f16: two panels of 64 dimensions, rows of 128 bytes with the 128-byte swizzle. The
/// order of dimensions is the one in which a lane's 32 consecutive bytes of a query are its registers.
__device__ void load_means(const Arguments& arguments, Shared& shared, u8* panels, int base, int count) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int p = static_cast<int>(threadIdx.x / 32); p < arguments.piece; p += kThreads / 32) {
    float4 four{0, 0, 0, 0};
    if (p < count) {
      const float* from = &arguments.means(base + p, 4 * lane);
      four = {from[0], from[1], from[2], from[3]};
    }
    const ScaledMean mean = scale_mean(four);
    if (lane == 0) shared.scales[p] = 0.5f * mean.scale;  // see twice_relu
    const int quad = lane / 8, step = lane % 8;
    u8* row = panels + (step / 4) * arguments.piece * 128 + p * 128;
    const int at = (16 * (step % 4) + 2 * quad) * 2;
    const auto place = [&](int byte) { return row + (((byte / 16) ^ (p % 8)) * 16 + byte % 16); };
    *reinterpret_cast<__half2*>(place(at)) = mean.low;
    *reinterpret_cast<__half2*>(place(at + 16)) = mean.high;
  }
}

/// Adds the sums over the piece of means that begins at `base` to those of a tile.
template <int H>
__device__ void sum_tile(const Arguments& arguments, Shared& shared, const u8* panels, int tile, int base, bool last) {
  const int thread = static_cast<int>(threadIdx.x % 128), lane = thread % 32, quad = lane % 4;
  constexpr int heads = H;
  const int vector = thread / 32 * 16 + lane / 4;  // and vector + 8, of the same query
  const int row = (tile * kVectors + vector) / heads;
  const bool inside = row < arguments.rows;
  const int end = inside ? arguments.windows.end[row] : 0, begin = inside ? arguments.windows.begin[row] : 0;
  const bool own_tail = arguments.tails.data != nullptr && end > begin;
  const int low = max(0, begin - base), high = min(arguments.piece, end - (own_tail ? 1 : 0) - base);

  u32 query[8][4];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = (tile * kVectors + vector + 8 * r) % heads;
    uint4 bytes[2] = {};
    if (inside) {
      const uint4* from = reinterpret_cast<const uint4*>(&arguments.queries(row, head, 32 * quad));
      bytes[0] = from[0];
      bytes[1] = from[1];
    }
    const u32 words[8] = {bytes[0].x, bytes[0].y, bytes[0].z, bytes[0].w,
                          bytes[1].x, bytes[1].y, bytes[1].z, bytes[1].w};
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      query[step][r] = halves_of(words[step] & 0xffffu);
      query[step][2 + r] = halves_of(words[step] >> 16);
    }
  }

  float sum[2] = {0, 0};
  // Rows of a tile may see different means: the tile multiplies what any of them sees.
  const int first_row = tile * kVectors / heads, last_row = min(arguments.rows, (tile + 1) * kVectors / heads);
  int any_low = kPiece, any_high = 0;
  for (int m = first_row; m < last_row; ++m) {
    any_low = min(any_low, arguments.windows.begin[m] - base);
    any_high = max(any_high, arguments.windows.end[m] - base);
  }
  any_low = max(0, any_low) / kMeans * kMeans;
  any_high = min(arguments.piece, any_high);
  const u64 b = wgmma_operand(shared_address(panels));
  for (int at = any_low; at < any_high; at += kMeans) {
    float dots[kMeans / 2];
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      const int offset = (step / 4) * arguments.piece * 128 + at * 128 + (step % 4) * 32;
      wgmma_f16(dots, query[step], b + static_cast<u64>(offset >> 4), step > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
    const bool whole = at >= low && at + kMeans <= high;
#pragma unroll
    for (int i = 0; i < kMeans / 4; ++i) {
      const int mean = at + i / 2 * 8 + 2 * quad + i % 2;
      if (!whole && (mean < low || mean >= high)) continue;
      const float scale = shared.scales[mean];
#pragma unroll
      for (int r = 0; r < 2; ++r) sum[r] = fmaf(scale, twice_relu(dots[i / 2 * 4 + 2 * r + i % 2]), sum[r]);
    }
  }

  float tail[2] = {0, 0};
  if (last && own_tail) {
#pragma unroll
    for (int d = 0; d < 32; d += 4) {
      const float4 four = *reinterpret_cast<const float4*>(&arguments.tails(row, 32 * quad + d));
      const float mean[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float2 wide = __half22float2(*reinterpret_cast<const __half2*>(&query[d / 4][2 * j + r]));
          tail[r] = fmaf(wide.x, mean[2 * j], tail[r]);
          tail[r] = fmaf(wide.y, mean[2 * j + 1], tail[r]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], step);
      tail[r] += __shfl_xor_sync(0xffffffffu, tail[r], step);
    }
    if (quad == 0) {
      float& total = shared.sums[tile % arguments.tiles_per_block][vector + 8 * r];
      total += sum[r] + (last && own_tail ? 0.5f * twice_relu(tail[r]) : 0.0f);
    }
  }
}

/// From the sums of a tile to the heads of its rows.
template <int H>
__device__ void choose(const Arguments& arguments, Shared& shared, int tile, int group) {
  constexpr int heads = H;
  const int thread = static_cast<int>(threadIdx.x % 128);
  const int active = static_cast<int>(arguments.heads.shape[1]);
  const int row = (tile * kVectors + thread) / heads, head = thread % heads, first = thread / heads * heads;
  const bool mine = thread < kVectors && row < arguments.rows;
  u32* ranks = shared.ranks[group];
  group_barrier(group);
  if (mine) {
    const int blocks = arguments.windows.end[row] - arguments.windows.begin[row];
    const float energy = fabsf(arguments.weights(row, head)) * shared.sums[tile % arguments.tiles_per_block][thread] /
                         static_cast<float>(max(1, blocks));
    if (arguments.energies.data != nullptr) arguments.energies(row, head) = energy;
    ranks[thread] = rank_of(energy);
  }
  group_barrier(group);
  if (thread < kVectors) {
    int better = 0;  // higher, then the lower head; NaN last
    if (mine) {
      const u32 own = ranks[thread];
#pragma unroll 16
      for (int other = 0; other < heads; ++other) {
        const u32 theirs = ranks[first + other];
        better += theirs > own || (theirs == own && other < head) ? 1 : 0;
      }
    }
    const u32 kept = __ballot_sync(0xffffffffu, mine && better < active);
    if (thread % 32 == 0) shared.kept[group][thread / 32] = kept;
  }
  group_barrier(group);
  // A thread copies 16 bytes of a chosen head.
  const auto copy = [&](int chosen, int part) {
    const int tile_row = chosen / active;
    const int m = tile * kVectors / heads + tile_row;
    if (m >= arguments.rows) return;
    int place = chosen % active, found = 0;
    for (int word = tile_row * heads / 32; word < (tile_row + 1) * heads / 32; ++word) {
      const u32 kept = shared.kept[group][word];
      const int here = __popc(kept);
      if (place < here) {
        found = word * 32 + static_cast<int>(__fns(kept, 0, place + 1));
        break;
      }
      place -= here;
    }
    const int one = found - tile_row * heads;
    const i64 slot = chosen % active;
    const uint4 bytes = *(reinterpret_cast<const uint4*>(&arguments.queries(m, one, 0)) + part);
    *(reinterpret_cast<uint4*>(arguments.routed_values + (m * active + slot) * kDim) + part) = bytes;
    if (part == 0) {
      arguments.heads(m, slot) = one;
      arguments.routed_weights(m, slot) = arguments.weights(m, one);
    }
  };
  for (int i = thread; i < kVectors / heads * active * 8; i += 128) copy(i / 8, i % 8);
}

template <int H>
__global__ void __launch_bounds__(kThreads, 1) route_tile_kernel(const __grid_constant__ Arguments arguments) {
  extern __shared__ __align__(1024) u8 panels[];
  Shared& shared = *reinterpret_cast<Shared*>(panels + 2 * arguments.piece * 128);
  constexpr int heads = H;
  const int group = static_cast<int>(threadIdx.x / 128);
  const int first = static_cast<int>(blockIdx.x) * arguments.tiles_per_block;
  const int last = min(arguments.tiles, first + arguments.tiles_per_block);
  if (threadIdx.x == 0) {
    shared.low = 0x7fffffff;
    shared.high = 0;
  }
  for (int i = static_cast<int>(threadIdx.x); i < arguments.tiles_per_block * kVectors; i += kThreads) {
    shared.sums[i / kVectors][i % kVectors] = 0;
  }
  __syncthreads();
  const int rows_end = min(arguments.rows, last * kVectors / heads);
  for (int m = first * kVectors / heads + static_cast<int>(threadIdx.x); m < rows_end; m += kThreads) {
    if (arguments.windows.begin[m] >= arguments.windows.end[m]) continue;
    atomicMin(&shared.low, arguments.windows.begin[m]);
    atomicMax(&shared.high, arguments.windows.end[m]);
  }
  __syncthreads();
  const int low = shared.low, high = shared.high;
  for (int base = low / arguments.piece * arguments.piece; base < high; base += arguments.piece) {
    load_means(arguments, shared, panels, base,
               min(arguments.piece, static_cast<int>(arguments.means.shape[0]) - base));
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    for (int tile = first + group; tile < last; tile += kGroups) {
      sum_tile<H>(arguments, shared, panels, tile, base, base + arguments.piece >= high);
    }
    __syncthreads();
  }
  for (int tile = first + group; tile < last; tile += kGroups) choose<H>(arguments, shared, tile, group);
}

}  // namespace

bool routes_in_tiles(const RouteTask& task) {
  const auto* queries = std::get_if<View<const E4m3, 3>>(&task.queries.values);
  const auto* means = std::get_if<View<const float, 3>>(&task.keys.values);
  if (task.router != Router::pooled || !task.given.empty() || queries == nullptr || means == nullptr) return false;
  if (queries->shape[2] != kDim || !vectors_align(*queries) || task.keys.block_table.data != nullptr) return false;
  if (task.tails.data != nullptr && (reinterpret_cast<std::uintptr_t>(task.tails.data) % 16 != 0 ||
                                     task.tails.stride[0] % 4 != 0 || task.tails.stride[1] != 1)) {
    return false;
  }
  return (queries->shape[1] == 32 || queries->shape[1] == 64) && task.keys.scales.data == nullptr;
}

void route_in_tiles(const RouteTask& task, int processors, cudaStream_t stream) {
  const auto& queries = std::get<View<const E4m3, 3>>(task.queries.values);
  const auto& means = std::get<View<const float, 3>>(task.keys.values);
  const int tiles = static_cast<int>(ceil_div(queries.shape[0] * queries.shape[1], kVectors));
  Arguments arguments{.queries = queries,
                      .weights = task.queries.weights,
                      .means = {means.data, {means.shape[1], means.shape[2]}, {means.stride[1], means.stride[2]}},
                      .windows = task.windows,
                      .tails = task.tails,
                      .heads = task.heads,
                      .energies = task.energies,
                      .routed_values = const_cast<E4m3*>(std::get<View<const E4m3, 3>>(task.routed_values).data),
                      .routed_weights = task.routed_weights,
                      .rows = static_cast<int>(queries.shape[0]),
                      .tiles = tiles,
                      .tiles_per_block = static_cast<int>(std::min<i64>(kMostTiles, ceil_div(tiles, processors))),
                      .piece = static_cast<int>(std::min<i64>(kPiece, ceil_div(means.shape[1], kMeans) * kMeans))};
  const int bytes = 2 * arguments.piece * 128 + static_cast<int>(sizeof(Shared));
  const auto kernel = queries.shape[1] == 64 ? route_tile_kernel<64> : route_tile_kernel<32>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "route: shared memory");
  kernel<<<static_cast<unsigned>(ceil_div(tiles, arguments.tiles_per_block)), kThreads, static_cast<std::size_t>(bytes),
           stream>>>(arguments);
  check(cudaGetLastError(), "route in tiles");
}

}  // namespace misa::cuda
