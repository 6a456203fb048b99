// Reading recorded workloads: from the page cache, checks included.

#include <benchmark/benchmark.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "core/workload/safetensors.hpp"
#include "core/workload/trace.hpp"

namespace misa {
namespace {

/// A trace of `keys` FP8 keys and 16 rows of attention mass, gone with the object.
struct TraceFile {
  std::string path;

  explicit TraceFile(i64 keys) {
    constexpr i64 kRows = 16, kHeads = 64, kDim = 128;
    std::random_device device;
    path =
        (std::filesystem::temp_directory_path() / ("misa-bench-" + std::to_string(device()) + ".safetensors")).string();
    Workload w;
    w.metadata = {{"provenance", "synthetic"}};
    w.q = filled<E4m3>({kRows, kHeads, kDim}, E4m3{0x38});
    w.weights = filled<float>({kRows, kHeads}, 0.5f);
    w.k = filled<E4m3>({keys, kDim}, E4m3{0x38});
    w.k_scale = filled<float>({keys}, 0.25f);
    w.attention_mass = filled<F16>({kRows, keys}, F16{0x0400});
    for (i32 row = 0; row < kRows; ++row) {
      w.attention_mass_row.push_back(row);
      w.q_pos.push_back(static_cast<i32>(keys - kRows + row));
      w.ks.push_back(0);
      w.ke.push_back(w.q_pos.back() + 1);
      w.sequence.push_back(0);
    }
    write_trace(path, w);
  }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  ~TraceFile() { std::filesystem::remove(path); }

  template <class T>
  static HostTensor filled(std::vector<i64> shape, T value) {
    HostTensor tensor(dtype_of<T>(), std::move(shape));
    for (T& element : tensor.span<T>()) element = value;
    return tensor;
  }
};

void read_whole_trace(benchmark::State& state) {
  const TraceFile file(state.range(0));
  for (auto _ : state) {
    const Workload workload = read_trace(file.path, i64{1} << 40);
    benchmark::DoNotOptimize(workload.k.storage.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<i64>(std::filesystem::file_size(file.path)));
}
BENCHMARK(read_whole_trace)->Arg(32 << 10)->Arg(128 << 10)->Arg(1 << 20)->Unit(benchmark::kMillisecond);

void check_whole_workload(benchmark::State& state) {
  const TraceFile file(state.range(0));
  const Workload workload = read_trace(file.path, i64{1} << 40);
  for (auto _ : state) check_workload(workload, "benchmark");
  state.SetBytesProcessed(state.iterations() * static_cast<i64>(std::filesystem::file_size(file.path)));
}
BENCHMARK(check_whole_workload)->Arg(128 << 10)->Unit(benchmark::kMillisecond);

void read_header_of_many_tensors(benchmark::State& state) {
  std::vector<SafetensorsTensor> tensors;
  for (i64 i = 0; i < state.range(0); ++i) {
    tensors.emplace_back("tensor." + std::to_string(i), "F32", std::vector<i64>{0, 128}, std::span<const std::byte>());
  }
  const std::string bytes = safetensors_header_bytes({}, tensors);
  for (auto _ : state) {
    benchmark::DoNotOptimize(read_safetensors_header(std::as_bytes(std::span(bytes)), "benchmark"));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<i64>(bytes.size()));
}
BENCHMARK(read_header_of_many_tensors)->Arg(16)->Arg(16 << 10)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace misa
