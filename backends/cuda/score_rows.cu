// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): FP8 or bf16, head_dim 128, any columns
//
// A warpgroup takes one row and a run of its columns, wherever their keys lie: addresses and scales first, then tiles
// of 64 gathered keys through a ring of asynchronous copies into the tensor cores. For re-ranks and blocks.
// Bound by L2, or by memory where no other row reads the same keys. The head sum has the order of score_tile.cu.
// Vectors lie in shared memory in panels of 128 bytes: one of FP8, two of bf16.

#include <cstdint>
#include <limits>

#include "backends/cuda/check.hpp"
#include "backends/cuda/head_sum.cuh"
#include "backends/cuda/keys.cuh"
#include "backends/cuda/score.hpp"
#include "backends/cuda/tma.cuh"
#include "backends/cuda/wgmma.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 64, kTiles = 8, kStages = 4, kThreads = 128;
constexpr int kRun = kTileKeys * kTiles;  // columns of a block

template <class T, int H>
struct Shared {
  static constexpr int kPanels = sizeof(T);
  alignas(1024) u8 queries[kPanels][H * 128];
  alignas(1024) u8 keys[kStages][kPanels][kTileKeys * 128];
  const T* address[kRun];
  float scales[kRun];
};

__device__ inline void copy_16(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/// H: heads, rounded up to a power of two from 8 on; the missing ones have weight 0.
template <class T, int H>
__global__ void __launch_bounds__(kThreads)
    score_rows_kernel(View<const T, 3> queries, View<const float, 2> weights, Keys<T> keys, Windows windows,
                      Columns columns, View<float, 2> logits) {
  constexpr int kPanels = Shared<T, H>::kPanels, kChunks = 8 * kPanels;  // of 16 bytes
  extern __shared__ __align__(1024) u8 memory[];
  Shared<T, H>& shared = *reinterpret_cast<Shared<T, H>*>(memory);
  const i64 m = blockIdx.x, first = static_cast<i64>(blockIdx.y) * kRun;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, quad = lane % 4;
  const int count = static_cast<int>(min(static_cast<i64>(kRun), logits.shape[1] - first));
  const int heads = static_cast<int>(queries.shape[1]);

  bool any = false;
  for (int i = thread; i < kRun; i += kThreads) {
    const i64 token = i < count ? columns.token(windows, m, first + i) : -1;
    float scale = 0;
    shared.address[i] = token < 0 ? nullptr : keys.vector(windows.sequence[m], token, scale);
    shared.scales[i] = scale;
    any = any || token >= 0;
  }
  if (__syncthreads_or(any) == 0) {
    for (int i = thread; i < count; i += kThreads) logits(m, first + i) = -std::numeric_limits<float>::infinity();
    return;
  }
  for (int i = thread; i < H * kChunks; i += kThreads) {
    const int head = i / kChunks, chunk = i % kChunks;
    const uint4 value = head < heads ? *(reinterpret_cast<const uint4*>(&queries(m, head, 0)) + chunk) : uint4{};
    *reinterpret_cast<uint4*>(shared.queries[chunk / 8] + swizzled(head, chunk % 8 * 16)) = value;
  }
  const SpreadHeads<H, T> spread(weights, m);

  const int tiles = (count + kTileKeys - 1) / kTileKeys;
  const auto fetch = [&](int tile) {
    if (tile < tiles) {
#pragma unroll
      for (int i = 0; i < kTileKeys * kChunks / kThreads; ++i) {
        const int row = thread / kChunks + i * (kThreads / kChunks), chunk = thread % kChunks;
        const T* from = shared.address[tile * kTileKeys + row];
        if (from != nullptr) {
          copy_16(shared_address(shared.keys[tile % kStages][chunk / 8] + swizzled(row, chunk % 8 * 16)),
                  reinterpret_cast<const uint4*>(from) + chunk);
        }
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  for (int tile = 0; tile < kStages - 1; ++tile) fetch(tile);

  float sums[H / 2];
  for (int tile = 0; tile < tiles; ++tile) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
    fence_for_tensor_cores();
    __syncthreads();
    fetch(tile + kStages - 1);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4 * kPanels; ++step) {
      const u64 a = wgmma_operand(shared_address(shared.keys[tile % kStages][step / 4])) + 2 * (step % 4);
      const u64 b = wgmma_operand(shared_address(shared.queries[step / 4])) + 2 * (step % 4);
      wgmma_of<T, H>(sums, a, b, step > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = spread.sum(sums, r);
      const int column = tile * kTileKeys + thread / 32 * 16 + lane / 4 + 8 * r;
      if (quad == r && column < count) {
        logits(m, first + column) =
            shared.address[column] != nullptr ? shared.scales[column] * sum : -std::numeric_limits<float>::infinity();
      }
    }
  }
}

template <class T, int H>
void launch(const ScoreTask& task, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const dim3 grid(static_cast<unsigned>(logits.shape[0]), static_cast<unsigned>(ceil_div(logits.shape[1], kRun)));
  constexpr int kBytes = static_cast<int>(sizeof(Shared<T, H>));
  const auto kernel = score_rows_kernel<T, H>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "score: shared memory");
  kernel<<<grid, kThreads, kBytes, stream>>>(
      std::get<View<const T, 3>>(task.queries.values), task.queries.weights,
      {std::get<View<const T, 3>>(task.keys.values), task.keys.scales, task.keys.block_table}, task.windows,
      columns_of(task.candidates), logits);
}

template <class T>
bool takes(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const T, 3>>(&task.queries.values);
  const auto* keys = std::get_if<View<const T, 3>>(&task.keys.values);
  if (queries == nullptr || keys == nullptr || queries->shape[2] != kDim || queries->shape[1] > 64) return false;
  return vectors_align(*queries) && vectors_align(*keys);
}

template <class T>
void score_rows(const ScoreTask& task, cudaStream_t stream) {
  const i64 heads = heads_of(task.queries);
  (heads <= 8 ? launch<T, 8> : heads <= 16 ? launch<T, 16> : heads <= 32 ? launch<T, 32> : launch<T, 64>)(task, stream);
}

}  // namespace

bool single_rows(const ScoreTask& task) { return takes<E4m3>(task) || takes<Bf16>(task); }

void score_single_rows(const ScoreTask& task, cudaStream_t stream) {
  takes<E4m3>(task) ? score_rows<E4m3>(task, stream) : score_rows<Bf16>(task, stream);
  check(cudaGetLastError(), "score row by row");
}

}  // namespace misa::cuda
