#include "backends/cuda/check.hpp"
#include "backends/cuda/device.hpp"
#include "core/base/mix.hpp"

namespace misa::cuda {
namespace {

constexpr int kThreads = 512, kLoads = 8;  // 16-byte loads in flight per thread

__global__ void __launch_bounds__(kThreads) read_kernel(uint4* data, i64 count) {
  const i64 step = static_cast<i64>(gridDim.x) * kThreads;
  u32 bits = 0;
  for (i64 i = blockIdx.x * static_cast<i64>(kThreads) + threadIdx.x; i < count; i += kLoads * step) {
    uint4 loaded[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) loaded[j] = i + j * step < count ? data[i + j * step] : uint4{};
#pragma unroll
    for (int j = 0; j < kLoads; ++j) bits |= loaded[j].x ^ loaded[j].y ^ loaded[j].z ^ loaded[j].w;
  }
  if (bits == 1) data->x = bits;  // hardly ever: so that the loads happen
}

__global__ void fill_kernel(u32* words, i64 count, u32 keep, u32 set) {
  for (i64 i = blockIdx.x * static_cast<i64>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<i64>(gridDim.x) * blockDim.x) {
    words[i] = (static_cast<u32>(mix64(static_cast<u64>(i) + 1)) & keep) | set;
  }
}

__global__ void wait_kernel(u64 nanoseconds) {
  u64 start = 0, now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}

__global__ void empty_kernel() {}

}  // namespace

void read_memory(void* data, i64 bytes, int num_sms, cudaStream_t stream) {
  read_kernel<<<static_cast<unsigned>(4 * num_sms), kThreads, 0, stream>>>(static_cast<uint4*>(data), bytes / 16);
  check(cudaGetLastError(), "reading memory");
}

void fill_memory(void* data, i64 bytes, u32 keep, u32 set, cudaStream_t stream) {
  fill_kernel<<<1024, 256, 0, stream>>>(static_cast<u32*>(data), bytes / 4, keep, set);
  check(cudaGetLastError(), "filling memory");
}

void wait_on_device(i64 nanoseconds, cudaStream_t stream) {
  wait_kernel<<<1, 1, 0, stream>>>(static_cast<u64>(nanoseconds));
  check(cudaGetLastError(), "waiting on the device");
}

void launch_nothing(cudaStream_t stream) {
  empty_kernel<<<1, 32, 0, stream>>>();
  check(cudaGetLastError(), "launching nothing");
}

}  // namespace misa::cuda
