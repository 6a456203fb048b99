#include "backends/cuda/roofs.hpp"

#include <algorithm>
#include <functional>

#include "backends/cuda/check.hpp"
#include "backends/cuda/device_work.hpp"
#include "backends/cuda/gemm_roof.hpp"
#include "backends/cuda/graph.hpp"

namespace misa::cuda {
namespace {

constexpr i64 kBytes = 512 << 20;  // many times what the caches hold

/// Bytes per second at best, of work that moves kBytes.
double best_rate(cudaStream_t stream, const std::function<void()>& work) {
  EventClock clock(stream, {}, {});
  double best = 0;
  for (int attempt = 0; attempt < 6; ++attempt) {  // the first warms up
    clock.reset();
    const int from = clock.mark();
    work();
    const double seconds = clock.seconds(from, clock.mark());
    if (attempt > 0) best = std::max(best, static_cast<double>(kBytes) / seconds);
  }
  return best;
}

}  // namespace

Roofs measure_roofs(Allocator& device, int num_sms, cudaStream_t stream) {
  Roofs roofs;
  {
    const Buffer buffer(device, kBytes);
    fill_memory(buffer.data(), kBytes, ~0u, 0, stream);
    roofs.bytes_per_second = best_rate(stream, [&] { read_memory(buffer.data(), kBytes, num_sms, stream); });
    roofs.copy_bytes_per_second = best_rate(stream, [&] {  // half is read, half is written
      check(cudaMemcpyAsync(buffer.data() + kBytes / 2, buffer.data(), kBytes / 2, cudaMemcpyDeviceToDevice, stream),
            "a copy");
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
