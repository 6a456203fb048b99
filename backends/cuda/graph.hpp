#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <vector>

#include "core/indexer/backend.hpp"

namespace misa::cuda {

/// What `work` puts on the stream, as a CUDA graph.
std::unique_ptr<Recording> record(cudaStream_t stream, const std::function<void()>& work);

/// What it takes to do nothing: `count` empty kernels between two marks take marks + count * launch.
struct LaunchCost {
  double launch = 0, marks = 0;  // seconds
};

/// Marks are events on the stream; in a recording they are event nodes, set again by each replay. Reading them waits
/// for the stream. Times are those without the marks: what two of them take is measured and taken off.
class EventClock final : public Clock {
 public:
  EventClock(cudaStream_t stream, LaunchCost plain, LaunchCost recorded)
      : stream_(stream), plain_(plain), recorded_(recorded) {}
  ~EventClock() override;
  EventClock(const EventClock&) = delete;
  EventClock& operator=(const EventClock&) = delete;

  void reset() override { used_ = 0; }
  int mark() override;
  double seconds(int from, int to) override;

 private:
  cudaStream_t stream_;
  LaunchCost plain_, recorded_;
  bool recording_ = false;
  std::vector<cudaEvent_t> events_;
  std::size_t used_ = 0;
};

/// `amount` over the seconds of `work`, the best of five calls after a first one; 0 where work() is false.
double best_rate(cudaStream_t stream, double amount, const std::function<bool()>& work);

/// Of kernels one by one, or recorded; a device that need not wait for the host.
LaunchCost measure_launches(cudaStream_t stream, bool recorded);

}  // namespace misa::cuda
