// Ranks heads by the residual of ReLU after a line fit over sampled dot products, and makes the linear head of all
// others: FP8 and bf16 of 128 dimensions. Formulas: core/indexer/linear_head.hpp
//
// Four warps take a row, 16 heads each; a block takes several rows at once. Dot products come from f16 tensor cores,
// with queries in registers and keys scaled by powers of two: first with all samples, for their scores, then with the
// samples that count. These stay in registers: a lane has two heads and a quarter of the samples. The samples of a
// block's rows lie in shared memory and are loaded once where the rows see the same ones. Shuffles and shared memory
// sum over heads, four lanes over samples; one warp makes all decisions. Arithmetic is f32. Bound by instruction issue
// and fetch: loops are kept rolled to save instruction fetches.

#include <algorithm>
#include <type_traits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/f16_operands.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/route/lane_heads.cuh"
#include "backends/cuda/route/route_samples.cuh"

namespace misa::cuda {
namespace {

constexpr int kMostRows = 4;                 // of a block; each has a named barrier
constexpr int kSharedBytes = 227 << 10;      // of a block
constexpr int kMostCounted = 128;            // samples of a row that count
constexpr int kColumns = 8, kTileKeys = 64;  // of a tile of products: samples; keys of an operand
constexpr int kPanelBytes = 128 * kTileKeys, kTileBytes = 2 * kPanelBytes;  // of half the dimensions, of keys

/// Shared memory: the keys of a block's rows and of each row the keys that count; then scales, then each row's numbers.
struct Layout {
  int heads, shortlist;
  int samples, counted;  ///< for which there is room, multiples of 64

  /// Columns of each warp's partial sums: samples of totals or contributions, dimensions of q_lin.
  __host__ __device__ int columns() const { return samples > kDim ? samples : kDim; }
  __host__ __device__ int costs() const { return (shortlist + 3) / 4 * 4; }
  /// Length of a row of contributions: neighbouring rows of eight heads lie in different banks.
  __host__ __device__ int stride() const { return counted + 4; }
  __host__ __device__ int key_bytes() const { return samples / kTileKeys * kTileBytes; }
  __host__ __device__ int counted_bytes() const { return counted / kTileKeys * kTileBytes; }
  __host__ __device__ int row_floats() const {
    return kWarps * columns() + 2 * counted + kMostHeads + 4 + costs() * (1 + shortlist) + shortlist * stride();
  }
  __host__ __device__ int bytes(int rows) const {
    return key_bytes() + 4 * samples + rows * (counted_bytes() + 4 * row_floats());
  }
};

/// The shared memory of a row.
struct Row {
  u8* keys;  ///< that count
  float *parts, *contributions, *costs, *covariances;
  float* scales;            ///< of the keys that count
  int* counted;             ///< where those are among the samples
  u32 *head_ranks, *heads;  ///< heads: a set

  __device__ Row(u8* memory, int row, int rows, const Layout& layout)
      : keys(memory + layout.key_bytes() + row * layout.counted_bytes()) {
    parts = reinterpret_cast<float*>(memory + layout.key_bytes() + rows * layout.counted_bytes()) + layout.samples +
            row * layout.row_floats();
    contributions = parts + kWarps * layout.columns();
    costs = contributions + layout.shortlist * layout.stride();
    covariances = costs + layout.costs();
    scales = covariances + layout.costs() * layout.shortlist;
    counted = reinterpret_cast<int*>(scales + layout.counted);
    head_ranks = reinterpret_cast<u32*>(counted + layout.counted);
    heads = head_ranks + kMostHeads;
  }
};

/// 16 bytes of a key in operands of tensor cores: of the eight steps along its dimensions, in two panels, step s has
/// chunks 2 s and 2 s + 1.
__device__ inline u8* chunk_of(u8* keys, int key, int chunk) {
  return keys + key / kTileKeys * kTileBytes + chunk / 8 * kPanelBytes + swizzled(key % kTileKeys, 16 * (chunk % 8));
}

/// Orders numbers by absolute value; infinity and then NaN come last.
__device__ inline u32 magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

/// Sampled keys [first, first + layout.samples), as far as there are any.
struct KeyTile {
  u8* keys;  ///< f16, divided by their scales; 0 where not all are finite
  float* scales;

  /// Loads the keys; by a whole block.
  __device__ void fill(const View<const float, 2>& from, int first, int samples) const {
    constexpr int kAtOnce = 8;
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
    const int warps = static_cast<int>(blockDim.x / 32), last = static_cast<int>(from.shape[0]) - 1;
    for (int begin = warp; begin < samples; begin += kAtOnce * warps) {
      float4 four[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        four[i] = *reinterpret_cast<const float4*>(&from(min(first + begin + i * warps, last), 4 * lane));
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int key = begin + i * warps;
        if (key >= samples) continue;
        const u32 largest = __reduce_max_sync(kFullWarp, max(max(magnitude(four[i].x), magnitude(four[i].y)),
                                                             max(magnitude(four[i].z), magnitude(four[i].w))));
        const bool finite = largest < 0x7f800000u;
        const auto [scale, inverse] = scale_for(largest);
        store_key(keys + key / kTileKeys * kTileBytes, kPanelBytes, key % kTileKeys,
                  __floats2half2_rn(finite ? four[i].x * inverse : 0.0f, finite ? four[i].y * inverse : 0.0f),
                  __floats2half2_rn(finite ? four[i].z * inverse : 0.0f, finite ? four[i].w * inverse : 0.0f));
        if (lane == 0) scales[key] = scale;
      }
    }
    fence_for_tensor_cores();
  }
};

/// Computes a lane's dot products x[4 t + 2 r + e] of its heads r with keys 8 t + 2 (l % 4) + e of 64, divided by the
/// keys' scales.
__device__ inline void multiply(const Own& own, const u8* keys, float (&x)[32]) {
  const u64 operand = wgmma_operand(shared_address(keys));
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    wgmma_f16(x, own.queries[step], operand + (step / 4 * kPanelBytes + 32 * (step % 4)) / 16, step > 0);
  }
  wgmma_commit();
  wgmma_wait<0>(x);
}

/// Sums terms[2 t + e] of a lane's heads over the warp's heads, for four tiles of samples, into its parts.
__device__ inline void add_heads(float (&terms)[8], float* parts) {
  spread_sum<4>(terms);  // of tile l / 8
  const u32 lane = threadIdx.x % 32;
  parts[kColumns * (lane / 8) + 2 * (lane % 4) + lane / 4 % 2] = terms[0];
}

/// Finds the samples that count: all, or beside a linear head the half of highest score. Copies their keys to the row
/// and returns their number. The row's samples are those of the tile [offset, offset + n0).
template <int Tiles>
__device__ int count_samples(const Group& group, const Own& own, const KeyTile& tile, const Row& row,
                             const Layout& layout, int offset, int n0, bool linear, int leader) {
  constexpr int kOfLane = Tiles / 2;  // of as many samples as the tile holds
  if (linear) {
#pragma unroll 1
    for (int first = offset / kTileKeys * kTileKeys; first < offset + n0; first += kTileKeys) {
      float x[32], terms[8];
      multiply(own, tile.keys + first / kTileKeys * kTileBytes, x);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float* two = &x[16 * half + i / 2 * 4 + i % 2];
          terms[i] = fmaf(own.scaled_weights[0], twice_relu(two[0]), own.scaled_weights[1] * twice_relu(two[2]));
        }
        add_heads(terms, row.parts + group.warp * layout.columns() + first + 32 * half);
      }
    }
    group.sync();
  }
  const int n = linear ? (n0 + 1) / 2 : n0;
  if (group.warp == leader) {
    u32 ranks[kOfLane];
    bool counts[kOfLane];
#pragma unroll
    for (int j = 0; j < kOfLane; ++j) {
      const int i = group.lane + 32 * j;
      ranks[j] = 0;
      if (i < offset || i >= offset + n0) continue;
      float total = 0;
#pragma unroll
      for (int part = 0; linear && part < kWarps; ++part) total += row.parts[part * layout.columns() + i];
      ranks[j] = rank_from_1(total * tile.scales[i]);
    }
    find_highest(ranks, n, counts);
    list_samples(counts, [&](int place, int i) {
      row.counted[place] = i;
      row.scales[place] = tile.scales[i];
    });
    for (int place = n + group.lane; place < layout.counted; place += 32) {
      row.counted[place] = 0;
      row.scales[place] = 0;
    }
  }
  group.sync();
#pragma unroll 4
  for (int at = group.thread(); at < 16 * layout.counted; at += group.threads()) {
    const int place = at / 16, chunk = at % 16;
    *reinterpret_cast<uint4*>(chunk_of(row.keys, place, chunk)) =
        *reinterpret_cast<const uint4*>(chunk_of(tile.keys, row.counted[place], chunk));
  }
  fence_for_tensor_cores();
  group.sync();
  return n;
}

struct Lines {
  float slopes[2], residuals[2];
};

/// Fits the lines of a lane's heads through |x| = 2 relu(x) - x: such a line has twice the slope less 1, and twice the
/// residual. Products become the residuals of |x|, and 0 where there is no sample. `Full`: there are as many samples as
/// room.
template <bool Full, int Tiles>
__device__ Lines fit_lines(float (&x)[4 * Tiles], int n, bool linear) {
  const int left = n - 2 * static_cast<int>(threadIdx.x % 4);  // sample 8 t + e counts where it is less
  const float share = 1.0f / static_cast<float>(max(1, n));
  float mean_x[2] = {}, mean_y[2] = {}, squares[2] = {}, both[2] = {}, rest[2] = {};
  const auto each = [&](const auto& visit) {
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool counts = Full || kColumns * t + e < left;
#pragma unroll
        for (int r = 0; r < 2; ++r) visit(r, counts, x[4 * t + 2 * r + e]);
      }
    }
  };
  each([&](int r, bool, float& one) {
    mean_x[r] += one;
    mean_y[r] += fabsf(one);
  });
  Lines lines;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    mean_x[r] = quad_sum(mean_x[r]) * share;
    mean_y[r] = quad_sum(mean_y[r]) * share;
    lines.slopes[r] = 0;
  }
  if (linear && n > 0) {
    each([&](int r, bool counts, float& one) {
      const float centred = counts ? one - mean_x[r] : 0.0f;
      squares[r] = fmaf(centred, centred, squares[r]);
      both[r] = fmaf(fabsf(one) - mean_y[r], centred, both[r]);
    });
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float variance = quad_sum(squares[r]), covariance = quad_sum(both[r]);
      lines.slopes[r] = slope_of(variance, 0.5f * (variance + covariance), mean_x[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float slope = 2 * lines.slopes[r] - 1, constant = fmaf(slope, mean_x[r], -mean_y[r]);
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& one = x[4 * t + 2 * r + e];
        one = fmaf(-slope, one, constant) + fabsf(one);
        if (!Full) one = kColumns * t + e < left ? one : 0.0f;
        rest[r] = fmaf(one, one, rest[r]);
      }
    }
    lines.residuals[r] = sqrtf(quad_sum(rest[r]) * share);
  }
  return lines;
}

/// Lets one warp find a set of heads, and gives it to all.
template <class Find>
__device__ Heads found_by(int leader, const Group& group, const Row& row, const Find& find) {
  Heads found;
  if (group.warp == leader) {
    found = find();
#pragma unroll
    for (int i = 0; i < kMostHeads / 32; ++i) {
      if (group.lane == i) row.heads[i] = found.words[i];
    }
  }
  group.sync();
#pragma unroll
  for (int i = 0; i < kMostHeads / 32; ++i) found.words[i] = row.heads[i];
  return found;
}

/// Returns the heads of the shortlist that are left after backward elimination. `left`: the residuals of the lines.
template <int Tiles, class Q>
__device__ Heads settle(const SampledTask<Q>& task, const Group& group, const Row& row, const Layout& layout,
                        const Own& own, const float (&left)[4 * Tiles], int n, const Heads& shortlist, int leader) {
  constexpr int kEach = Tiles / 4;  // samples of a lane, where a warp has all
  const int head = kHeadsOfWarp * group.warp + group.lane / 4;
  const bool listed[2] = {shortlist.has(head), shortlist.has(head + 8)};
  const float factors[2] = {listed[0] ? 0.0f : own.scaled_weights[0], listed[1] ? 0.0f : own.scaled_weights[1]};
  float* parts = row.parts + group.warp * layout.columns();
#pragma unroll
  for (int first = 0; first < Tiles; first += 4) {
    float terms[8];
#pragma unroll
    for (int at = 0; at < 8; ++at) {
      const float* two = &left[4 * (first + at / 2) + at % 2];
      terms[at] = fmaf(factors[0], two[0], factors[1] * two[2]);
    }
    add_heads(terms, parts + kColumns * first);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (!listed[r]) continue;
    const int place = shortlist.before(head + 8 * r);
    if (group.lane % 4 == 0) row.costs[place] = isfinite(own.weights[r]) ? 0.0f : -INFINITY;
    float* to = row.contributions + place * layout.stride() + 2 * (group.lane % 4);
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      *reinterpret_cast<float2*>(to + kColumns * t) =
          float2{own.scaled_weights[r] * left[4 * t + 2 * r], own.scaled_weights[r] * left[4 * t + 2 * r + 1]};
    }
  }
  group.sync();
  float others[kEach] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int part = 0; part < kWarps; ++part) {
      others[i] += row.parts[part * layout.columns() + group.lane + 32 * i];
    }
  }
  find_covariances<kEach>(group, task.shortlist, row.contributions, layout.stride(), n, others, row.costs,
                          row.covariances);
  group.sync();
  return found_by(leader, group, row, [&] {
    return drop_in_turns(shortlist, layout.heads, task.shortlist, task.kept, row.costs, row.covariances);
  });
}

/// Writes a kept head's query and weight, by the lanes that have the head.
template <class Q>
__device__ void write_kept(const SampledTask<Q>& task, int m, const Group& group, const Fetched<Q>& fetched,
                           const Own& own, const Heads& kept) {
  const int batch = task.kept + (task.linear ? 2 : 0), quad = group.lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = kHeadsOfWarp * group.warp + group.lane / 4 + 8 * r;
    if (!kept.has(head)) continue;
    const int place = kept.before(head);
    if (quad == 0) task.heads(m, place) = head;
    if (!task.gathers()) continue;
    uint4* to = reinterpret_cast<uint4*>(task.values + (static_cast<i64>(m) * batch + place) * kDim + 32 * quad);
#pragma unroll
    for (int w = 0; w < Fetched<Q>::kWords; ++w) to[w] = fetched.words[r][w];
    if (quad == 0) task.routed_weights(m, place) = own.weights[r];
  }
}

/// Writes q_lin and -q_lin, four dimensions a lane; `factors` of the lane's heads.
template <class Q>
__device__ void write_linear(const SampledTask<Q>& task, int m, const Group& group, const Fetched<Q>& fetched,
                             const Row& row, const Layout& layout, const float (&factors)[2]) {
  const int lane = group.lane;
  float four[4] = {}, scale = 1, inverse = 1;
  float sums[32] = {};  // dimensions 32 (l % 4) + [0, 32)
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (factors[r] == 0) continue;  // of numbers that are not finite, too
    constexpr int kOfWord = 16 / static_cast<int>(sizeof(Q));
#pragma unroll
    for (int w = 0; w < Fetched<Q>::kWords; ++w) {
      float values[kOfWord];
      widen(fetched.words[r][w], values);
#pragma unroll
      for (int i = 0; i < kOfWord; ++i) {
        float& sum = sums[kOfWord * w + i];
        sum = fmaf(factors[r], values[i], sum);
      }
    }
  }
  spread_sum<4>(sums);  // dimensions 32 (l % 4) + 4 (l / 4) + [0, 4)
  *reinterpret_cast<float4*>(row.parts + group.warp * layout.columns() + 32 * (lane % 4) + 4 * (lane / 4)) =
      float4{sums[0], sums[1], sums[2], sums[3]};
  group.sync();
  if (group.warp > 1) return;
#pragma unroll
  for (int part = 0; part < kWarps; ++part) {
    const float4 some = *reinterpret_cast<const float4*>(row.parts + part * layout.columns() + 4 * lane);
    four[0] += some.x, four[1] += some.y, four[2] += some.z, four[3] += some.w;
  }
  if constexpr (std::is_same_v<Q, E4m3>) {
    const float largest = fmaxf(fmaxf(fabsf(four[0]), fabsf(four[1])), fmaxf(fabsf(four[2]), fabsf(four[3])));
    scale = linear_scale(__uint_as_float(__reduce_max_sync(kFullWarp, __float_as_uint(largest))));
    inverse = 1.0f / scale;
  }
  Q* values = task.values + (static_cast<i64>(m) * (task.kept + 2) + task.kept) * kDim;
  for (int i = group.warp; i < 2; i += kWarps) {
    const float sign = i == 0 ? 1.0f : -1.0f;
#pragma unroll
    for (int d = 0; d < 4; ++d) values[i * kDim + 4 * lane + d] = from_float<Q>(sign * (four[d] * inverse));
    if (lane == 0) task.routed_weights(m, task.kept + i) = sign * scale;
  }
}

/// Routes row m, whose samples begin at `offset` of the tile. `leader`: the warp that decides.
template <int Tiles, class Q>
__device__ void route_row(const SampledTask<Q>& task, int m, const Group& group, const Fetched<Q>& fetched,
                          const KeyTile& keys, const Row& row, const Layout& layout, int offset, int n0, int leader) {
  const int quad = group.lane % 4, head = kHeadsOfWarp * group.warp + group.lane / 4;
  const Own own(fetched, group);
  group.sync();  // the row before is done with its parts
  const int n = count_samples<Tiles>(group, own, keys, row, layout, offset, n0, task.linear, leader);
  float x[4 * Tiles];
#pragma unroll
  for (int first = 0; first < Tiles; first += 8) {
    float(&some)[32] = *reinterpret_cast<float(*)[32]>(&x[4 * first]);
    multiply(own, row.keys + first / 8 * kTileBytes, some);
#pragma unroll
    for (int t = 0; t < 8; ++t) {
      const float2 scales =
          *reinterpret_cast<const float2*>(&row.scales[kColumns * (first + t) + 2 * quad]);  // 0 of none
      some[4 * t] *= scales.x, some[4 * t + 1] *= scales.y, some[4 * t + 2] *= scales.x, some[4 * t + 3] *= scales.y;
    }
  }
  const Lines lines =
      n == kColumns * Tiles ? fit_lines<true, Tiles>(x, n, task.linear) : fit_lines<false, Tiles>(x, n, task.linear);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (quad != 0 || head + 8 * r >= layout.heads) continue;
    row.head_ranks[head + 8 * r] =
        rank_head(own.weights[r], own.scaled_weights[r], lines.residuals[r], task.covariance());
    if (task.energies.data == nullptr) continue;
    task.energies(m, head + 8 * r) =
        static_cast<double>(fabsf(own.weights[r])) * (0.5f * own.scales[r] * lines.residuals[r]);
  }
  group.sync();
  Heads kept = found_by(leader, group, row, [&] {
    return highest_heads<kMostHeads / 32>(row.head_ranks, layout.heads, task.covariance() ? task.shortlist : task.kept);
  });
  if (task.covariance()) kept = settle<Tiles>(task, group, row, layout, own, x, n, kept, leader);
  write_kept(task, m, group, fetched, own, kept);
  if (!task.linear) return;
  if (!task.gathers()) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (quad == 0 && head + 8 * r < layout.heads) task.slopes(m, head + 8 * r) = lines.slopes[r];
    }
    return;
  }
  const float factors[2] = {kept.has(head) ? 0.0f : finite_or_0(own.weights[0] * lines.slopes[0]),
                            kept.has(head + 8) ? 0.0f : finite_or_0(own.weights[1] * lines.slopes[1])};
  write_linear(task, m, group, fetched, row, layout, factors);
}

template <int Tiles, class Q>
__global__ void __launch_bounds__(32 * kWarps * kMostRows, 1)
    route_samples_tile_kernel(const __grid_constant__ SampledTask<Q> task, const Layout layout, const int rows) {
  u8* memory = &shared_as<u8>();
  const KeyTile keys{memory, reinterpret_cast<float*>(memory + layout.key_bytes() + rows * layout.counted_bytes())};
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int of_block = warp / kWarps;  // of its rows
  const Group group{1 + of_block, kWarps, warp % kWarps, lane};
  const Row row(memory, of_block, rows, layout);
  const int all = static_cast<int>(task.queries.shape[0]), step = static_cast<int>(gridDim.x) * rows;
  wait_for_stream();
  Fetched<Q> fetched;
  int m0 = static_cast<int>(blockIdx.x) * rows;
  fetched.read(task, min(m0 + of_block, all - 1), group);
  int tile_begin = 0, tile_end = 0;  // keys in the tile
  for (; m0 < all; m0 += step) {
    const int m = m0 + of_block;
    // Windows of the rows, a lane has one each.
    int begin = 0, end = 0;
    if (lane < rows && m0 + lane < all) {
      begin = task.windows.begin[m0 + lane];
      end = max(begin, task.windows.end[m0 + lane]);
    }
    const int first = __reduce_min_sync(kFullWarp, begin < end ? begin : 0x7fffffff);
    const int last = __reduce_max_sync(kFullWarp, begin < end ? end : 0);
    const bool together = last - first <= layout.samples;
    for (int turn = 0; turn < (together ? 1 : rows); ++turn) {
      const int from = together ? first : __shfl_sync(kFullWarp, begin, turn);
      const int to = together ? last : __shfl_sync(kFullWarp, end, turn);
      if (from < to && (from < tile_begin || to > tile_end)) {
        __syncthreads();
        keys.fill(task.keys, from, layout.samples);
        __syncthreads();
        tile_begin = from;
        tile_end = from + layout.samples;
      }
      if (m >= all || (!together && of_block != turn)) continue;
      const int own_begin = __shfl_sync(kFullWarp, begin, of_block);
      const int own_end = __shfl_sync(kFullWarp, end, of_block);
      route_row<Tiles>(task, m, group, fetched, keys, row, layout, own_begin - tile_begin, own_end - own_begin,
                       of_block);
      if (m + step < all) fetched.read(task, m + step, group);
    }
  }
}

template <class Q>
Layout layout_of(const SampledTask<Q>& task) {
  const int counted = task.linear ? (task.samples + 1) / 2 : task.samples;
  return {.heads = static_cast<int>(task.queries.shape[1]),
          .shortlist = task.shortlist,
          .samples = (task.samples + kTileKeys - 1) / kTileKeys * kTileKeys,
          .counted = (counted + kTileKeys - 1) / kTileKeys * kTileKeys};
}

/// Rows for which a block has memory.
int rows_that_fit(const Layout& layout) {
  return (kSharedBytes - layout.bytes(0)) / (layout.bytes(1) - layout.bytes(0));
}

/// Elements of queries that tensor cores take as they are.
template <class Q>
constexpr bool kInTiles = std::is_same_v<Q, E4m3> || std::is_same_v<Q, Bf16>;

template <class Q>
bool accepts(const SampledTask<Q>& task) {
  if constexpr (kInTiles<Q>) {
    const auto& [data, shape, stride] = task.keys;
    const View<const float, 3> keys{data, {1, shape[0], shape[1]}, {0, stride[0], stride[1]}};
    if (task.queries.shape[1] > kMostHeads || task.queries.shape[2] != kDim) return false;
    if (!vectors_align(task.queries) || (data != nullptr && !vectors_align(keys))) return false;
    const Layout layout = layout_of(task);
    return layout.counted <= kMostCounted && rows_that_fit(layout) > 0;
  }
  return false;
}

template <class Q>
void launch(const SampledTask<Q>& task, int num_sms, cudaStream_t stream) {
  const Layout layout = layout_of(task);
  const i64 all = task.queries.shape[0];
  const int rows = static_cast<int>(std::min<i64>({rows_that_fit(layout), kMostRows, ceil_div(all, num_sms)}));
  const auto kernel = layout.counted <= kMostCounted / 2 ? route_samples_tile_kernel<kMostCounted / 2 / kColumns, Q>
                                                         : route_samples_tile_kernel<kMostCounted / kColumns, Q>;
  launch_kernel("route_samples_tile", kernel,
                {std::min<i64>(ceil_div(all, rows), num_sms), 32 * kWarps * rows, layout.bytes(rows), stream}, true,
                task, layout, rows);
}

void rank_by_samples(const RankTask& rank, const GatherTask* gather, int num_sms, cudaStream_t stream) {
  with_sampled_task(rank, gather, [&]<class Q>(const SampledTask<Q>& sampled) {
    if constexpr (kInTiles<Q>) launch(sampled, num_sms, stream);
  });
}

}  // namespace

bool ranks_samples_in_tiles(const RankTask& task) {
  return ranks_samples(task) && with_sampled_task(task, nullptr, [](const auto& sampled) { return accepts(sampled); });
}
bool routes_samples_in_tiles(const RankGatherTask& task) { return ranks_samples_in_tiles(task.rank); }

void rank_samples_in_tiles(const RankTask& task, int num_sms, cudaStream_t stream) {
  rank_by_samples(task, nullptr, num_sms, stream);
}
void route_samples_in_tiles(const RankGatherTask& task, int num_sms, cudaStream_t stream) {
  rank_by_samples(task.rank, &task.gather, num_sms, stream);
}

}  // namespace misa::cuda
