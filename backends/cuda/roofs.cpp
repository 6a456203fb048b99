
#include "backends/cuda/check.hpp"
#include "backends/cuda/device.hpp"
#include "backends/cuda/graph.hpp"

namespace misa::cuda {
namespace {

constexpr i64 kBytes = 512 << 20;  // many times what the caches hold

}  // namespace

Roofs measure_roofs(Allocator& device, int num_sms, cudaStream_t stream) {
  Roofs roofs;
  {
    const Buffer buffer(device, kBytes);
    fill_memory(buffer.data(), kBytes, ~0u, 0, stream);
    roofs.bytes_per_second = best_rate(stream, kBytes, [&] {
      read_memory(buffer.data(), kBytes, num_sms, stream);
      return true;
    });
    roofs.copy_bytes_per_second = best_rate(stream, kBytes, [&] {  // half is read, half is written
      check(cudaMemcpyAsync(buffer.data() + kBytes / 2, buffer.data(), kBytes / 2, cudaMemcpyDeviceToDevice, stream),
            "a copy");
      return true;
    });
  }
  for (const Dtype dtype : {Dtype::e4m3, Dtype::bf16, Dtype::f32}) {
    roofs.peaks.push_back({dtype, gemm_flops_per_second(dtype, device, stream)});
  }
  roofs.launch_seconds = measure_launches(stream, false).launch;
  roofs.recorded_launch_seconds = measure_launches(stream, true).launch;
  return roofs;
}

}  // namespace misa::cuda
