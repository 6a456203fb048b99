#include "backends/cpu/cpu.hpp"

#include <cstring>

#include "backends/cpu/gemm.hpp"
#include "backends/cpu/loops.hpp"
#include "backends/cpu/tasks.hpp"
#include "backends/cpu/tile.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/routing.hpp"
#include "core/indexer/wall_clock.hpp"

namespace misa {
namespace {

class Cpu final : public Backend {
 public:
  Cpu(int threads, ForcedKernels forced) : threads_(threads), choice_{std::move(forced)} {}

  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    const std::string unit(cpu::bf16_unit());
    return "OpenMP, " + cpu::gemm_description() + (unit.empty() ? "" : ", bf16 in " + unit) + ", " +
           cpu::loops().level + " loops";
  }
  Dtype logits_dtype() const override { return Dtype::f32; }
  /// FP8 and INT8 have no number that is subnormal in bf16; MXFP4 of a small scale has. The bounds of bf16-dot hold for
  /// f32 products too.
  std::optional<Arithmetic> arithmetic(const Shape& shape) const override {
    const bool subnormal = shape.dtype == Dtype::bf16 || shape.dtype == Dtype::e2m1;
    return find_arithmetic(subnormal && !cpu::bf16_unit().empty() ? "bf16-dot" : "f32-dot");
  }

  Dtype product_dtype(std::string_view kernel, Dtype /*elements*/) const override {
    return kernel.ends_with("-bf16") ? Dtype::bf16 : Dtype::f32;
  }
  std::optional<std::string> why_not(const IndexerSpec& /*spec*/, const Shape& shape) const override {
    if (shape.heads > cpu::kMaxTileRows) {
      return std::to_string(shape.heads) + " heads, and a tile holds " + std::to_string(cpu::kMaxTileRows);
    }
    if (shape.head_dim > cpu::kMaxDepth) {
      return "head_dim " + std::to_string(shape.head_dim) + ", and a tile holds " + std::to_string(cpu::kMaxDepth);
    }
    return std::nullopt;
  }

  std::byte* allocate(i64 bytes) override { return host_allocator().allocate(bytes); }
  void release(std::byte* data, i64 bytes) noexcept override { host_allocator().release(data, bytes); }
  void upload(std::byte* to, const std::byte* from, i64 bytes) override { std::memcpy(to, from, bytes); }
  void download(std::byte* to, const std::byte* from, i64 bytes) override { std::memcpy(to, from, bytes); }

  std::string_view pool(const PoolTask& task) override {
    return run_kernel(cpu::pool_kernels(), choice_, task, threads_);
  }
  std::string_view rank(const RankTask& task) override {
    const std::string_view kernel = run_kernel(cpu::rank_kernels(), choice_, task, threads_);
    if (!choice_.rehearsing) share_heads(task);
    return kernel;
  }
  std::string_view gather(const GatherTask& task) override {
    return run_kernel(cpu::gather_kernels(), choice_, task, threads_);
  }
  std::string_view score(const ScoreTask& task) override {
    return run_kernel(cpu::score_kernels(), choice_, task, threads_);
  }
  std::string_view select(const SelectTask& task) override {
    return run_kernel(cpu::select_kernels(), choice_, task, threads_);
  }

  bool rehearse(bool on) override {
    choice_.rehearsing = on;
    return !choice_.forced.empty();
  }
  i64 scratch_bytes(const ScratchShape& shape) const override {
    // A thread has a tile, or the columns of a row that passed (4 bytes each) and their scores in a list that grows.
    const i64 each = cpu::Tile<float>::kBytes + 16 * shape.columns + sampled_row_bytes(shape.heads, shape.samples);
    return threads_ * each + 24 * shape.ranges;
  }

  std::unique_ptr<Clock> clock() override { return std::make_unique<WallClock>(); }
  i64 roofs_bytes() const override { return cpu::kRoofBytes + threads_ * cpu::Tile<float>::kBytes; }
  std::optional<Roofs> roofs() override {
    if (!roofs_) roofs_ = cpu::measure_roofs(threads_);
    return roofs_;
  }

 private:
  int threads_;
  KernelChoice choice_;
  std::optional<Roofs> roofs_;
};

}  // namespace

std::vector<KernelInfo> cpu_kernels() {
  return list_kernels(cpu::pool_kernels(), cpu::rank_kernels(), cpu::gather_kernels(), cpu::score_kernels(),
                      cpu::select_kernels());
}

std::unique_ptr<Backend> make_cpu(int threads, ForcedKernels forced) {
  return std::make_unique<Cpu>(threads, std::move(forced));
}

}  // namespace misa
