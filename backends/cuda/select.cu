// The k best columns of each row: higher score, then lower token; NaN last, -0 equals +0; ascending, -1 pads
//
// A block takes a row: four passes over its columns find the k-th best score byte by byte (a histogram of 256 in shared
// memory; no buffer that could overflow), a fifth writes what is above it and the first of those that equal it, in
// order. Bound by L2: five reads of the scores.

#include <cub/block/block_scan.cuh>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/keys.cuh"

namespace misa::cuda {
namespace {

constexpr int kThreads = 512;

/// Larger is better; equal scores have equal ranks; NaN is 0.
__device__ u32 rank_of(float score) {
  if (isnan(score)) return 0;
  const u32 bits = __float_as_uint(score == 0 ? 0.0f : score);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__global__ void __launch_bounds__(kThreads) select_kernel(View<const float, 2> logits, Windows windows, Columns columns,
                                                          bool force_ends, View<i32, 2> selected) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  __shared__ unsigned histogram[256];
  __shared__ u32 prefix;
  __shared__ i64 wanted;
  __shared__ int first, last, visible;
  const i64 m = blockIdx.x, k = selected.shape[1];
  const int count = static_cast<int>(logits.shape[1]);
  const auto token = [&](int column) { return columns.token(windows, m, column); };

  if (threadIdx.x == 0) {
    first = count;
    last = -1;
    visible = 0;
    prefix = 0;
  }
  __syncthreads();
  for (int c = threadIdx.x; c < count; c += kThreads) {
    if (token(c) < 0) continue;
    atomicMin(&first, c);
    atomicMax(&last, c);
    atomicAdd(&visible, 1);
  }
  __syncthreads();
  const auto rank = [&](int c) {
    return force_ends && (c == first || c == last) ? rank_of(INFINITY) : rank_of(logits(m, c));
  };
  if (threadIdx.x == 0) wanted = k < visible ? k : visible;
  __syncthreads();
  const bool all = visible <= k;

  // The rank of the k-th best, most significant byte first; `wanted` is how many of those that share it are needed.
  for (int shift = 24; shift >= 0 && !all; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kThreads) histogram[i] = 0;
    __syncthreads();
    const u32 mask = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    for (int c = threadIdx.x; c < count; c += kThreads) {
      if (token(c) < 0) continue;
      const u32 one = rank(c);
      if ((one & mask) == prefix) atomicAdd(&histogram[(one >> shift) & 255], 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int byte = 255;
      for (; histogram[byte] < wanted; --byte) wanted -= histogram[byte];
      prefix |= static_cast<u32>(byte) << shift;
    }
    __syncthreads();
  }

  int written = 0, ties = 0;
  const u32 kth = prefix;
  for (int base = 0; base < count; base += kThreads) {
    const int c = base + static_cast<int>(threadIdx.x);
    const i64 id = c < count ? token(c) : -1;
    const u32 one = id >= 0 ? rank(c) : 0;
    const bool tied = id >= 0 && !all && one == kth;
    int tie = 0, tied_here = 0, place = 0, placed_here = 0;
    Scan(storage).ExclusiveSum(tied ? 1 : 0, tie, tied_here);
    __syncthreads();
    const bool taken = id >= 0 && (all || one > kth || (tied && ties + tie < wanted));
    Scan(storage).ExclusiveSum(taken ? 1 : 0, place, placed_here);
    __syncthreads();
    if (taken) selected(m, written + place) = static_cast<i32>(id - windows.begin[m]);
    ties += tied_here;
    written += placed_here;
  }
  for (i64 i = written + threadIdx.x; i < k; i += kThreads) selected(m, i) = -1;
}

}  // namespace

void select(const SelectTask& task, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  if (task.selected.size() == 0) return;
  select_kernel<<<static_cast<unsigned>(task.selected.shape[0]), kThreads, 0, stream>>>(
      logits, task.windows, columns_of(task.candidates), task.force_ends, task.selected);
  check(cudaGetLastError(), "select");
}

}  // namespace misa::cuda
