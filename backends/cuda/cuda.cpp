#include "backends/cuda/cuda.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"

namespace misa {
namespace {

using cuda::check;

constexpr int kDevice = 0;
constexpr i64 kMaxHeads = 128, kMaxDim = 256;

cudaStream_t new_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  return stream;
}

/// Marks are events on the stream; reading them waits.
class EventClock final : public Clock {
 public:
  explicit EventClock(cudaStream_t stream) : stream_(stream) {}
  ~EventClock() override {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  EventClock(const EventClock&) = delete;
  EventClock& operator=(const EventClock&) = delete;

  void reset() override { used_ = 0; }
  int mark() override {
    if (used_ == events_.size()) check(cudaEventCreate(&events_.emplace_back()), "an event");
    check(cudaEventRecord(events_[used_], stream_), "recording an event");
    return static_cast<int>(used_++);
  }
  double seconds(int from, int to) override {
    float milliseconds = 0;
    check(cudaEventSynchronize(events_[static_cast<std::size_t>(to)]), "waiting for an event");
    check(cudaEventElapsedTime(&milliseconds, events_[static_cast<std::size_t>(from)],
                               events_[static_cast<std::size_t>(to)]),
          "reading an event");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaStream_t stream_;
  std::vector<cudaEvent_t> events_;
  std::size_t used_ = 0;
};

class Cuda final : public Backend {
 public:
  Cuda() : stream_(new_stream()) { check(cudaGetDeviceProperties(&properties_, kDevice), "the device"); }
  ~Cuda() override { cudaStreamDestroy(stream_); }
  Cuda(const Cuda&) = delete;
  Cuda& operator=(const Cuda&) = delete;

  std::string_view name() const override { return "cuda"; }
  std::string description() const override {
    int driver = 0, runtime = 0;
    check(cudaDriverGetVersion(&driver), "the driver's version");
    check(cudaRuntimeGetVersion(&runtime), "the runtime's version");
    const auto version = [](int number) {
      return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
    };
    return std::string(properties_.name) + ", CUDA runtime " + version(runtime) + ", driver for CUDA " +
           version(driver);
  }
  Dtype logits_dtype() const override { return Dtype::f32; }
  std::optional<Arithmetic> arithmetic(const Shape& shape) const override {
    return find_arithmetic(shape.dtype == Dtype::e4m3 && shape.head_dim == 128 ? "fp8-mma" : "f32-dot");
  }

  std::optional<std::string> why_not(const Shape& shape) const override {
    if (shape.heads > kMaxHeads) return std::to_string(shape.heads) + " heads, above " + std::to_string(kMaxHeads);
    if (shape.head_dim > kMaxDim)
      return "head_dim " + std::to_string(shape.head_dim) + ", above " + std::to_string(kMaxDim);
    if (shape.rows > 65535) return std::to_string(shape.rows) + " rows at once, above 65535";
    return std::nullopt;
  }

  std::byte* allocate(i64 bytes) override {
    void* data = nullptr;
    if (cudaMallocAsync(&data, static_cast<std::size_t>(bytes), stream_) != cudaSuccess) {
      cudaGetLastError();
      throw Error(ErrorKind::runtime, "MP-E501", "the device has no " + std::to_string(bytes) + " bytes left", {},
                  "a smaller workload or --max-memory");
    }
    return static_cast<std::byte*>(data);
  }
  void release(std::byte* data, i64 /*bytes*/) noexcept override { cudaFreeAsync(data, stream_); }
  void upload(std::byte* to, const std::byte* from, i64 bytes) override {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(std::byte* to, const std::byte* from, i64 bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }

  void pool(const PoolTask& task) override { cuda::pool(task, properties_.multiProcessorCount, stream_); }
  void route(const RouteTask& task) override { cuda::route(task, properties_.multiProcessorCount, stream_); }
  void score(const ScoreTask& task) override { cuda::score(task, properties_.multiProcessorCount, stream_); }
  void select(const SelectTask& task) override { cuda::select(task, stream_); }

  std::unique_ptr<Clock> clock() override { return std::make_unique<EventClock>(stream_); }
  std::optional<Roofs> roofs() override { return std::nullopt; }

 private:
  void copy(std::byte* to, const std::byte* from, i64 bytes, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream_), "a copy");
    check(cudaStreamSynchronize(stream_), "waiting for the device");
  }

  cudaStream_t stream_;
  cudaDeviceProp properties_{};
};

}  // namespace

std::optional<std::string> cuda_why_not() {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    return std::string("no usable device: ") + (status == cudaSuccess ? "none found" : cudaGetErrorString(status));
  }
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, kDevice); status != cudaSuccess) {
    return std::string("device 0 does not answer: ") + cudaGetErrorString(status);
  }
  if (properties.major == 9) return std::nullopt;
  return "device 0 is " + std::string(properties.name) + " (compute capability " + std::to_string(properties.major) +
         "." + std::to_string(properties.minor) + "), and the kernels are for 9.0 (Hopper)";
}

std::unique_ptr<Backend> make_cuda(int /*threads*/) { return std::make_unique<Cuda>(); }

}  // namespace misa
