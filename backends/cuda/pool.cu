// means[p] = mean of k_scale * k over the tokens of range p
//
// FP8 of 128 dimensions: a block takes some ranges, eight threads a key, every 64th key the same threads; a range that
// begins where the one before it does goes on from its sums, which do not depend on that. Sums in f32. Bound by memory.
//
// All else: a block takes a range, a thread a dimension; sums in f64, in token order. Bound by memory latency: one key
// after the other.

#include <algorithm>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/keys.cuh"

namespace misa::cuda {
namespace {

template <class K>
__global__ void pool_kernel(Keys<K> keys, Windows ranges, View<float, 2> means) {
  const i64 p = blockIdx.x, begin = ranges.begin[p], end = ranges.end[p];
  const unsigned d = threadIdx.x;
  double sum = 0;
  for (i64 token = begin; token < end; ++token) {
    float scale = 1;
    const K* key = keys.vector(ranges.sequence[p], token, scale);
    // As two operations, which is how the formulas' backend rounds.
    sum = __dadd_rn(sum, __dmul_rn(static_cast<double>(scale), static_cast<double>(to_float(key[d]))));
  }
  means(p, d) = static_cast<float>(sum / static_cast<double>(end > begin ? end - begin : 1));
}

constexpr int kDim = 128, kThreads = 512, kWarps = kThreads / 32, kParts = 8, kKeys = kThreads / kParts;

__global__ void __launch_bounds__(kThreads)
    pool_vectors_kernel(Keys<E4m3> keys, Windows ranges, View<float, 2> means, int each) {
  __shared__ float sums[kWarps][kDim];
  const int part = static_cast<int>(threadIdx.x) % kParts, lane = static_cast<int>(threadIdx.x) / kParts;
  const i64 first = static_cast<i64>(blockIdx.x) * each, count = means.shape[0];
  float sum[16] = {};
  i64 begin = -1, done = 0, sequence = -1;
  for (i64 p = first; p < min(count, first + each); ++p) {
    const i64 end = ranges.end[p];
    if (ranges.begin[p] != begin || ranges.sequence[p] != sequence || end < done) {
      begin = ranges.begin[p];
      sequence = ranges.sequence[p];
      done = begin;
      for (float& x : sum) x = 0;
    }
    // The keys of this thread are those that are congruent to its lane, counted from the range's begin.
    constexpr int kUnroll = 8;
    i64 token = done + (lane - static_cast<int>(done - begin) % kKeys + kKeys) % kKeys;
    while (token < end) {
      uint4 bytes[kUnroll];
      float scale[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const i64 at = token + u * kKeys;
        if (at < end) bytes[u] = *(reinterpret_cast<const uint4*>(keys.vector(sequence, at, scale[u])) + part);
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (token + u * kKeys >= end) break;
        float value[16];
        widen(bytes[u], value);
#pragma unroll
        for (int i = 0; i < 16; ++i) sum[i] = fmaf(scale[u], value[i], sum[i]);
      }
      token += kUnroll * kKeys;
    }
    done = max(done, end);
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      float all = sum[i];
      all += __shfl_xor_sync(0xffffffffu, all, 8);
      all += __shfl_xor_sync(0xffffffffu, all, 16);
      if (threadIdx.x % 32 < kParts) sums[threadIdx.x / 32][16 * part + i] = all;
    }
    __syncthreads();
    if (threadIdx.x < kDim) {
      float all = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) all += sums[w][threadIdx.x];
      means(p, threadIdx.x) = all / static_cast<float>(end > begin ? end - begin : 1);
    }
    __syncthreads();
  }
}

}  // namespace

void pool(const PoolTask& task, int processors, cudaStream_t stream) {
  if (task.means.size() == 0) return;
  const auto* vectors = std::get_if<View<const E4m3, 3>>(&task.keys.values);
  if (vectors != nullptr && vectors->shape[2] == kDim && vectors_align(*vectors)) {
    const i64 each = std::clamp<i64>(task.means.shape[0] / (2 * processors), 1, 32);
    pool_vectors_kernel<<<static_cast<unsigned>(ceil_div(task.means.shape[0], each)), kThreads, 0, stream>>>(
        {*vectors, task.keys.scales, task.keys.block_table}, task.ranges, task.means, static_cast<int>(each));
    return check(cudaGetLastError(), "pool");
  }
  std::visit(
      [&](const auto& values) {
        using K = std::remove_const_t<std::remove_reference_t<decltype(*values.data)>>;
        pool_kernel<K>
            <<<static_cast<unsigned>(task.means.shape[0]), static_cast<unsigned>(task.means.shape[1]), 0, stream>>>(
                {values, task.keys.scales, task.keys.block_table}, task.ranges, task.means);
      },
      task.keys.values);
  check(cudaGetLastError(), "pool");
}

}  // namespace misa::cuda
