// score_cuda.cu and a selection, on a GPU, which do what MISA_MISBEHAVE says: right (the scores alone), or wrong in one
// way: duplicates (a selection of one token), outside (writes behind the logits), crash and hang (on the host),
// fault (reads from address 0 on the device), stale (writes nothing).
#define misa_kernels score_cuda_kernels
#include "profiles/kernels/score_cuda.cu"
#undef misa_kernels

#include <cstdlib>
#include <cstring>

namespace {

bool is(const char* what) {
  const char* asked = std::getenv("MISA_MISBEHAVE");
  return std::strcmp(asked == nullptr ? "right" : asked, what) == 0;
}

__global__ void write_behind(misa_score_task task) {
  float* last = reinterpret_cast<float*>(reinterpret_cast<char*>(task.logits) + task.queries.rows * task.logits_stride);
  for (int i = 0; i < 16; ++i) last[i] = 7;
}

__global__ void read_nothing(const volatile int* nothing, float* to) { *to = static_cast<float>(*nothing); }

__global__ void select_one_token(misa_select_task task) {
  auto* row =
      reinterpret_cast<int32_t*>(reinterpret_cast<char*>(task.tokens) + int64_t{blockIdx.x} * task.tokens_stride);
  for (int64_t i = threadIdx.x; i < task.k; i += blockDim.x) row[i] = 0;
}

int32_t misbehave(void* self, misa_score_task* task, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  volatile int* nothing = nullptr;
  if (is("crash")) *nothing = 1;
  while (is("hang")) continue;
  if (is("stale")) return MISA_OK;
  if (is("fault")) read_nothing<<<1, 1, 0, on>>>(nothing, task->logits);
  const int32_t status = score(self, task, stream);
  if (is("outside")) write_behind<<<1, 1, 0, on>>>(*task);
  return status;
}

int32_t select_duplicates(void*, const misa_select_task* task, void* stream) {
  select_one_token<<<static_cast<unsigned>(task->rows), 128, 0, static_cast<cudaStream_t>(stream)>>>(*task);
  return cudaGetLastError() == cudaSuccess ? MISA_OK : MISA_FAILED;
}

int32_t accepts_both(void* self, int32_t step, const void* task) {
  return step == MISA_SELECT || accepts(self, step, task) != 0 ? 1 : 0;
}

}  // namespace

extern "C" const misa_kernel_table* misa_kernels(int32_t version, int32_t device_type, int32_t device) {
  static misa_kernel_table table;
  const misa_kernel_table* right = score_cuda_kernels(version, device_type, device);
  if (right == nullptr) return nullptr;
  table = *right;
  table.name = "misbehaving";
  table.accepts = accepts_both;
  table.score = misbehave;
  if (is("duplicates")) table.select = select_duplicates;
  return &table;
}
