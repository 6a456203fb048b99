// logits[m, c] = sum over h of weights[m, h] * relu(q[m, h] . kbar): queries of head_dim 128, f32 block means
//
// Scores the blocks of HISA. A warpgroup takes one row and a segment of its columns, 64 means at a time, in shared
// memory in the layout of the tensor cores. Bound by L2. The head sum has the order of score_tile.cu.
//   FP8:  queries are widened to f16, exactly; means are scaled by powers of two and rounded to f16
//   bf16: a mean is the sum of two bf16 numbers, which takes two MMAs

#include <cuda_bf16.h>

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

constexpr int kDim = 128, kTileMeans = 64, kTiles = 8, kThreads = 128;
constexpr int kRun = kTileMeans * kTiles;  // columns of a block

template <class Q, int H>
struct Shared {
  static constexpr int kParts = std::is_same_v<Q, E4m3> ? 1 : 2;  // of a mean
  alignas(1024) u8 queries[2][H * 128];                           // by 64 dimensions
  alignas(1024) u8 means[kParts][2][kTileMeans * 128];
  float scales[kTileMeans];
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

template <class Q, int H>
__global__ void __launch_bounds__(kThreads)
    score_means_kernel(View<const Q, 3> queries, View<const float, 2> weights, View<const float, 2> means,
                       Windows windows, View<float, 2> logits) {
  auto& shared = shared_as<Shared<Q, H>>();
  const int width = static_cast<int>(logits.shape[1]), per_row = (width + kRun - 1) / kRun;
  const i64 m = blockIdx.x / static_cast<unsigned>(per_row);
  const int first = static_cast<int>(blockIdx.x % static_cast<unsigned>(per_row)) * kRun;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, quad = lane % 4;
  const int heads = static_cast<int>(queries.shape[1]), begin = windows.begin[m];
  const int visible = max(0, min(width, windows.end[m] - begin)), count = min(kRun, width - first);
  for (int c = max(first, visible) + thread; c < first + count; c += kThreads) {
    logits(m, c) = -std::numeric_limits<float>::infinity();
  }
  if (first >= visible) return;

  for (int i = thread; i < H * 16; i += kThreads) {
    const int head = i / 16, chunk = i % 16;
    *reinterpret_cast<uint4*>(shared.queries[chunk / 8] + swizzled(head, chunk % 8 * 16)) =
        head < heads ? operand_of(&queries(m, head, 0), chunk) : uint4{};
  }
  const SpreadHeads<H, Q> spread(weights, m);

  float sums[H / 2];
  for (int base = first; base < min(first + count, visible); base += kTileMeans) {
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
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Shared<Q, H>::kParts * kDim / 16; ++step) {
      const int part = step / (kDim / 16), panel = step / 4 % 2;
      const u64 a = wgmma_operand(shared_address(shared.means[part][panel])) + 2 * (step % 4);
      const u64 b = wgmma_operand(shared_address(shared.queries[panel])) + 2 * (step % 4);
      if constexpr (std::is_same_v<Q, E4m3>) {
        wgmma_f16<H>(sums, a, b, step > 0);
      } else {
        wgmma_bf16<H>(sums, a, b, step > 0);
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = spread.sum(sums, r);
      const int row = warp * 16 + lane / 4 + 8 * r;
      const float scale = std::is_same_v<Q, E4m3> ? shared.scales[row] : 1.0f;
      if (quad == r && base + row < visible) logits(m, base + row) = scale * sum;
    }
  }
}

template <class Q, int H>
void launch(const ScoreTask& task, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const auto& means = std::get<View<const float, 3>>(task.keys.values);
  const i64 blocks = logits.shape[0] * ceil_div(logits.shape[1], kRun);
  launch_kernel("score_means", score_means_kernel<Q, H>, {blocks, kThreads, sizeof(Shared<Q, H>), stream}, false,
                std::get<View<const Q, 3>>(task.queries.values), task.queries.weights,
                {means.data, {means.shape[1], means.shape[2]}, {means.stride[1], means.stride[2]}}, task.windows,
                logits);
}

template <class Q>
bool takes(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const Q, 3>>(&task.queries.values);
  return queries != nullptr && queries->shape[2] == kDim && queries->shape[1] <= 64 && vectors_align(*queries);
}

template <class Q>
void score_with(const ScoreTask& task, cudaStream_t stream) {
  with_heads(heads_of(task.queries), [&]<int H>() { launch<Q, H>(task, stream); });
}

}  // namespace

bool scores_means(const ScoreTask& task) {
  const auto* means = std::get_if<View<const float, 3>>(&task.keys.values);
  if (means == nullptr || task.candidates || task.keys.scales.data != nullptr) return false;
  if (task.keys.block_table.data != nullptr || !vectors_align(*means)) return false;
  return takes<E4m3>(task) || takes<Bf16>(task);
}

void score_means(const ScoreTask& task, int /*num_sms*/, cudaStream_t stream) {
  takes<E4m3>(task) ? score_with<E4m3>(task, stream) : score_with<Bf16>(task, stream);
}

}  // namespace misa::cuda
