// The dsa score stage against oneDNN's plain matmul of the same shape, in f32 or bf16, side by side in one loop.
// Ours reads FP8, applies ReLU, weights and scales and writes [rows, keys]; oneDNN's writes [rows * heads, keys].

#include <benchmark/benchmark.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

#include "tests/bench/support.hpp"
#include "tests/support/primitive_cases.hpp"

namespace {

using namespace misa;

/// c[M, N] = a[M, K] . b[N, K]^T by the matmul primitive, on all threads.
class Matmul {
 public:
  using Type = dnnl::memory::data_type;

  Matmul(i64 m, i64 n, i64 k, Type operands)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        a_(desc(m, k, operands, false), engine_),
        b_(desc(k, n, operands, true), engine_),
        c_(desc(m, n, Type::f32, false), engine_),
        matmul_(primitive()) {
    fill(a_, m * k, operands);
    fill(b_, k * n, operands);
  }
  void run() {
    matmul_.execute(stream_, {{DNNL_ARG_SRC, a_}, {DNNL_ARG_WEIGHTS, b_}, {DNNL_ARG_DST, c_}});
    stream_.wait();
  }

 private:
  static dnnl::memory::desc desc(i64 rows, i64 columns, Type type, bool transposed) {
    return {{rows, columns}, type, transposed ? dnnl::memory::format_tag::ba : dnnl::memory::format_tag::ab};
  }
  static void fill(dnnl::memory& memory, i64 count, Type type) {
    for (i64 i = 0; i < count; ++i) {
      const float value = static_cast<float>(i % 31) - 15.0f;
      if (type == Type::f32) {
        static_cast<float*>(memory.get_data_handle())[i] = value;
      } else {
        static_cast<Bf16*>(memory.get_data_handle())[i] = to_bf16(value);
      }
    }
  }
  dnnl::matmul::primitive_desc primitive() {
#if DNNL_VERSION_MAJOR >= 3
    return {engine_, a_.get_desc(), b_.get_desc(), c_.get_desc()};
#else
    return {{a_.get_desc(), b_.get_desc(), c_.get_desc()}, engine_};
#endif
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory a_, b_, c_;
  dnnl::matmul matmul_;
};

void dsa_score_vs_onednn_matmul(benchmark::State& state, Matmul::Type operands) {
  const i64 rows = state.range(0), keys = state.range(1), heads = 64, dim = 128;
  const auto backend = make_backend("cpu", bench::threads());
  const auto task = testing::primitive_case("score_prefill", {heads, rows, keys}).place(*backend);
  std::optional<Matmul> matmul;
  try {
    matmul.emplace(rows * heads, keys, dim, operands);
  } catch (const dnnl::error&) {
    return state.SkipWithError("oneDNN has no such matmul on this processor");
  }
  matmul->run();
  task->run(0);

  double ours = 0, theirs = 0;
  for (auto _ : state) {
    const double seconds = bench::seconds_of([&] { task->run(0); });
    theirs += bench::seconds_of([&] { matmul->run(); });
    ours += seconds;
    state.SetIterationTime(seconds);
  }
  const double flops = task->flops * static_cast<double>(state.iterations());
  state.counters["score_GFLOPS"] = flops / ours * 1e-9;
  state.counters["onednn_GFLOPS"] = flops / theirs * 1e-9;
  state.counters["x_onednn"] = theirs / ours;
}
void sizes(benchmark::internal::Benchmark* one) {
  one->Args({1, 8192})->Args({16, 8192})->Args({16, 32768})->UseManualTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(dsa_score_vs_onednn_matmul, f32, Matmul::Type::f32)->Apply(sizes);
BENCHMARK_CAPTURE(dsa_score_vs_onednn_matmul, bf16, Matmul::Type::bf16)->Apply(sizes);

}  // namespace
