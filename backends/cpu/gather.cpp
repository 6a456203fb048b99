// The queries and weights of the kept heads, and of the linear head where there is one. Bound: memory.

#include <omp.h>

#include <array>

#include "backends/cpu/tasks.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/work_spans.hpp"
#include "core/indexer/linear_head.hpp"

namespace misa::cpu {
namespace {

void gather(const GatherTask& task, int threads) {
#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
#pragma omp for nowait
    for (i64 m = 0; m < rows_of(task.queries); ++m) {
      if (!interrupted()) gather_row(task, m);
    }
  }
  stop_if_interrupted();
}

constexpr std::array<Kernel<GatherTask, int>, 1> kGatherKernels{{
    {"rows", "row by row", accepts_all, gather},
}};

}  // namespace

std::span<const Kernel<GatherTask, int>> gather_kernels() { return kGatherKernels; }

}  // namespace misa::cpu
