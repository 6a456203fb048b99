// The k best columns of each row: higher score, then lower token; NaN last, -0 equals +0; ascending, -1 pads
//
// The table of kernels. A task that no special one accepts is selected from row by row: five passes over each row,
// bound by memory.

#include <array>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/select/select.cuh"

namespace misa::cuda {
namespace {

__global__ void __launch_bounds__(topk::kThreads) select_slowly_kernel(__grid_constant__ const topk::Task task) {
  __shared__ topk::Shared shared;
  topk::select_from_row(topk::Block{static_cast<int>(threadIdx.x), 0}, shared, task, blockIdx.x);
}

bool is_short(const topk::Task& task, int /*num_sms*/) { return topk::is_short(task); }
bool is_sampled(const topk::Task& task, int /*num_sms*/) { return topk::is_sampled(task); }
void select_short(const topk::Task& task, int /*num_sms*/, cudaStream_t stream) { topk::select_short(task, stream); }
void select_slowly(const topk::Task& task, int /*num_sms*/, cudaStream_t stream) {
  launch_kernel("select_slowly", select_slowly_kernel, {task.selected.shape[0], topk::kThreads, 0, stream}, false,
                task);
}

topk::Task task_of(const SelectTask& given) {
  const Forced forced = given.forced.within(given.selected.shape[1]);
  return {std::get<View<float, 2>>(given.logits),
          given.windows,
          columns_of(given.candidates),
          static_cast<int>(forced.first),
          static_cast<int>(forced.last),
          given.selected,
          0,
          0};
}

/// The current device's.
int sm_count() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "the current device");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "the number of SMs");
  return count;
}

template <auto Is>
bool accepts(const SelectTask& given) {
  return Is(task_of(given), sm_count());
}

template <auto Select>
void run(const SelectTask& given, int num_sms, cudaStream_t stream) {
  Select(task_of(given), num_sms, stream);
  check(cudaGetLastError(), "select");
}

constexpr std::array<CudaKernel<SelectTask>, 5> kKernels{{
    {"held", "many windows, each in the registers of a block", accepts<topk::is_held>, run<topk::select_held>},
    {"spread", "a few windows of many columns, each shared by the blocks of a cluster", accepts<topk::is_spread>,
     run<topk::select_spread>},
    {"short", "rows of few columns", accepts<is_short>, run<select_short>},
    {"sampled", "rows of any length, by a threshold from a sample", accepts<is_sampled>, run<topk::select_sampled>},
    {"slow", "every task, in five passes over each row", accepts_all, run<select_slowly>},
}};

}  // namespace

CudaTable<SelectTask> select_kernels() { return kKernels; }

}  // namespace misa::cuda
