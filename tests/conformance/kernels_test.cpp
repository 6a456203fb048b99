// The tables of kernels: every kernel is reached by a case and judged there, and forcing one means that one.

#include <doctest/doctest.h>

#include <set>

#include "core/agreement/compare_sides.hpp"
#include "core/indexer/forwarding_backend.hpp"
#include "core/selection/run_selection.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

std::string full_name(Primitive primitive, std::string_view kernel) {
  return std::string(primitive_name(primitive)) + "=" + std::string(kernel);
}

/// Notes every kernel that runs; ranks and gathers apart where that is asked for.
class Noted final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  bool apart = false;
  std::set<std::string> ran;

  std::string_view pool(const PoolTask& task) override { return note(Primitive::pool, inner_.pool(task)); }
  std::string_view rank(const RankTask& task) override { return note(Primitive::rank, inner_.rank(task)); }
  std::string_view gather(const GatherTask& task) override { return note(Primitive::gather, inner_.gather(task)); }
  std::string_view rank_gather(const RankGatherTask& task) override {
    return apart ? "" : note(Primitive::rank_gather, inner_.rank_gather(task));
  }
  std::string_view score(const ScoreTask& task) override { return note(Primitive::score, inner_.score(task)); }
  std::string_view select(const SelectTask& task) override { return note(Primitive::select, inner_.select(task)); }

 private:
  std::string_view note(Primitive primitive, std::string_view kernel) {
    if (!kernel.empty()) ran.insert(full_name(primitive, kernel));
    return kernel;
  }
};

/// Windows or pages, few rows or many, narrow elements or any: between them all kernels have their shapes.
CaseOptions draw_kernel_case(u64 seed) {
  Draw draw(seed * 2654435761u + 11);
  CaseOptions options;
  options.seed = seed;
  options.heads = draw.one_of<i64>({5, 8, 32, 64});
  options.dim = draw.one_of<i64>({32, 128, 128, 128});
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3, Dtype::e4m3});
  options.paged = draw.whole(0, 1) == 1;
  options.page_size = draw.one_of<i64>({16, 64});
  options.next_n = draw.whole(1, 4);
  options.rows = draw.one_of<i64>({1, 3, 40});
  options.contexts = {draw.one_of<i64>({300, 1500, 20000})};
  if (options.contexts.front() > 1500) options.rows = options.next_n = 1;
  return options;
}

IndexerSpec draw_spec(u64 seed, i64 heads) {
  Draw draw(seed + 77);
  const std::vector<std::string> names = indexer_names();
  IndexerSettings settings;
  settings.top_k = draw.one_of<i64>({8, 128, 2048});
  settings.active_heads = std::max<i64>(2, heads / 4);
  settings.block_size = 64;
  settings.blocks = 4;
  settings.candidates = 2 * settings.top_k;
  settings.samples = draw.one_of<i64>({24, 64, 256});
  IndexerSpec spec = make_indexer(names[seed % names.size()], settings);
  if (spec.heads && !spec.heads->linear) spec.heads->router = routers()[draw.whole(0, 7)].router;
  return spec;
}

}  // namespace

TEST_CASE("every kernel of every present backend is reached by a case, and chooses there what the oracle may") {
  const auto oracle = make_backend("oracle", 2);
  for (const BackendInfo& info : backends()) {
    if (info.why_absent(0)) continue;
    CAPTURE(std::string(info.name));
    const auto backend = make_backend(info.name, 2);
    std::set<std::string> left;
    for (const KernelInfo& kernel : info.kernels()) left.insert(full_name(kernel.primitive, kernel.name));
    CHECK(left.size() == info.kernels().size());
    for (u64 seed = 1; seed <= 400 && !left.empty(); ++seed) {
      const CaseOptions options = draw_kernel_case(seed);
      const Workload workload = draw_workload(options);
      const IndexerSpec spec = draw_spec(seed, options.heads);
      if (backend->why_not(spec, shape_of(workload))) continue;
      CAPTURE(options.describe());
      CAPTURE(spec.name);
      Noted noted(*backend);
      noted.apart = seed / indexer_names().size() % 3 == 0;
      const Placement placement(noted, workload);
      const Selection found = run_selection(noted, spec, placement.problem());
      bool is_new = false;
      for (const std::string& name : noted.ran) is_new |= left.erase(name) > 0;
      if (!is_new || info.name == "oracle") continue;
      Arbiter arbiter(*oracle, workload);
      Selection exact = run_selection(*oracle, spec, arbiter.problem());
      exact.exact = true;
      const Agreement agreement = compare_sides(arbiter, spec, found, exact);
      CHECK(agreement.missed() + agreement.violated() == 0);
    }
    std::string unreached;
    for (const std::string& name : left) unreached += " " + name;
    CAPTURE(unreached);
    CHECK(left.empty());
  }
}

TEST_CASE("a forced kernel is the only one that runs, and one that does not accept the task ends the run") {
  const Workload workload = draw_workload({});
  const IndexerSpec spec{.name = "test", .top_k = 8, .heads = {}, .blocks = {}, .rerank = {}};
  for (const BackendInfo& info : backends()) {
    if (info.why_absent(0)) continue;
    CAPTURE(std::string(info.name));
    const std::vector<i32> expected = choose(info.name, workload, spec).tokens;
    i64 ran = 0;
    for (const KernelInfo& kernel : info.kernels()) {
      if (kernel.primitive != Primitive::score) continue;
      const std::string name(kernel.name);
      CAPTURE(name);
      const auto backend = make_backend(info.name, 2, 0, {{Primitive::score, name}});
      Noted noted(*backend);
      try {
        const std::vector<i32> chosen = choose(noted, workload, spec).tokens;
        CHECK(chosen == expected);
        CHECK(noted.ran.count(full_name(Primitive::score, name)) == 1);
        ++ran;
      } catch (const Error& error) {
        CHECK(error.id() == "MP-E406");
        CHECK(noted.ran.empty());
      }
    }
    CHECK(ran >= 1);
    CHECK_THROWS_WITH_AS(make_backend(info.name, 2, 0, {{Primitive::score, "nothing"}}),
                         doctest::Contains("has no kernel of score called 'nothing'"), Error);
  }
}
