// Scores of FP8 or bf16 queries and keys on a GPU, contiguous or paged, as a plug-in of misa-prof.
//
//   nvcc -O3 -arch=sm_90a -shared -Xcompiler -fPIC -I ../../backends/plugin score_cuda.cu -o libscore_cuda.so
//
//   misa-prof compare --backend plugin:./libscore_cuda.so
//
//   misa-prof profile --backend plugin:./libscore_cuda.so --model deepseek-v3.2 --workload prefill-32k --rows 128
//
//   logits[m, c] = scale(t) * sum over h of weights[m, h] * relu(q[m, h] . key(t)),   t = the token of column c
//
// A block takes one row and 128 columns. The row's queries lie in shared memory as f32, where all threads read the same
// number at a time; each thread holds the key of its column in registers. Bound by multiplications in f32: it uses no
// tensor core, and is here to be read.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <string>

#include "misa_kernel.h"

namespace {

constexpr int kThreads = 128;

std::string last_error;

__device__ float number(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ float number(__nv_fp8_e4m3 x) { return static_cast<float>(x); }

/// The token of a column of row m; -1 where it holds none that the row sees.
__device__ int64_t token_of(const misa_windows& windows, const misa_candidates& within, int64_t m, int64_t column) {
  int64_t token = windows.begin[m] + column;
  if (within.runs != nullptr) {
    const int64_t r = column / within.length;
    if (r >= within.runs_per_row) return -1;
    const auto* runs =
        reinterpret_cast<const int32_t*>(reinterpret_cast<const char*>(within.runs) + m * within.runs_stride);
    if (runs[r] < 0) return -1;
    token = within.origin[m] + runs[r] * within.length + column % within.length;
  }
  return token >= windows.begin[m] && token < windows.end[m] ? token : -1;
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) score_kernel(misa_score_task task) {
  extern __shared__ float query[];  // [heads, kDim]
  const misa_queries& queries = task.queries;
  const misa_keys& keys = task.keys;
  const int64_t m = blockIdx.y, column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int heads = static_cast<int>(queries.heads);
  const T* row = static_cast<const T*>(queries.values) + m * heads * kDim;
  for (int i = threadIdx.x; i < heads * kDim; i += kThreads) query[i] = number(row[i]);
  __syncthreads();
  if (column >= task.columns) return;
  float* logits = reinterpret_cast<float*>(reinterpret_cast<char*>(task.logits) + m * task.logits_stride);
  const int64_t token = token_of(task.windows, task.candidates, m, column);
  if (token < 0) {
    logits[column] = -INFINITY;
    return;
  }

  int64_t page = 0, slot = token;
  if (keys.block_table != nullptr) {
    const auto* table = reinterpret_cast<const int32_t*>(reinterpret_cast<const char*>(keys.block_table) +
                                                         task.windows.sequence[m] * keys.block_table_stride);
    page = table[token / keys.page_size];
    slot = token % keys.page_size;
  }
  const auto* from = reinterpret_cast<const T*>(static_cast<const char*>(keys.values) + page * keys.values_page_stride +
                                                slot * keys.values_token_stride);
  float key[kDim];
#pragma unroll
  for (int d = 0; d < kDim; ++d) key[d] = number(from[d]);

  float sum = 0;
  for (int h = 0; h < heads; ++h) {
    float dot = 0;
#pragma unroll
    for (int d = 0; d < kDim; ++d) dot += query[h * kDim + d] * key[d];
    sum += queries.weights[m * heads + h] * (dot < 0 ? 0 : dot);  // NaN stays NaN
  }
  float scale = 1;
  if (keys.scales != nullptr) {
    scale = *reinterpret_cast<const float*>(reinterpret_cast<const char*>(keys.scales) +
                                            page * keys.scales_page_stride + slot * keys.scales_token_stride);
  }
  logits[column] = scale * sum;
}

template <class T>
decltype(&score_kernel<T, 128>) kernel_for(int64_t dim) {
  if (dim == 32) return score_kernel<T, 32>;
  if (dim == 64) return score_kernel<T, 64>;
  return dim == 128 ? score_kernel<T, 128> : nullptr;
}

decltype(&score_kernel<__nv_fp8_e4m3, 128>) kernel_for(const misa_score_task& task) {
  if (task.queries.dtype != task.keys.dtype) return nullptr;
  if (task.queries.dtype == MISA_E4M3) return kernel_for<__nv_fp8_e4m3>(task.queries.dim);
  return task.queries.dtype == MISA_BF16 ? kernel_for<__nv_bfloat16>(task.queries.dim) : nullptr;
}

int32_t accepts(void*, int32_t step, const void* task) {
  return step == MISA_SCORE && kernel_for(*static_cast<const misa_score_task*>(task)) != nullptr;
}

int32_t score(void*, misa_score_task* task, void* stream) {
  const auto kernel = kernel_for(*task);
  if (kernel == nullptr) {
    last_error = "the kernel is for FP8 or bf16 queries and keys of 32, 64 or 128 numbers";
    return MISA_UNSUPPORTED;
  }
  if (task->queries.rows == 0 || task->columns == 0) return MISA_OK;
  const dim3 blocks(static_cast<unsigned>((task->columns + kThreads - 1) / kThreads),
                    static_cast<unsigned>(task->queries.rows));
  const auto bytes = static_cast<int>(task->queries.heads * task->queries.dim * sizeof(float));
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status == cudaSuccess) {
    kernel<<<blocks, kThreads, bytes, static_cast<cudaStream_t>(stream)>>>(*task);
    status = cudaGetLastError();
  }
  if (status == cudaSuccess) return MISA_OK;
  last_error = std::string("launching the kernel: ") + cudaGetErrorString(status);
  return MISA_FAILED;
}

const char* error(void*) { return last_error.c_str(); }

misa_kernel_table make_table() {
  misa_kernel_table table = {};
  table.size = sizeof table;
  table.version = MISA_KERNEL_VERSION;
  table.device_type = MISA_CUDA;
  table.name = "score-cuda";
  table.description = "a plain CUDA kernel of the scores";
  table.arithmetic = "f32";
  table.accepts = accepts;
  table.score = score;
  table.error = error;
  return table;
}

}  // namespace

extern "C" const misa_kernel_table* misa_kernels(int32_t version, int32_t device_type, int32_t) {
  static const misa_kernel_table table = make_table();
  return version == MISA_KERNEL_VERSION && device_type == MISA_CUDA ? &table : nullptr;
}
