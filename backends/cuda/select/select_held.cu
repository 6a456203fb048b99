// Many windows of up to 32,768 columns: a block holds a row's ranks in registers while the next row is copied
//
// A thread has columns in order, so that a bit for each and one sum over the threads put what is selected in its place.
// Up to three histograms, of 11, 11 and 10 bits of the ranks, find the k-th best.
// One read of the scores. Bound by the latencies of a block's steps: for rows of no more than 16,384 or 8192 columns
// two or four blocks share an SM.

#include <algorithm>
#include <iterator>

#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/select/held.cuh"
#include "backends/cuda/select/select.cuh"

namespace misa::cuda::topk {
namespace {

template <int kSize>
__global__ void __launch_bounds__(kSize, 1024 / kSize) select_held_kernel(__grid_constant__ const Task task) {
  extern __shared__ float4 row[];
  __shared__ Counters shared;
  __shared__ u64 copied;
  Held<kSize, 32> held(static_cast<int>(threadIdx.x));
  const auto& team = held.team;
  const int rows = static_cast<int>(task.logits.shape[0]), width = static_cast<int>(task.logits.shape[1]),
            k = static_cast<int>(task.selected.shape[1]), step = static_cast<int>(gridDim.x);
  const u32 barrier = shared_address(&copied);
  const auto columns_of = [&](int m) { return max(0, min(width, task.windows.end[m] - task.windows.begin[m])); };
  const auto ask = [&](int m) {
    const u32 bytes = static_cast<u32>(columns_of(m) + 3) / 4 * 16;
    if (team.thread != 0) return;
    barrier_expect(barrier, bytes);
    if (bytes > 0) bulk_load(shared_address(row), &task.logits(m, 0), bytes, barrier);
  };

  for (int i = team.thread; i < kBins; i += kSize) shared.histogram[i] = 0;
  if (team.thread == 0) {
    barrier_init(barrier, 1);
    barrier_fence();
  }
  wait_for_stream();
  int m = static_cast<int>(blockIdx.x);
  ask(m);
  team.sync();
  for (u32 parity = 0; m < rows; m += step, parity ^= 1) {
    const int count = columns_of(m);
    barrier_wait(barrier, parity);
    held.load(row, count);
    team.sync();
    if (m + step < rows) ask(m + step);

    Cut cut{0, k, false};
#pragma unroll
    for (int round = 0; round < kRounds && count > k; ++round) {
      held.count(shared, round, cut);
      team.sync();
      find_digit(team, shared, cut.wanted);
      team.sync();
      held.narrow(shared, round, cut);
      if (!cut.tied) break;
    }
    if (count > k)
      held.take(cut);
    else
      held.take_all();
    unsigned total = 0;
    const unsigned counts = scan(team, shared, held.counts(), total);
    const int before = static_cast<int>(counts & 0xffffu), ties = static_cast<int>(counts >> 16);
    // Shared memory makes whole lines of what threads select: the histogram's, or some behind the row.
    if (k <= kBins) {
      i32* const list = reinterpret_cast<i32*>(shared.histogram);
      held.write(cut, before, ties, 0, list);
      team.sync();
      for (int i = team.thread; i < min(k, count); i += kSize) {
        task.selected(m, i) = list[i];
        list[i] = 0;
      }
    } else if (task.room >= k) {
      i32* const list = reinterpret_cast<i32*>(row) + 32 * kSize;
      held.write(cut, before, ties, 0, list);
      team.sync();
      for (int i = team.thread; i < min(k, count); i += kSize) task.selected(m, i) = list[i];
    } else {
      held.write(cut, before, ties, 0, &task.selected(m, 0));
    }
    for (int i = count + team.thread; i < k; i += kSize) task.selected(m, i) = -1;
    team.sync();
  }
}

/// A kernel and how many columns it takes.
struct Kernel {
  int threads, columns;
  void (*function)(Task);
};

template <int kSize>
constexpr Kernel kKernel{kSize, 32 * kSize, select_held_kernel<kSize>};
constexpr i64 kListed = 16384;  ///< columns that the blocks of an SM have room to list
constexpr Kernel kKernels[] = {kKernel<256>, kKernel<512>, kKernel<1024>};

}  // namespace

bool is_held(const Task& task, int num_sms) {
  const i64 rows = task.logits.shape[0], width = task.logits.shape[1];
  // With fewer rows the blocks of a cluster share a row; and a wave of the shortest takes as long otherwise.
  const bool many = width <= kKernels[0].columns ? rows > 2 * num_sms : 2 * rows > num_sms;
  return is_plain(task) && many && width > 4096 && width <= kKernels[2].columns;
}

void select_held(Task task, int num_sms, cudaStream_t stream) {
  const i64 rows = task.logits.shape[0], width = task.logits.shape[1], k = task.selected.shape[1];
  const Kernel& kernel =
      *std::find_if(std::begin(kKernels), std::end(kKernels), [&](const Kernel& one) { return width <= one.columns; });
  const int blocks = 1024 / kernel.threads;  // of an SM
  task.room = k > kBins && k <= kListed / blocks ? static_cast<int>(k) : 0;
  launch_kernel(
      "select", kernel.function,
      {std::min<i64>(rows, i64{blocks} * num_sms), kernel.threads, i64{4} * (kernel.columns + task.room), stream}, true,
      task);
}

}  // namespace misa::cuda::topk
