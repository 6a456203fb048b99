// logits[m, c] = sum over h of weights[m, h] * relu(q[m, h] . kbar): FP8 queries of head_dim 128, f32 block means
//
// A warpgroup takes one row and a run of its columns. Queries are widened to f16, exactly; means are scaled by powers
// of two and rounded to f16 on their way into shared memory, 64 at a time. For the blocks of HISA. Bound by L2. The
// head sum has the order of score_tile.cu.

#include <limits>

#include "backends/cuda/check.hpp"
#include "backends/cuda/head_sum.cuh"
#include "backends/cuda/keys.cuh"
#include "backends/cuda/means.cuh"
#include "backends/cuda/score.hpp"
#include "backends/cuda/tma.cuh"
#include "backends/cuda/wgmma.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileMeans = 64, kTiles = 8, kThreads = 128;
constexpr int kRun = kTileMeans * kTiles;  // columns of a block

template <int H>
struct Shared {
  alignas(1024) u8 queries[2][H * 128];  // by 64 dimensions
  alignas(1024) u8 means[2][kTileMeans * 128];
  float scales[kTileMeans];
};

/// Where byte `byte` of row `row` lies in rows of 128 bytes with the 128-byte swizzle.
__device__ inline int swizzled(int row, int byte) { return row * 128 + (((byte / 16) ^ (row % 8)) * 16 + byte % 16); }

template <int H>
__global__ void __launch_bounds__(kThreads)
    score_means_kernel(View<const E4m3, 3> queries, View<const float, 2> weights, View<const float, 2> means,
                       Windows windows, View<float, 2> logits) {
  __shared__ Shared<H> shared;
  const i64 m = blockIdx.x;
  const int first = static_cast<int>(blockIdx.y) * kRun, width = static_cast<int>(logits.shape[1]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, quad = lane % 4;
  const int heads = static_cast<int>(queries.shape[1]), begin = windows.begin[m];
  const int visible = max(0, min(width, windows.end[m] - begin)), count = min(kRun, width - first);
  for (int c = max(first, visible) + thread; c < first + count; c += kThreads) {
    logits(m, c) = -std::numeric_limits<float>::infinity();
  }
  if (first >= visible) return;

  for (int i = thread; i < H * 8; i += kThreads) {  // 16 dimensions at a time
    const int head = i / 8, part = i % 8;
    const uint4 bytes = head < heads ? *(reinterpret_cast<const uint4*>(&queries(m, head, 0)) + part) : uint4{};
    const u32 words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u32 a = words[2 * half], b = words[2 * half + 1];
      *reinterpret_cast<uint4*>(shared.queries[part / 4] + swizzled(head, part % 4 * 32 + half * 16)) = {
          halves_of(a & 0xffffu), halves_of(a >> 16), halves_of(b & 0xffffu), halves_of(b >> 16)};
    }
  }
  const SpreadHeads<H> spread(weights, m);

  float sums[H / 2];
  for (int base = first; base < min(first + count, visible); base += kTileMeans) {
    __syncthreads();
    for (int row = warp; row < kTileMeans; row += kThreads / 32) {
      float4 four{0, 0, 0, 0};
      if (base + row < visible) four = *reinterpret_cast<const float4*>(&means(begin + base + row, 4 * lane));
      const ScaledMean mean = scale_mean(four);
      if (lane == 0) shared.scales[row] = mean.scale;
      __half2* to = reinterpret_cast<__half2*>(shared.means[lane / 16] + swizzled(row, lane % 16 * 8));
      to[0] = mean.low;
      to[1] = mean.high;
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      const u64 a = wgmma_operand(shared_address(shared.means[step / 4])) + 2 * (step % 4);
      const u64 b = wgmma_operand(shared_address(shared.queries[step / 4])) + 2 * (step % 4);
      wgmma_f16<H>(sums, a, b, step > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = spread.sum(sums, r);
      const int row = warp * 16 + lane / 4 + 8 * r;
      if (quad == r && base + row < visible) logits(m, base + row) = shared.scales[row] * sum;
    }
  }
}

template <int H>
void launch(const ScoreTask& task, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const auto& means = std::get<View<const float, 3>>(task.keys.values);
  const dim3 grid(static_cast<unsigned>(logits.shape[0]), static_cast<unsigned>(ceil_div(logits.shape[1], kRun)));
  score_means_kernel<H><<<grid, kThreads, 0, stream>>>(
      std::get<View<const E4m3, 3>>(task.queries.values), task.queries.weights,
      {means.data, {means.shape[1], means.shape[2]}, {means.stride[1], means.stride[2]}}, task.windows, logits);
}

}  // namespace

bool scores_means(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const E4m3, 3>>(&task.queries.values);
  const auto* means = std::get_if<View<const float, 3>>(&task.keys.values);
  if (queries == nullptr || means == nullptr || task.candidates || task.keys.scales.data != nullptr) return false;
  if (task.keys.block_table.data != nullptr || queries->shape[2] != kDim || queries->shape[1] > 64) return false;
  return vectors_align(*queries) && vectors_align(*means);
}

void score_means(const ScoreTask& task, cudaStream_t stream) {
  const i64 heads = heads_of(task.queries);
  (heads <= 8 ? launch<8> : heads <= 16 ? launch<16> : heads <= 32 ? launch<32> : launch<64>)(task, stream);
  check(cudaGetLastError(), "score block means");
}

}  // namespace misa::cuda
