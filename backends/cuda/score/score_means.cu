// logits[m, c] = sum over h of weights[m, h] * relu(q[m, h] . kbar): queries of head_dim 128, f32 block means
//
// Scores the blocks of HISA. A block takes a segment of columns, 64 means at a time, in shared memory in the layout of
// the tensor cores. Of many rows it takes four, which share the means where their windows begin together, and two
// warpgroups take two rows each; of few rows it takes one, and so few columns that every SM has work. Bound by the
// latency of its steps: load, convert, multiply. The head sum has the order of score_tile.cu.
//   FP8:  queries are widened to f16, exactly; means are scaled by powers of two and rounded to f16
//   bf16: a mean is the sum of two bf16 numbers, which takes two MMAs

#include <cuda_bf16.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/pipeline/means.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/score/head_sum.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileMeans = 64, kMostTiles = 8;
constexpr int kGroupThreads = 128;  // of a warpgroup

template <class Q, int H, int Rows>
struct Shared {
  static constexpr int kParts = std::is_same_v<Q, E4m3> ? 1 : 2;  // of a mean
  alignas(1024) u8 queries[Rows][2][H * 128];                     // by 64 dimensions
  alignas(1024) u8 means[kParts][2][kTileMeans * 128];
  float scales[kTileMeans];
  int begins[Rows], visibles[Rows];  ///< windows
};

/// Returns a query's dimensions [8 chunk, 8 chunk + 8) as an operand of the tensor cores.
__device__ inline uint4 operand_of(const E4m3* query, int chunk) {
  const uint2 bytes = *(reinterpret_cast<const uint2*>(query) + chunk);
  return {halves_of(bytes.x & 0xffffu), halves_of(bytes.x >> 16), halves_of(bytes.y & 0xffffu),
          halves_of(bytes.y >> 16)};
}
__device__ inline uint4 operand_of(const Bf16* query, int chunk) {
  return *(reinterpret_cast<const uint4*>(query) + chunk);
}

/// Splits x and y into bf16 high parts and bf16 residuals.
__device__ inline void split(float x, float y, __nv_bfloat162& most, __nv_bfloat162& rest) {
  most = __floats2bfloat162_rn(x, y);
  const float dx = x - __low2float(most), dy = y - __high2float(most);
  rest = __floats2bfloat162_rn(isfinite(dx) ? dx : 0.0f, isfinite(dy) ? dy : 0.0f);
}

/// `Each` rows of a warpgroup; `run`: columns of a block.
template <class Q, int H, int Groups, int Each>
__global__ void __launch_bounds__(Groups* kGroupThreads)
    score_means_kernel(View<const Q, 3> queries, View<const float, 2> weights, View<const float, 2> means,
                       Windows windows, View<float, 2> logits, int run) {
  constexpr int kRows = Groups * Each, kThreads = Groups * kGroupThreads;
  auto& shared = shared_as<Shared<Q, H, kRows>>();
  const int width = static_cast<int>(logits.shape[1]), per_row = (width + run - 1) / run;
  const i64 rows = logits.shape[0], first_row = blockIdx.x / static_cast<unsigned>(per_row) * i64{kRows};
  const int first = static_cast<int>(blockIdx.x % static_cast<unsigned>(per_row)) * run;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, quad = lane % 4;
  const int heads = static_cast<int>(queries.shape[1]), last = min(first + run, width);
  for (int r = 0; r < kRows; ++r) {
    const i64 m = min(first_row + r, rows - 1);
    const int begin = windows.begin[m];
    const int visible = first_row + r < rows ? max(0, min(width, windows.end[m] - begin)) : 0;
    if (thread == 0) {
      shared.begins[r] = begin;
      shared.visibles[r] = visible;
    }
    if (first_row + r >= rows) continue;
    for (int c = max(first, visible) + thread; c < last; c += kThreads) {
      logits(m, c) = -std::numeric_limits<float>::infinity();
    }
    if (first >= visible) continue;
    for (int i = thread; i < H * 16; i += kThreads) {
      const int head = i / 16, chunk = i % 16;
      *reinterpret_cast<uint4*>(shared.queries[r][chunk / 8] + swizzled(head, chunk % 8 * 16)) =
          head < heads ? operand_of(&queries(m, head, 0), chunk) : uint4{};
    }
  }
  __syncthreads();
  const int group = warp / 4;
  SpreadHeads<H, Q> spread[Each];
#pragma unroll
  for (int i = 0; i < Each; ++i) spread[i] = {weights, min(first_row + group * Each + i, rows - 1)};

  // Loads the means from column `base` on as rows see them whose window begins at `begin`, the first `visible` of all.
  const auto load = [&](int base, int begin, int visible) {
    __syncthreads();
    for (int row = warp; row < kTileMeans; row += kThreads / 32) {
      float4 four{0, 0, 0, 0};
      if (base + row < visible) four = *reinterpret_cast<const float4*>(&means(begin + base + row, 4 * lane));
      const int at = swizzled(row, lane % 16 * 8);
      if constexpr (std::is_same_v<Q, E4m3>) {
        const ScaledMean mean = scale_mean(four);
        if (lane == 0) shared.scales[row] = mean.scale;
        __half2* to = reinterpret_cast<__half2*>(shared.means[0][lane / 16] + at);
        to[0] = mean.low;
        to[1] = mean.high;
      } else {
        __nv_bfloat162* most = reinterpret_cast<__nv_bfloat162*>(shared.means[0][lane / 16] + at);
        __nv_bfloat162* rest = reinterpret_cast<__nv_bfloat162*>(shared.means[1][lane / 16] + at);
        split(four.x, four.y, most[0], rest[0]);
        split(four.z, four.w, most[1], rest[1]);
      }
    }
    fence_for_tensor_cores();
    __syncthreads();
  };

  const auto score = [&](int r, const SpreadHeads<H, Q>& heads_of_row, int base) {
    float sums[H / 2];
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Shared<Q, H, kRows>::kParts * kDim / 16; ++step) {
      const int part = step / (kDim / 16), panel = step / 4 % 2;
      const u64 a = wgmma_operand(shared_address(shared.means[part][panel])) + 2 * (step % 4);
      const u64 b = wgmma_operand(shared_address(shared.queries[r][panel])) + 2 * (step % 4);
      if constexpr (std::is_same_v<Q, E4m3>) {
        wgmma_f16<H>(sums, a, b, step > 0);
      } else {
        wgmma_bf16<H>(sums, a, b, step > 0);
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = heads_of_row.sum(sums, half);
      const int row = warp % 4 * 16 + lane / 4 + 8 * half;
      const float scale = std::is_same_v<Q, E4m3> ? shared.scales[row] : 1.0f;
      if (quad == half && base + row < shared.visibles[r]) logits(first_row + r, base + row) = scale * sum;
    }
  };

  for (int base = first; base < last; base += kTileMeans) {
    for (int leader = 0; leader < kRows;) {
      int next = leader + 1, most = shared.visibles[leader];
      for (; next < kRows && shared.begins[next] == shared.begins[leader]; ++next) {
        most = max(most, shared.visibles[next]);
      }
      if (base < most) {
        load(base, shared.begins[leader], most);
#pragma unroll
        for (int i = 0; i < Each; ++i) {
          const int r = group * Each + i;
          if (r >= leader && r < next && base < shared.visibles[r]) score(r, spread[i], base);
        }
      }
      leader = next;
    }
  }
}

template <class Q, int H, int Groups, int Each>
void launch(const ScoreTask& task, i64 run, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const auto& means = std::get<View<const float, 3>>(task.keys.values);
  const i64 blocks = ceil_div(logits.shape[0], i64{Groups * Each}) * ceil_div(logits.shape[1], run);
  launch_kernel("score_means", score_means_kernel<Q, H, Groups, Each>,
                {blocks, Groups * kGroupThreads, sizeof(Shared<Q, H, Groups * Each>), stream}, false,
                std::get<View<const Q, 3>>(task.queries.values), task.queries.weights,
                {means.data, {means.shape[1], means.shape[2]}, {means.stride[1], means.stride[2]}}, task.windows,
                logits, static_cast<int>(run));
}

template <class Q, int H>
void launch(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const i64 rows = logits.shape[0], tiles = ceil_div(logits.shape[1], i64{kTileMeans});
  // Four rows of a block, if two blocks an SM have work so.
  if (ceil_div(rows, i64{4}) * ceil_div(tiles, i64{kMostTiles}) >= 2 * num_sms) {
    return launch<Q, H, 2, 2>(task, kTileMeans * kMostTiles, stream);
  }
  const i64 each = std::clamp<i64>(rows * tiles / (4 * num_sms), 1, kMostTiles);
  launch<Q, H, 1, 1>(task, kTileMeans * each, stream);
}

template <class Q>
bool takes(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const Q, 3>>(&task.queries.values);
  return queries != nullptr && queries->shape[2] == kDim && queries->shape[1] <= 64 && vectors_align(*queries);
}

template <class Q>
void score_with(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  with_heads(heads_of(task.queries), [&]<int H>() { launch<Q, H>(task, num_sms, stream); });
}

}  // namespace

bool scores_means(const ScoreTask& task) {
  const auto* means = std::get_if<View<const float, 3>>(&task.keys.values);
  if (means == nullptr || task.candidates || task.keys.scales.data != nullptr) return false;
  if (task.keys.block_table.data != nullptr || !vectors_align(*means)) return false;
  return takes<E4m3>(task) || takes<Bf16>(task);
}

void score_means(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  takes<E4m3>(task) ? score_with<E4m3>(task, num_sms, stream) : score_with<Bf16>(task, num_sms, stream);
}

}  // namespace misa::cuda
