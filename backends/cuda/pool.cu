// means[p] = mean of k_scale * k over the tokens of range p
//
// A block takes a range, a thread a dimension; sums in f64, in token order, rounded once. Bound by memory latency: one
// key after the other.

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

}  // namespace

void pool(const PoolTask& task, cudaStream_t stream) {
  if (task.means.size() == 0) return;
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
