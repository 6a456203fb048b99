#include "backends/cuda/cuda.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "backends/cuda/check.hpp"
#include "backends/cuda/device.hpp"
#include "backends/cuda/graph.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/limits.hpp"

namespace misa {
namespace {

using cuda::check;

constexpr i64 kSlack = 64 << 20;          // for graphs, kernels that load late, and the pool's rounding
constexpr i64 kBusyNanoseconds = 60'000;  // the device is kept busy while a run is queued
constexpr int kForgetful = 4;             // times the L2 cache that are read to make it forget

cudaStream_t new_stream(int device) {
  cudaStream_t stream = nullptr;
  check(cudaSetDevice(device), "choosing the device");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  return stream;
}

class Cuda final : public Backend {
 public:
  Cuda(int device, ForcedKernels forced) : device_(device), choice_{std::move(forced)}, stream_(new_stream(device)) {
    check(cudaGetDeviceProperties(&properties_, device), "the device");
  }
  ~Cuda() override {
    other_data_ = Buffer();
    cudaStreamDestroy(stream_);
    if (left_ != nullptr) cudaEventDestroy(left_);
  }
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
    return "device " + std::to_string(device_) + ": " + properties_.name + ", CUDA runtime " + version(runtime) +
           ", driver for CUDA " + version(driver);
  }
  Dtype logits_dtype() const override { return Dtype::f32; }
  Dtype product_dtype(std::string_view /*kernel*/, Dtype elements) const override { return routed_dtype(elements); }
  std::optional<Arithmetic> arithmetic(const Shape& shape) const override { return cuda_arithmetic(shape); }

  std::optional<std::string> why_not(const IndexerSpec& spec, const Shape& shape) const override {
    return cuda_limit(spec, shape);
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
  void release(std::byte* data, i64 /*bytes*/) noexcept override {
    if (std::exchange(was_left_, false)) cudaStreamWaitEvent(stream_, left_);
    cudaFreeAsync(data, stream_);
  }
  void upload(std::byte* to, const std::byte* from, i64 bytes) override {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(std::byte* to, const std::byte* from, i64 bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }

  std::string_view pool(const PoolTask& task) override {
    return task.means.empty() ? "" : launch(cuda::pool_kernels(), task);
  }
  std::string_view rank(const RankTask& task) override {
    return rows_of(task.queries) == 0 ? "" : launch(cuda::rank_kernels(), task);
  }
  std::string_view gather(const GatherTask& task) override {
    return rows_of(task.queries) == 0 ? "" : launch(cuda::gather_kernels(), task);
  }
  std::string_view rank_gather(const RankGatherTask& task) override {
    if (rows_of(task.rank.queries) == 0 || forces(choice_.forced, Primitive::rank) ||
        forces(choice_.forced, Primitive::gather)) {
      return {};
    }
    const bool forced = forces(choice_.forced, Primitive::rank_gather);
    const bool found = find_kernel(cuda::rank_gather_kernels(), choice_.forced, task) != nullptr;
    return found || forced ? launch(cuda::rank_gather_kernels(), task) : "";
  }
  std::string_view score(const ScoreTask& task) override {
    return std::get<View<float, 2>>(task.logits).empty() ? "" : launch(cuda::score_kernels(), task);
  }
  std::string_view select(const SelectTask& task) override {
    return task.selected.empty() ? "" : launch(cuda::select_kernels(), task);
  }

  bool rehearse(bool on) override {
    choice_.rehearsing = on;
    return !choice_.forced.empty();
  }
  std::unique_ptr<Clock> clock() override {
    if (!plain_) {
      plain_ = cuda::measure_launches(stream_, false);
      recorded_ = cuda::measure_launches(stream_, true);
    }
    return std::make_unique<cuda::EventClock>(stream_, *plain_, recorded_);
  }
  std::unique_ptr<Recording> record(const std::function<void()>& work) override { return cuda::record(stream_, work); }
  /// Reading leaves the cache clean: after writes, a run would pay for their way to memory.
  bool prepare_run(bool cold) override {
    if (cold) {
      if (other_data_.bytes() == 0) {
        other_data_ = Buffer(*this, kForgetful * static_cast<i64>(properties_.l2CacheSize));
        cuda::fill_memory(other_data_.data(), other_data_.bytes(), ~0u, 0, stream_);
      }
      cuda::read_memory(other_data_.data(), other_data_.bytes(), properties_.multiProcessorCount, stream_);
    } else {
      cuda::wait_on_device(kBusyNanoseconds, stream_);
    }
    return cold;
  }

  std::optional<Roofs> roofs() override {
    if (!roofs_ && free_bytes() >= cuda::kRoofBytes) {
      roofs_ = cuda::measure_roofs(*this, properties_.multiProcessorCount, stream_);
    }
    return roofs_;
  }
  void enter(std::optional<void*> stream) override {
    check(cudaGetDevice(&outer_device_), "the current device");
    if (outer_device_ != device_) check(cudaSetDevice(device_), "choosing the device");
    if (!stream) return;
    if (left_ == nullptr) check(cudaEventCreateWithFlags(&left_, cudaEventDisableTiming), "an event");
    own_stream_ = std::exchange(stream_, static_cast<cudaStream_t>(*stream));
  }
  /// An event in a capture would not be one of this stream: whoever replays a graph keeps its plan.
  void leave() noexcept override {
    if (own_stream_) {
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      if (cudaStreamIsCapturing(stream_, &status) == cudaSuccess && status == cudaStreamCaptureStatusNone) {
        if (was_left_ && stream_ != left_stream_) cudaStreamWaitEvent(*own_stream_, left_);
        was_left_ = cudaEventRecord(left_, stream_) == cudaSuccess;
        left_stream_ = stream_;
      }
      stream_ = *std::exchange(own_stream_, std::nullopt);
    }
    if (outer_device_ != device_) cudaSetDevice(outer_device_);
  }
  std::optional<DeviceState> device_state() override { return cuda::device_state(device_); }
  void* stream() const override { return stream_; }
  i64 workspace_bytes() const override { return kCudaWorkspaceBytes; }
  std::optional<i64> free_bytes() const override {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "the device's memory");
    return std::max<i64>(0, static_cast<i64>(free) - kSlack);
  }

 private:
  std::string_view launch(const auto& table, const auto& task) {
    return run_kernel(table, choice_, task, properties_.multiProcessorCount, stream_);
  }
  void copy(std::byte* to, const std::byte* from, i64 bytes, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream_), "a copy");
    check(cudaStreamSynchronize(stream_), "waiting for the device");
  }

  int device_;
  KernelChoice choice_;
  cudaStream_t stream_;
  std::optional<cudaStream_t> own_stream_;  ///< while `stream_` is the caller's
  cudaEvent_t left_ = nullptr;              ///< after what was last put on a caller's stream, `left_stream_`
  cudaStream_t left_stream_ = nullptr;
  bool was_left_ = false;  ///< no released memory has waited for it yet
  int outer_device_ = 0;
  cudaDeviceProp properties_{};
  std::optional<Roofs> roofs_;
  std::optional<cuda::LaunchCost> plain_;
  cuda::LaunchCost recorded_;
  Buffer other_data_;  ///< what the cache holds when it is cold
};

}  // namespace

std::optional<std::string> cuda_why_not(int device) {
  int count = 0, driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return "no usable device: there is no CUDA driver";
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    return std::string("no usable device: ") + (status == cudaSuccess ? "none found" : cudaGetErrorString(status));
  }
  const std::string name = "device " + std::to_string(device);
  if (device >= count) {
    return "there is no " + name + ", only " + (count == 1 ? "device 0" : "devices 0 to " + std::to_string(count - 1));
  }
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device); status != cudaSuccess) {
    return name + " does not answer: " + cudaGetErrorString(status);
  }
  if (properties.major == 9) return std::nullopt;
  return name + " is " + std::string(properties.name) + " (compute capability " + std::to_string(properties.major) +
         "." + std::to_string(properties.minor) + "), and the kernels are for 9.0 (Hopper)";
}

std::vector<KernelInfo> cuda_kernels() {
  return list_kernels(cuda::pool_kernels(), cuda::rank_kernels(), cuda::gather_kernels(), cuda::rank_gather_kernels(),
                      cuda::score_kernels(), cuda::select_kernels());
}

std::unique_ptr<Backend> make_cuda(int device, ForcedKernels forced) {
  return std::make_unique<Cuda>(device, std::move(forced));
}

std::unique_ptr<Backend> make_guest_cuda(int device) {
  int outer = 0;
  check(cudaGetDevice(&outer), "the current device");
  auto backend = make_cuda(device, {});
  if (outer != device) check(cudaSetDevice(outer), "choosing the device");
  return backend;
}

}  // namespace misa
