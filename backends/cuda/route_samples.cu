// Heads by what a line through sampled products leaves of ReLU, and the linear head of all others; formulas:
// core/indexer/linear_head.hpp
//
// A block takes one row after the other, up to three blocks a processor: products of its heads with the sampled keys in
// shared memory (FP8 and bf16 of 128 dimensions: f16 tensor cores, keys scaled by powers of two; else f32) and what the
// samples score, the half of them that count, lines of heads by warps, heads, the linear query, the batch; for
// `covariance` also the covariances of contenders, and one warp that drops heads. All in f32. Bound by the latency of
// the steps.

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "backends/cuda/check.hpp"
#include "backends/cuda/keys.cuh"
#include "backends/cuda/launch.cuh"
#include "backends/cuda/means.cuh"
#include "backends/cuda/ptx.cuh"
#include "backends/cuda/route.hpp"
#include "core/base/error.hpp"
#include "core/indexer/linear_head.hpp"

namespace misa::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kDim = 128, kTileHeads = 64;  // of products on the tensor cores: dimensions, most heads
constexpr int kVectorBytes = 288;           // of an f16 vector in shared memory: 8 of them lie in different banks
constexpr int kSharedBytes = 224 << 10, kBlocks = 3;  // of a block; most blocks of a processor
constexpr int kEach = 8, kMostCounted = 32 * kEach;   // samples of a lane, of a row

template <class Q>
struct Arguments {
  View<const Q, 3> queries;
  View<const float, 2> weights, keys;  ///< keys: [P, D]
  Windows windows;
  View<const i32, 2> given;
  View<const float, 2> given_linear;
  View<i32, 2> heads;
  View<double, 2> energies;
  Q* values;
  View<float, 2> routed_weights;
  bool linear;
  int kept;  ///< heads of a row
};

/// Where a row's numbers lie in shared memory. `products` [H, stride] become contributions.
struct Layout {
  int heads, samples, dim;
  int counted;     ///< most samples that count
  int contenders;  ///< router covariance, else 0
  bool tiles;

  __host__ __device__ bool covariance() const { return contenders > 0; }
  __host__ __device__ int stride() const { return samples / 32 * 32 + 36; }
  /// Of the parts of a sum that warps make: of q_lin, of contributions.
  __host__ __device__ int columns() const { return larger(dim, (counted + 31) / 32 * 32); }
  __host__ __device__ int vectors() const { return tiles ? (heads + 7) / 8 * 8 * kVectorBytes / 4 : 0; }
  __host__ __device__ static int larger(int a, int b) { return a > b ? a : b; }
  __host__ __device__ int floats() const {
    return heads * stride() + vectors() + 5 * heads + 4 + stride() + kWarps * columns() + contenders * contenders;
  }
  __host__ __device__ int bytes() const { return 4 * (floats() + 2 * stride() + 2 * heads); }
};

/// Of one row.
struct Row {
  float *products, *vectors, *covariances;
  float *weights, *gates;              ///< [H]; gates: the weights over a power of two, or 0
  float *slopes, *residuals, *scales;  ///< [H]; scales: of the queries
  float *totals, *parts;               ///< [n0]; [warps, columns] parts of a sum, of q_lin the first becomes all of it
  int *counted, *kept, *contenders;    ///< samples that count, ascending; [H] 1: kept; heads that may be, ascending
  unsigned* members;                   ///< a bit a sample, 1: it counts

  __device__ Row(float* memory, const Layout& layout) : products(memory) {
    vectors = products + layout.heads * layout.stride();
    weights = vectors + layout.vectors();
    gates = weights + layout.heads;
    slopes = gates + layout.heads;
    residuals = slopes + layout.heads;
    scales = residuals + layout.heads;
    totals = scales + layout.heads + (4 - 5 * layout.heads % 4) % 4;
    parts = totals + layout.stride();
    covariances = parts + kWarps * layout.columns();
    counted = reinterpret_cast<int*>(covariances + layout.contenders * layout.contenders);
    kept = counted + layout.stride();
    contenders = kept + layout.heads;
    members = reinterpret_cast<unsigned*>(contenders + layout.heads);
  }
};

__device__ inline float finite_or_0(float x) { return isfinite(x) ? x : 0.0f; }

/// Over the lanes of a warp, of a power of two of numbers at once: lanes that give one half of them keep the other. To
/// lane l number l / (32 / Count).
template <int Count, int Half = Count / 2, int Step = 16>
__device__ float spread_warp_sum(float (&x)[Count]) {
  if constexpr (Half > 0) {
    const bool upper = (threadIdx.x & Step) != 0;
#pragma unroll
    for (int i = 0; i < Half; ++i) {
      const float given = upper ? x[i] : x[Half + i];
      x[i] = (upper ? x[Half + i] : x[i]) + __shfl_xor_sync(0xffffffffu, given, Step);
    }
  } else {
    x[0] += __shfl_xor_sync(0xffffffffu, x[0], Step);
  }
  if constexpr (Step > 1) return spread_warp_sum<Count, Half / 2, Step / 2>(x);
  return x[0];
}

/// All of them to all lanes.
template <int Count>
__device__ void warp_sum(float (&x)[Count]) {
  const float mine = spread_warp_sum(x);
#pragma unroll
  for (int i = 0; i < Count; ++i) x[i] = __shfl_sync(0xffffffffu, mine, i * (32 / Count));
}

/// Four dimensions of a query, as f32.
__device__ inline float4 four_of(const E4m3* from) {
  const u32 bytes = *reinterpret_cast<const u32*>(from), low = halves_of(bytes), high = halves_of(bytes >> 16);
  const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&low));
  const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&high));
  return {a.x, a.y, b.x, b.y};
}
__device__ inline float4 four_of(const Bf16* from) {
  const uint2 two = *reinterpret_cast<const uint2*>(from);
  return {__uint_as_float(two.x << 16), __uint_as_float(two.x & 0xffff0000u), __uint_as_float(two.y << 16),
          __uint_as_float(two.y & 0xffff0000u)};
}

/// Gates are of no consequence for which samples count and which heads are kept, but for their proportions: weights may
/// be so small or so large that f32 does not hold their squares. By a whole warp.
__device__ void scale_gates(const Row& row, int heads) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  u32 largest = 0;
  for (int h = lane; h < heads; h += 32) largest = max(largest, __float_as_uint(fabsf(finite_or_0(row.weights[h]))));
  largest = __reduce_max_sync(0xffffffffu, largest);
  const float inverse = scale_for(largest).inverse;
  for (int h = lane; h < heads; h += 32) row.gates[h] = finite_or_0(row.weights[h]) * inverse;
}

/// The row's queries as f16, bf16 each divided by a power of two.
template <class Q>
__device__ void stage_queries(const Arguments<Q>& arguments, int m, const Row& row) {
  constexpr int kAtOnce = 8;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int heads = static_cast<int>(arguments.queries.shape[1]), padded = (heads + 7) / 8 * 8;
  for (int first = warp; first < padded; first += kAtOnce * kWarps) {
    float4 four[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      four[i] = four_of(&arguments.queries(m, min(first + i * kWarps, heads - 1), 4 * lane));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int h = first + i * kWarps;
      if (h >= padded) continue;
      ScaledMean scaled{1, __floats2half2_rn(four[i].x, four[i].y), __floats2half2_rn(four[i].z, four[i].w)};
      if constexpr (!std::is_same_v<Q, E4m3>) scaled = scale_mean(four[i]);
      if (lane == 0 && h < heads) row.scales[h] = scaled.scale;
      u8* to = reinterpret_cast<u8*>(row.vectors) + h * kVectorBytes + 8 * lane;
      *reinterpret_cast<__half2*>(to) = scaled.low;
      *reinterpret_cast<__half2*>(to + 4) = scaled.high;
    }
  }
}

/// A lane's operands of 16 keys: of keys l / 4 and l / 4 + 8, step s multiplies dimensions 16 s + 4 (l % 4) + [0, 4).
struct KeyOperands {
  u32 values[8][4];
  float scales[2];

  __device__ KeyOperands(const View<const float, 2>& keys, int first, int last) {
    const int lane = static_cast<int>(threadIdx.x % 32), quad = lane % 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int key = first + lane / 4 + 8 * r;
      float4 part[8];
      float largest = 0;
#pragma unroll
      for (int s = 0; s < 8; ++s) {
        part[s] = key < last ? *reinterpret_cast<const float4*>(&keys(key, 16 * s + 4 * quad)) : float4{0, 0, 0, 0};
        largest =
            fmaxf(largest, fmaxf(fmaxf(fabsf(part[s].x), fabsf(part[s].y)), fmaxf(fabsf(part[s].z), fabsf(part[s].w))));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const Scale scale = scale_for(__float_as_uint(largest));
      scales[r] = scale.value;
#pragma unroll
      for (int s = 0; s < 8; ++s) {
        const __half2 low = __floats2half2_rn(part[s].x * scale.inverse, part[s].y * scale.inverse);
        const __half2 high = __floats2half2_rn(part[s].z * scale.inverse, part[s].w * scale.inverse);
        values[s][r] = *reinterpret_cast<const u32*>(&low);
        values[s][2 + r] = *reinterpret_cast<const u32*>(&high);
      }
    }
  }
};

/// What samples are ranked by: from 1 on, in the place of their scores.
__device__ inline u32 rank_of_total(float total) { return max(1u, rank_of(total)); }

/// products[h, i] of the keys [first, first + n0), on the tensor cores, and the ranks of their scores, 0 behind them; a
/// warp 16 keys at a time.
template <class Q>
__device__ void multiply_in_tiles(const Arguments<Q>& arguments, const Row& row, const Layout& layout, int first,
                                  int n0) {
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32), quad = lane % 4;
  for (int i = 16 * warp; i < n0; i += 16 * kWarps) {
    const KeyOperands keys(arguments.keys, first + i, first + n0);
    float totals[2] = {};
#pragma unroll 2
    for (int h = 0; h < layout.heads; h += 8) {
      const u8* vector = reinterpret_cast<const u8*>(row.vectors) + (h + lane / 4) * kVectorBytes + 8 * quad;
      float dots[2][4] = {};
#pragma unroll
      for (int s = 0; s < 8; ++s) {
        mma_f16(dots[s % 2], keys.values[s], *reinterpret_cast<const uint2*>(vector + 32 * s));
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int head = h + 2 * quad + e;
        const float scale = std::is_same_v<Q, E4m3> ? 1.0f : row.scales[head];
        float* to = row.products + head * layout.stride() + i + lane / 4;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float product = finite_or_0((dots[0][2 * r + e] + dots[1][2 * r + e]) * keys.scales[r] * scale);
          totals[r] = fmaf(row.gates[head], fmaxf(0.0f, product), totals[r]);
          if (i + lane / 4 + 8 * r < n0) to[8 * r] = product;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      totals[r] += __shfl_xor_sync(0xffffffffu, totals[r], 1);
      totals[r] += __shfl_xor_sync(0xffffffffu, totals[r], 2);
      const int at = i + lane / 4 + 8 * r;
      if (quad == 0) reinterpret_cast<u32*>(row.totals)[at] = at < n0 ? rank_of_total(totals[r]) : 0;
    }
  }
}

template <class Q>
__device__ void multiply_plainly(const Arguments<Q>& arguments, int m, const Row& row, const Layout& layout, int first,
                                 int n0) {
  for (int at = static_cast<int>(threadIdx.x); at < layout.heads * n0; at += kThreads) {
    const int h = at / n0, i = at % n0;
    float dot = 0;
    for (int d = 0; d < layout.dim; ++d)
      dot = fmaf(to_float(arguments.queries(m, h, d)), arguments.keys(first + i, d), dot);
    row.products[h * layout.stride() + i] = finite_or_0(dot);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < (n0 + 3) / 4 * 4; i += kThreads) {
    float total = 0;
#pragma unroll 8
    for (int h = 0; i < n0 && h < layout.heads; ++h) {
      total = fmaf(row.gates[h], fmaxf(0.0f, row.products[h * layout.stride() + i]), total);
    }
    reinterpret_cast<u32*>(row.totals)[i] = i < n0 ? rank_of_total(total) : 0;
  }
}

/// The samples that count: of all, or beside a linear head the half of highest rank. Returns how many.
__device__ int count_samples(const Row& row, int n0, bool linear) {
  const int thread = static_cast<int>(threadIdx.x), n = linear ? (n0 + 1) / 2 : n0;
  if (!linear) {
    for (int i = thread; i < n; i += kThreads) row.counted[i] = i;
    __syncthreads();
    return n;
  }
  const int padded = (n0 + 3) / 4 * 4;
  const u32* ranks = reinterpret_cast<const u32*>(row.totals);  // behind n0 stand zeros
  // First whether a sample counts; its place follows from how many before it do.
  for (int i = thread; i < (n0 + 31) / 32 * 32; i += kThreads) {
    const u32 mine = ranks[min(i, n0 - 1)];
    const int own = i / 32 * 32;
    int better = 0;
#pragma unroll 8
    for (int j = own; j < min(n0, own + 32); ++j) better += ranks[j] > mine || (ranks[j] == mine && j < i) ? 1 : 0;
    const auto add = [&](int from, int to, u32 limit) {  // of those that are higher than `limit`
#pragma unroll 4
      for (int j = from; j < to; j += 4) {
        const uint4 four = *reinterpret_cast<const uint4*>(&ranks[j]);
        better +=
            (four.x > limit ? 1 : 0) + (four.y > limit ? 1 : 0) + (four.z > limit ? 1 : 0) + (four.w > limit ? 1 : 0);
      }
    };
    add(0, own, mine - 1);
    add(own + 32, padded, mine);
    const unsigned members = __ballot_sync(0xffffffffu, i < n0 && better < n);
    if (thread % 32 == 0) row.members[i / 32] = members;
  }
  __syncthreads();
  for (int i = thread; i < n0; i += kThreads) {
    const unsigned members = row.members[i / 32], bit = 1u << (i % 32);
    if ((members & bit) == 0) continue;
    int place = __popc(members & (bit - 1));
    for (int word = 0; word < i / 32; ++word) place += __popc(row.members[word]);
    row.counted[place] = i;
  }
  __syncthreads();
  return n;
}

/// Lines of all heads, a warp kAtOnce at a time. With `contribute`, products become w_h (relu(x) - slope x) less its
/// mean, in the first n columns and 0 up to the next multiple of 32.
template <int Each>
__device__ void fit_lines(const Row& row, const Layout& layout, int n, bool linear, bool contribute) {
  constexpr int kAtOnce = 16 / Each;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const float share = 1.0f / static_cast<float>(max(1, n));
  int from[Each];
#pragma unroll
  for (int i = 0; i < Each; ++i) from[i] = lane + 32 * i < n ? row.counted[lane + 32 * i] : -1;
  for (int first = warp * kAtOnce; first < layout.heads; first += kWarps * kAtOnce) {
    float x[kAtOnce][Each], means[2 * kAtOnce] = {}, about[2 * kAtOnce] = {}, squares[kAtOnce] = {}, slope[kAtOnce];
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      const float* products = row.products + min(first + a, layout.heads - 1) * layout.stride();
#pragma unroll
      for (int i = 0; i < Each; ++i) {
        x[a][i] = from[i] >= 0 ? products[from[i]] : 0.0f;
        means[2 * a] += x[a][i];
        means[2 * a + 1] += fmaxf(0.0f, x[a][i]);
      }
    }
    warp_sum(means);
#pragma unroll
    for (float& mean : means) mean *= share;
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
#pragma unroll
      for (int i = 0; i < Each; ++i) {
        if (from[i] < 0) continue;
        const float centred = x[a][i] - means[2 * a];
        about[2 * a] = fmaf(centred, centred, about[2 * a]);
        about[2 * a + 1] = fmaf(fmaxf(0.0f, x[a][i]) - means[2 * a + 1], centred, about[2 * a + 1]);
      }
    }
    if (linear) warp_sum(about);
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      slope[a] = about[2 * a] > 0   ? fminf(fmaxf(about[2 * a + 1] / about[2 * a], 0.0f), 1.0f)
                 : means[2 * a] > 0 ? 1.0f
                                    : 0.0f;
      if (!linear || n == 0) slope[a] = 0;
#pragma unroll
      for (int i = 0; i < Each; ++i) {
        const float left = fmaf(-slope[a], x[a][i] - means[2 * a], fmaxf(0.0f, x[a][i]) - means[2 * a + 1]);
        x[a][i] = from[i] >= 0 ? left : 0.0f;
        squares[a] = fmaf(x[a][i], x[a][i], squares[a]);
      }
    }
    warp_sum(squares);
    __syncwarp();  // the products are read
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      const int h = first + a;
      if (h >= layout.heads) continue;
      if (lane == 0) {
        row.slopes[h] = slope[a];
        row.residuals[h] = sqrtf(squares[a] * share);
      }
      if (!contribute) continue;
      float* to = row.products + h * layout.stride();
#pragma unroll
      for (int i = 0; i < Each; ++i) {
        if (32 * i < n) to[lane + 32 * i] = row.gates[h] * x[a][i];
      }
    }
  }
}

/// Of contributions: n times the covariances of contenders, and in the place of their residuals their costs, n times
/// their variances and twice their covariances with the sum of all other heads.
template <int Each>
__device__ void find_covariances(const Row& row, const Layout& layout, int n) {
  constexpr int kAtOnce = Each <= 4 ? 8 : 4;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int count = layout.contenders;
  const auto read = [&](int h, float(&into)[Each]) {
    const float* from = row.products + h * layout.stride() + lane;
#pragma unroll
    for (int i = 0; i < Each; ++i) into[i] = 32 * i < n ? from[32 * i] : 0.0f;
  };
  float others[Each] = {}, own[Each];
  for (int h = warp; h < layout.heads; h += kWarps) {
    if (row.kept[h] != 0) continue;
    read(h, own);
#pragma unroll
    for (int i = 0; i < Each; ++i) others[i] += own[i];
  }
#pragma unroll
  for (int i = 0; i < Each; ++i) {
    if (32 * i < n) row.parts[warp * layout.columns() + lane + 32 * i] = others[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Each; ++i) {
    others[i] = 0;
    for (int other = 0; 32 * i < n && other < kWarps; ++other) {
      others[i] += row.parts[other * layout.columns() + lane + 32 * i];
    }
  }
  for (int a = warp; a < count; a += kWarps) {
    read(row.contenders[a], own);
    float cost[1] = {};
#pragma unroll
    for (int i = 0; i < Each; ++i) cost[0] = fmaf(own[i], fmaf(2.0f, others[i], own[i]), cost[0]);
    spread_warp_sum(cost);
    if (lane == 0) row.residuals[a] = cost[0];
    for (int first = 0; first < count; first += kAtOnce) {
      float dots[kAtOnce] = {};
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        float other[Each];
        read(row.contenders[min(first + j, count - 1)], other);
#pragma unroll
        for (int i = 0; i < Each; ++i) dots[j] = fmaf(own[i], other[i], dots[j]);
      }
      const float mine = spread_warp_sum(dots);
      const int b = first + lane / (32 / kAtOnce);
      if (lane % (32 / kAtOnce) == 0 && b < count) row.covariances[a * count + b] = mine;
    }
  }
}

/// Drops contenders in turns until `kept` are left; by a whole warp, contenders Each l and on a lane.
template <int Each>
__device__ void eliminate(const Row& row, int count, int kept) {
  constexpr i32 kDropped = 0x7fffffff;  // behind every number
  const int lane = static_cast<int>(threadIdx.x % 32);
  float cost[Each] = {};
  i32 order[Each];  // of the costs
  const auto order_of = [](float x) {
    const i32 bits = static_cast<i32>(__float_as_uint(x + 0.0f));  // -0 becomes 0
    return bits ^ (bits >> 31 & 0x7fffffff);
  };
#pragma unroll
  for (int i = 0; i < Each; ++i) {
    const int a = Each * lane + i;
    if (a < count) cost[i] = isfinite(row.weights[row.contenders[a]]) ? row.residuals[a] : -INFINITY;
    order[i] = a < count ? order_of(cost[i]) : kDropped;
  }
  for (int left = count; left > kept; --left) {
    i32 least = order[0];
    int mine = 0;
#pragma unroll
    for (int i = 1; i < Each; ++i) {
      if (order[i] <= least) least = order[i], mine = i;
    }
    const unsigned holders = __ballot_sync(0xffffffffu, least == __reduce_min_sync(0xffffffffu, least));
    const int holder = 31 - __clz(static_cast<int>(holders));
    int drop = Each * holder;
#pragma unroll
    for (int bit = 1; bit < Each; bit *= 2) {
      drop += (__ballot_sync(0xffffffffu, (mine & bit) != 0) >> holder & 1) != 0 ? bit : 0;
    }
#pragma unroll
    for (int i = 0; i < Each; ++i) {
      const int a = Each * lane + i;
      cost[i] = fmaf(2.0f, row.covariances[drop * count + min(a, count - 1)], cost[i]);
      order[i] = a == drop || order[i] == kDropped ? kDropped : order_of(cost[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < Each; ++i) {
    if (Each * lane + i < count) row.kept[row.contenders[Each * lane + i]] = order[i] != kDropped ? 1 : 0;
  }
}

/// Which heads the row keeps.
template <int Each, class Q>
__device__ void choose(const Arguments<Q>& arguments, int m, const Row& row, const Layout& layout, int n) {
  const int thread = static_cast<int>(threadIdx.x), heads = layout.heads;
  if (arguments.given.data != nullptr) {
    for (int h = thread; h < heads; h += kThreads) row.kept[h] = 0;
    __syncthreads();
    for (int i = thread; i < arguments.given.shape[1]; i += kThreads) row.kept[arguments.given(m, i)] = 1;
    __syncthreads();
    return;
  }
  u32* ranks = reinterpret_cast<u32*>(row.scales);
  u32 mine = 0;
  if (thread < heads) {
    const float weight = fabsf(row.weights[thread]), residual = row.residuals[thread];
    const bool finite = isfinite(weight);
    mine = rank_of((finite ? fabsf(row.gates[thread]) : weight) * residual);
    ranks[thread] = mine = finite || !layout.covariance() ? mine : 0;
    if (arguments.energies.data != nullptr) arguments.energies(m, thread) = static_cast<double>(weight) * residual;
  }
  __syncthreads();
  int better = 0;
#pragma unroll 8
  for (int other = 0; other < heads; ++other) {
    better += ranks[other] > mine || (ranks[other] == mine && other < thread) ? 1 : 0;
  }
  if (thread < heads) row.kept[thread] = better < (layout.covariance() ? layout.contenders : arguments.kept) ? 1 : 0;
  __syncthreads();
  if (!layout.covariance()) return;
  if (thread < 32) {
    int place = 0;
    for (int base = 0; base < heads; base += 32) {
      const bool contends = base + thread < heads && row.kept[base + thread] != 0;
      const unsigned all = __ballot_sync(0xffffffffu, contends);
      if (contends) row.contenders[place + __popc(all & ((1u << thread) - 1))] = base + thread;
      place += __popc(all);
    }
  }
  find_covariances<Each>(row, layout, n);
  __syncthreads();
  if (thread < 32) {
    const int count = layout.contenders;
    count <= 32   ? eliminate<1>(row, count, arguments.kept)
    : count <= 64 ? eliminate<2>(row, count, arguments.kept)
                  : eliminate<4>(row, count, arguments.kept);
  }
  __syncthreads();
}

/// q_lin of the heads that are not kept, as f32, and the largest magnitude's scale.
template <bool Tiles, class Q>
__device__ float make_linear(const Arguments<Q>& arguments, int m, const Row& row, const Layout& layout) {
  const int thread = static_cast<int>(threadIdx.x);
  if (arguments.given_linear.data != nullptr) {
    for (int d = thread; d < layout.dim; d += kThreads) row.parts[d] = arguments.given_linear(m, d);
    __syncthreads();
    return arguments.given_linear(m, layout.dim);
  }
  for (int h = thread; h < layout.heads; h += kThreads) {
    row.residuals[h] = row.kept[h] != 0 ? 0.0f : finite_or_0(row.weights[h] * row.slopes[h]);
  }
  __syncthreads();
  // A warp takes every kWarps-th head, a lane some dimensions.
  const int warp = thread / 32, lane = thread % 32;
  if constexpr (Tiles && std::is_same_v<Q, E4m3>) {
    float sum[4] = {};
#pragma unroll 8
    for (int h = warp; h < layout.heads; h += kWarps) {
      const u8* from = reinterpret_cast<const u8*>(row.vectors) + h * kVectorBytes + 8 * lane;
      const float2 low = __half22float2(*reinterpret_cast<const __half2*>(from));
      const float2 high = __half22float2(*reinterpret_cast<const __half2*>(from + 4));
      const float factor = row.residuals[h], four[4] = {low.x, low.y, high.x, high.y};
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = factor != 0 ? fmaf(factor, four[i], sum[i]) : sum[i];
    }
    *reinterpret_cast<float4*>(&row.parts[warp * layout.columns() + 4 * lane]) = {sum[0], sum[1], sum[2], sum[3]};
  } else {
    for (int d = lane; d < layout.dim; d += 32) {
      float sum = 0;
#pragma unroll 8
      for (int h = warp; h < layout.heads; h += kWarps) {
        const float factor = row.residuals[h], one = to_float(arguments.queries(m, h, d));
        sum = factor != 0 ? fmaf(factor, one, sum) : sum;
      }
      row.parts[warp * layout.columns() + d] = sum;
    }
  }
  __syncthreads();
  float largest = 0;
  for (int d = thread; d < layout.dim; d += kThreads) {
    float sum = row.parts[d];
#pragma unroll
    for (int other = 1; other < kWarps; ++other) sum += row.parts[other * layout.columns() + d];
    row.parts[d] = sum;
    largest = fmaxf(largest, fabsf(sum));
  }
  const u32 bits = __reduce_max_sync(0xffffffffu, __float_as_uint(largest));
  if (thread % 32 == 0) row.totals[thread / 32] = __uint_as_float(bits);
  __syncthreads();
#pragma unroll
  for (int other = 0; other < kWarps; ++other) largest = fmaxf(largest, row.totals[other]);
  return std::is_same_v<Q, E4m3> ? linear_scale(largest) : 1.0f;
}

/// The batch: the kept heads' queries, and with a linear head q_lin and -q_lin.
template <bool Tiles, class Q>
__device__ void write_batch(const Arguments<Q>& arguments, int m, const Row& row, const Layout& layout, float scale) {
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int batch = arguments.kept + (arguments.linear ? 2 : 0);
  Q* values = arguments.values + static_cast<i64>(m) * batch * layout.dim;
  int place = 0;
  for (int base = 0; base < layout.heads; base += 32) {
    unsigned left = __ballot_sync(0xffffffffu, base + lane < layout.heads && row.kept[base + lane] != 0);
    for (; left != 0; left &= left - 1, ++place) {
      if (place % kWarps != warp) continue;
      const int head = base + __ffs(static_cast<int>(left)) - 1;
      if constexpr (Tiles) {
        using Four = std::conditional_t<std::is_same_v<Q, E4m3>, u32, uint2>;
        *reinterpret_cast<Four*>(&values[place * kDim + 4 * lane]) =
            *reinterpret_cast<const Four*>(&arguments.queries(m, head, 4 * lane));
      } else {
        for (int d = lane; d < layout.dim; d += 32) values[place * layout.dim + d] = arguments.queries(m, head, d);
      }
      if (lane != 0) continue;
      arguments.routed_weights(m, place) = row.weights[head];
      if (arguments.given.data == nullptr) arguments.heads(m, place) = head;
    }
  }
  if (!arguments.linear) return;
  const float inverse = 1.0f / scale;
  for (int at = static_cast<int>(threadIdx.x); at < 2 * layout.dim; at += kThreads) {
    const int d = at % layout.dim;
    const float sign = at < layout.dim ? 1.0f : -1.0f;
    // Given ones are divided already.
    const float value = arguments.given_linear.data != nullptr ? row.parts[d] : row.parts[d] * inverse;
    values[arguments.kept * layout.dim + at] = from_float<Q>(sign * value);
    if (d == 0) arguments.routed_weights(m, arguments.kept + at / layout.dim) = sign * scale;
  }
}

template <class Q, bool Tiles>
__global__ void __launch_bounds__(kThreads, kBlocks)
    route_samples_kernel(const __grid_constant__ Arguments<Q> arguments, const Layout layout) {
  extern __shared__ __align__(16) float memory[];
  wait_for_stream();
  const Row row(memory, layout);
  const bool finds_heads = arguments.given.data == nullptr;
  const bool finds_lines = finds_heads || (arguments.linear && arguments.given_linear.data == nullptr);
  for (int m = static_cast<int>(blockIdx.x); m < arguments.queries.shape[0]; m += static_cast<int>(gridDim.x)) {
    __syncthreads();
    for (int h = static_cast<int>(threadIdx.x); h < layout.heads; h += kThreads)
      row.weights[h] = arguments.weights(m, h);
    __syncthreads();
    if (threadIdx.x / 32 == kWarps - 1) scale_gates(row, layout.heads);
    int n = 0;
    if (finds_lines) {
      const int first = arguments.windows.begin[m], n0 = max(0, arguments.windows.end[m] - first);
      if constexpr (Tiles) {
        stage_queries(arguments, m, row);
        __syncthreads();
        multiply_in_tiles(arguments, row, layout, first, n0);
      } else {
        multiply_plainly(arguments, m, row, layout, first, n0);
      }
      __syncthreads();
      n = count_samples(row, n0, arguments.linear);
    }
    const auto find_heads = [&](auto each) {
      constexpr int kOfLane = decltype(each)::value;
      if (finds_lines) {
        fit_lines<kOfLane>(row, layout, n, arguments.linear, layout.covariance());
        __syncthreads();
      }
      choose<kOfLane>(arguments, m, row, layout, n);
    };
    if (n <= 64) {
      find_heads(std::integral_constant<int, 2>{});
    } else if (n <= 128) {
      find_heads(std::integral_constant<int, 4>{});
    } else {
      find_heads(std::integral_constant<int, kEach>{});
    }
    const float scale = arguments.linear ? make_linear<Tiles>(arguments, m, row, layout) : 1.0f;
    write_batch<Tiles>(arguments, m, row, layout, scale);
  }
}

template <class Q, bool Tiles>
void launch(const Arguments<Q>& arguments, const Layout& layout, int processors, cudaStream_t stream) {
  const auto kernel = route_samples_kernel<Q, Tiles>;
  static const bool ready = [&] {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
          "route: shared memory");
    return true;
  }();
  (void)ready;
  constexpr int kOfProcessor = 228 << 10, kOfSystem = 1 << 10;  // bytes of shared memory; what each block takes besides
  const int fit = std::min(kBlocks, kOfProcessor / (layout.bytes() + kOfSystem));
  const i64 blocks = std::min<i64>(arguments.queries.shape[0], static_cast<i64>(fit) * processors);
  launch_early(kernel, blocks, kThreads, layout.bytes(), stream, arguments, layout);
}

}  // namespace

void route_by_sampled_keys(const RouteTask& task, int processors, cudaStream_t stream) {
  const i64 heads = heads_of(task.queries), dim = head_dim_of(task.queries);
  // Given heads and a given linear query need no samples.
  const auto* sampled = std::get_if<View<const float, 3>>(&task.keys.values);
  View<const float, 2> keys;
  if (sampled != nullptr) keys = {sampled->data, {sampled->shape[1], dim}, {sampled->stride[1], sampled->stride[2]}};
  std::visit(
      [&](const auto& queries) {
        using Q = std::remove_const_t<std::remove_reference_t<decltype(*queries.data)>>;
        bool tiles = false;
        if constexpr (!std::is_same_v<Q, float>) {
          tiles = dim == kDim && heads <= kTileHeads && heads % 8 == 0 && vectors_align(queries) &&
                  (sampled == nullptr || vectors_align(*sampled));
        }
        const i64 kept = task.routed_weights.shape[1] - (task.linear ? 2 : 0);
        const bool covariance = task.router == Router::covariance && task.given.empty();
        const i64 counted = task.linear ? (task.samples + 1) / 2 : task.samples;
        const Layout layout{.heads = static_cast<int>(heads),
                            .samples = static_cast<int>(task.samples),
                            .dim = static_cast<int>(dim),
                            .counted = static_cast<int>(counted),
                            .contenders = covariance ? static_cast<int>(contender_count(heads, kept)) : 0,
                            .tiles = tiles};
        if (heads > 128 || counted > kMostCounted || layout.bytes() > kSharedBytes) {
          throw Error(ErrorKind::unavailable, "MP-E401",
                      "backend cuda has no room for the products of " + std::to_string(heads) + " heads with " +
                          std::to_string(task.samples) + " samples",
                      {}, "fewer --sampled-keys, or --backend cpu");
        }
        // The batch is the task's output; its views are const because a routed query is read as any query.
        Q* values = const_cast<Q*>(std::get<View<const Q, 3>>(task.routed_values).data);
        const Arguments<Q> arguments{.queries = queries,
                                     .weights = task.queries.weights,
                                     .keys = keys,
                                     .windows = task.windows,
                                     .given = task.given,
                                     .given_linear = task.given_linear,
                                     .heads = task.heads,
                                     .energies = task.energies,
                                     .values = values,
                                     .routed_weights = task.routed_weights,
                                     .linear = task.linear,
                                     .kept = static_cast<int>(kept)};
        if constexpr (!std::is_same_v<Q, float>) {
          if (tiles) return launch<Q, true>(arguments, layout, processors, stream);
        }
        launch<Q, false>(arguments, layout, processors, stream);
      },
      task.queries.values);
}

}  // namespace misa::cuda
