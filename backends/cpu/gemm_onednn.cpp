#include <omp.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "backends/cpu/gemm.hpp"
#include "core/base/steady_seconds.hpp"

namespace misa::cpu {
namespace {

/// Keeps oneDNN, which would open a team of its own in a region of one thread, on the calling thread.
class OneThread {
 public:
  OneThread() : threads_(omp_get_max_threads()) {
    if (threads_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (threads_ != 1) omp_set_num_threads(threads_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

const dnnl::engine& engine() {
  static const dnnl::engine one(dnnl::engine::kind::cpu, 0);
  return one;
}

/// The matmul primitive of bf16 tiles of one size. Each thread has its own, for the scratch memory.
class Matmul {
 public:
  Matmul(i64 rows, i64 columns, i64 depth) : stream_(engine()) {
    using Desc = dnnl::memory::desc;
    const Desc a({rows, depth}, dnnl::memory::data_type::bf16, dnnl::memory::dims{depth, 1});
    const Desc b({depth, columns}, dnnl::memory::data_type::bf16, dnnl::memory::dims{1, depth});
    const Desc c({rows, columns}, dnnl::memory::data_type::f32, dnnl::memory::dims{kTileColumns, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc primitive(engine(), a, b, c, attributes);
#else
    const dnnl::matmul::primitive_desc primitive({a, b, c}, attributes, engine());
#endif
    implementation = primitive.impl_info_str();
    matmul_ = dnnl::matmul(primitive);
    a_ = dnnl::memory(a, engine(), nullptr);
    b_ = dnnl::memory(b, engine(), nullptr);
    c_ = dnnl::memory(c, engine(), nullptr);
    arguments_ = {{DNNL_ARG_SRC, a_},
                  {DNNL_ARG_WEIGHTS, b_},
                  {DNNL_ARG_DST, c_},
                  {DNNL_ARG_SCRATCHPAD, dnnl::memory(primitive.scratchpad_desc(), engine())}};
  }

  void run(const Bf16* a, const Bf16* b, float* c) {
    a_.set_data_handle(const_cast<Bf16*>(a));
    b_.set_data_handle(const_cast<Bf16*>(b));
    c_.set_data_handle(c);
    matmul_.execute(stream_, arguments_);
  }

  std::string implementation;

 private:
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  dnnl::memory a_, b_, c_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

}  // namespace

// dnnl_sgemm is the same call in oneDNN v2 and v3, and in f32 as fast as the matmul primitive (docs/decisions/).
void gemm_tile(i64 rows, i64 columns, i64 depth, const float* a, const float* b, float* c) {
  const OneThread alone;
  const dnnl_status_t status =
      dnnl_sgemm('N', 'T', rows, columns, depth, 1.0f, a, depth, b, depth, 0.0f, c, kTileColumns);
  // Only malformed sizes fail, and ours are constants. A wrong product must not go unseen.
  if (status != dnnl_success) std::terminate();
}

void gemm_tile(i64 rows, i64 columns, i64 depth, const Bf16* a, const Bf16* b, float* c) {
  static thread_local std::map<std::array<i64, 3>, Matmul> of_size;
  const OneThread alone;
  of_size.try_emplace({rows, columns, depth}, rows, columns, depth).first->second.run(a, b, c);
}

namespace {

/// The least seconds that products of one tile of this kind took, of a millisecond's worth.
template <class Operand>
double seconds_of_tile() {
  constexpr i64 kDepth = 128;
  const std::vector<Operand> a(kMaxTileRows * kDepth, from_float<Operand>(1)), b(kTileColumns * kDepth, a[0]);
  std::vector<float> c(kMaxTileRows * kTileColumns);
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 8; ++i) {
    const double start = steady_seconds();
    gemm_tile(kMaxTileRows, kTileColumns, kDepth, a.data(), b.data(), c.data());
    least = std::min(least, steady_seconds() - start);
  }
  return least;
}

std::string_view find_bf16_unit() {
  std::string implementation;
  try {
    const OneThread alone;
    implementation = Matmul(kMaxTileRows, kTileColumns, 128).implementation;
  } catch (const dnnl::error&) {
    return {};  // no kernel at all
  }
  const auto has = [&](const char* part) { return implementation.find(part) != std::string::npos; };
  // "brg:avx512_core_amx_bf16", in oneDNN 3 "brg_matmul:avx10_1_512_amx"; "brg:avx512_core_bf16".
  if (has("amx")) return "AMX";
  // VDPBF16PS multiplies twice as many numbers, but on Sapphire Rapids it takes 1.8 times as long as f32 for a tile.
  if (!has("avx512_core_bf16") && !has("avx512_core_fp16") && !has("avx10")) return {};
  return seconds_of_tile<Bf16>() < 0.8 * seconds_of_tile<float>() ? "AVX512-BF16" : "";
}

}  // namespace

std::string_view bf16_unit() {
  static const std::string_view unit = find_bf16_unit();
  return unit;
}

std::string gemm_description() {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

}  // namespace misa::cpu
