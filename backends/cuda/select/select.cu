// The k best columns of each row: higher score, then lower token; NaN last, -0 equals +0; ascending, -1 pads
//
// Which kernel takes a task. What none of them takes is selected from row by row: five passes over each, bound by
// memory.

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/select/select.cuh"

namespace misa::cuda {
namespace {

__global__ void __launch_bounds__(topk::kThreads) select_slowly_kernel(__grid_constant__ const topk::Task task) {
  __shared__ topk::Shared shared;
  topk::select_from_row(topk::Block{static_cast<int>(threadIdx.x), 0}, shared, task, blockIdx.x);
}

}  // namespace

void select(const SelectTask& given, int processors, cudaStream_t stream) {
  if (given.selected.size() == 0) return;
  const topk::Task task{std::get<View<float, 2>>(given.logits),
                        given.windows,
                        columns_of(given.candidates),
                        given.force_ends,
                        given.selected,
                        0,
                        0};
  if (topk::is_held(task, processors)) {
    topk::select_held(task, processors, stream);
  } else if (topk::is_spread(task, processors)) {
    topk::select_spread(task, processors, stream);
  } else if (topk::is_short(task)) {
    topk::select_short(task, stream);
  } else if (topk::is_sampled(task)) {
    topk::select_sampled(task, processors, stream);
  } else {
    select_slowly_kernel<<<static_cast<unsigned>(given.selected.shape[0]), topk::kThreads, 0, stream>>>(task);
  }
  check(cudaGetLastError(), "select");
}

}  // namespace misa::cuda
