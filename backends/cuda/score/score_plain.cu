// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k)
//
// A block takes one row and up to 128 columns, as many as fit: queries and keys lie in shared memory as f32, and each
// thread has a column. Bound by shared memory: two reads for each multiplication.

#include <limits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"

namespace misa::cuda {
namespace {

constexpr i64 kSharedBytes = 227 << 10;

template <class Q, class K>
__global__ void __launch_bounds__(128) score_kernel(Vectors<Q> queries, View<const float, 2> weights, Keys<K> keys,
                                                    Windows windows, Columns columns, View<float, 2> logits) {
  float* shared = &shared_as<float>();
  const i64 per_row = ceil_div(logits.shape[1], static_cast<i64>(blockDim.x)), m = blockIdx.x / per_row;
  const i64 column = blockIdx.x % per_row * blockDim.x + threadIdx.x;
  const int heads = static_cast<int>(queries.shape[1]), dim = static_cast<int>(queries.shape[2]);
  float* query = shared;                                        // [H, D]
  float* key = shared + heads * dim + threadIdx.x * (dim + 1);  // [columns, D + 1]
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(heads * dim); i += blockDim.x)
    query[i] = to_float(queries(m, i / dim, i % dim));

  const bool inside = column < logits.shape[1];
  const i64 token = inside ? columns.token(windows, m, column) : -1;
  float scale = 1;
  if (token >= 0) {
    const auto from = keys.vector(windows.sequence[m], token, scale);
    for (int d = 0; d < dim; ++d) key[d] = to_float(from[d]);
  }
  __syncthreads();
  if (!inside) return;
  if (token < 0) {
    logits(m, column) = -std::numeric_limits<float>::infinity();
    return;
  }
  double sum = 0;
  for (int h = 0; h < heads; ++h) {
    float dot = 0;
    for (int d = 0; d < dim; ++d) dot += query[h * dim + d] * key[d];
    sum += static_cast<double>(weights(m, h)) * relu(dot);
  }
  logits(m, column) = static_cast<float>(scale * sum);
}

}  // namespace

void score_plainly(const ScoreTask& task, int /*num_sms*/, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const i64 heads = heads_of(task.queries), dim = head_dim_of(task.queries);
  i64 columns = 128;
  const auto bytes_for = [&](i64 count) { return (heads * dim + count * (dim + 1)) * 4; };
  while (bytes_for(columns) > kSharedBytes) columns /= 2;
  const i64 bytes = bytes_for(columns);
  const i64 blocks = logits.shape[0] * ceil_div(logits.shape[1], columns);
  with_types(task.queries.values, task.keys, [&](const auto& queries, const auto& keys) {
    using Q = Element<decltype(queries)>;
    using K = Element<decltype(keys.values)>;
    launch_kernel("score_plain", score_kernel<Q, K>, {blocks, columns, bytes, stream}, false, queries,
                  task.queries.weights, keys, task.windows, columns_of(task.candidates), logits);
  });
}

}  // namespace misa::cuda
