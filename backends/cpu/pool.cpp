// means[i] = mean of k_scale * k over the tokens of range i
//
// Ranges that share a begin (rows that end in the same block) continue one running sum. Sums in f64, in token order:
// the mean does not depend on how ranges share work, and is rounded once. Bound: memory, one read of the keys.

#include <omp.h>

#include <array>
#include <vector>

#include "backends/cpu/tasks.hpp"
#include "backends/cpu/tile.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/work_spans.hpp"

namespace misa::cpu {
namespace {

void pool(const PoolTask& task, int threads) {
  const i64 count = task.count(), dim = task.means.shape[1];
  const Windows& ranges = task.ranges;
  const auto continues = [&](i64 i) {
    return i > 0 && ranges.sequence[i] == ranges.sequence[i - 1] && ranges.begin[i] == ranges.begin[i - 1] &&
           ranges.end[i] >= ranges.end[i - 1];
  };
  std::vector<i64> starts;
  for (i64 i = 0; i < count; ++i) {
    if (!continues(i)) starts.push_back(i);
  }
  starts.push_back(count);

#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile<float> tile(dim);
#pragma omp for schedule(dynamic) nowait
    for (std::size_t s = 0; s < starts.size() - 1; ++s) {
      double sum[kMaxDepth] = {};
      i64 token = ranges.begin[starts[s]];
      for (i64 i = starts[s]; i < starts[s + 1]; ++i) {
        while (token < ranges.end[i] && !interrupted()) {
          const i64 next = std::min<i64>(token + kTileColumns, ranges.end[i]);
          load_keys(task.keys, ranges.sequence[i], token, next - token, tile);
          loops().add_keys(tile.keys, next - token, dim, tile.scales, sum);
          token = next;
        }
        const double tokens = static_cast<double>(std::max<i64>(1, ranges.end[i] - ranges.begin[i]));
        for (i64 d = 0; d < dim; ++d) task.means(task.place(i), d) = static_cast<float>(sum[d] / tokens);
      }
    }
  }
  stop_if_interrupted();
}

constexpr std::array<Kernel<PoolTask, int>, 1> kPoolKernels{{
    {"running", "ranges that share a begin continue one sum in f64", accepts_all, pool},
}};

}  // namespace

std::span<const Kernel<PoolTask, int>> pool_kernels() { return kPoolKernels; }

}  // namespace misa::cpu
