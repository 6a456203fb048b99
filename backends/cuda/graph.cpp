#include "backends/cuda/graph.hpp"

#include <algorithm>
#include <array>

#include "backends/cuda/check.hpp"
#include "backends/cuda/device.hpp"

namespace misa::cuda {
namespace {

class Graph final : public Recording {
 public:
  Graph(cudaStream_t stream, cudaGraph_t graph) : stream_(stream) {
    check(cudaGraphInstantiate(&executable_, graph, 0), "making a graph executable");
    check(cudaGraphUpload(executable_, stream), "uploading a graph");
  }
  ~Graph() override { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay() override { check(cudaGraphLaunch(executable_, stream_), "launching a graph"); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

std::unique_ptr<Recording> record(cudaStream_t stream, const std::function<void()>& work) {
  struct Captured {
    cudaGraph_t graph = nullptr;
    ~Captured() {
      if (graph != nullptr) cudaGraphDestroy(graph);
    }
  } captured;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a graph");
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &captured.graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured.graph), "ending a graph");
  return std::make_unique<Graph>(stream, captured.graph);
}

EventClock::~EventClock() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

int EventClock::mark() {
  if (used_ == events_.size()) check(cudaEventCreate(&events_.emplace_back()), "an event");
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_, &status), "asking whether a graph is recorded");
  recording_ = status == cudaStreamCaptureStatusActive;
  check(
      cudaEventRecordWithFlags(events_[used_], stream_, recording_ ? cudaEventRecordExternal : cudaEventRecordDefault),
      "recording an event");
  return static_cast<int>(used_++);
}

double EventClock::seconds(int from, int to) {
  float milliseconds = 0;
  check(cudaStreamSynchronize(stream_), "waiting for the device");
  check(cudaEventElapsedTime(&milliseconds, events_.at(static_cast<std::size_t>(from)),
                             events_.at(static_cast<std::size_t>(to))),
        "reading an event");
  return std::max(0.0, 1e-3 * static_cast<double>(milliseconds) - (recording_ ? recorded_ : plain_).marks);
}

double best_rate(cudaStream_t stream, double amount, const std::function<bool()>& work) {
  EventClock clock(stream, {}, {});
  double best = 0;
  for (int attempt = 0; attempt < 6; ++attempt) {  // the first warms up
    clock.reset();
    const int from = clock.mark();
    if (!work()) return 0;
    const double seconds = clock.seconds(from, clock.mark());
    if (attempt > 0) best = std::max(best, amount / seconds);
  }
  return best;
}

LaunchCost measure_launches(cudaStream_t stream, bool recorded) {
  constexpr int kSamples = 31, kMany = 9;
  const auto median_of = [&](int count) {
    EventClock clock(stream, {}, {});
    int from = 0, to = 0;
    const auto work = [&] {
      clock.reset();
      from = clock.mark();
      for (int i = 0; i < count; ++i) launch_nothing(stream);
      to = clock.mark();
    };
    const auto graph = recorded ? record(stream, work) : nullptr;
    std::array<double, kSamples> samples{};
    for (double& sample : samples) {
      wait_on_device(50'000, stream);
      if (graph) {
        graph->replay();
      } else {
        work();
      }
      sample = clock.seconds(from, to);
    }
    std::nth_element(samples.begin(), samples.begin() + kSamples / 2, samples.end());
    return samples[kSamples / 2];
  };
  const double one = median_of(1), many = median_of(kMany);
  const double launch = std::max(0.0, (many - one) / (kMany - 1));
  return {.launch = launch, .marks = std::max(0.0, one - launch)};
}

}  // namespace misa::cuda
