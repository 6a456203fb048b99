#include "core/indexer/effective.hpp"

#include <doctest/doctest.h>

#include "backends/backends.hpp"
#include "core/indexer/plan.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/synthetic.hpp"

namespace misa {
namespace {

Workload small(Phase phase) {
  SyntheticRequest request;
  request.preset = "natural";
  request.heads = 6;
  request.head_dim = 32;
  request.contexts = {90, 41};
  request.rows = 5;
  request.seed = 7;
  request.phase = phase;
  if (phase == Phase::decode) request.page_size = 16;
  return generate(request);
}

std::vector<i32> ids(const View<const i32, 2>& view) {
  return view.empty() ? std::vector<i32>{} : std::vector<i32>(view.data, view.data + view.shape[0] * view.shape[1]);
}

}  // namespace

TEST_CASE("numbers that there is no room for are cut to the room, and others are left alone") {
  const auto oracle = make_backend("oracle", 1);
  const Workload workload = small(Phase::prefill);
  const Placement placement(*oracle, workload);
  const i64 window = placement.problem().shape.max_window;
  REQUIRE(window == 90);
  IndexerSettings settings{.top_k = 1000,
                           .active_heads = 1000,
                           .block_size = 1000,
                           .candidates = 5000,
                           .blocks = 99,
                           .samples = 777,
                           .router = {}};
  for (const IndexerInfo& info : indexers()) {
    CAPTURE(info.name);
    const IndexerSpec used = effective(make_indexer(info.name, settings), placement.problem());
    CHECK(used.top_k == window);
    if (used.heads) {
      CHECK(used.heads->active == 6);
      CHECK_FALSE(used.heads->linear);
      CHECK((info.linear ? used.heads->samples : used.heads->block_size) == window);
    }
    if (used.blocks) CHECK(used.blocks->block_size == window);
    if (used.blocks) CHECK(used.blocks->blocks == 1);
    if (used.rerank) CHECK(used.rerank->candidates == window);
  }
  settings = {
      .top_k = 8, .active_heads = 3, .block_size = 8, .candidates = 30, .blocks = 4, .samples = 9, .router = {}};
  for (const IndexerInfo& info : indexers()) {
    CAPTURE(info.name);
    const IndexerSpec told = make_indexer(info.name, settings), used = effective(told, placement.problem());
    CHECK(used.top_k == 8);
    CHECK((!used.heads || (used.heads->active == 3 && used.heads->linear == info.linear)));
    CHECK((!used.heads || info.linear || used.heads->block_size == 8));
    CHECK((!info.linear || used.heads->samples == 9));
    CHECK((!used.blocks || (used.blocks->block_size == 8 && used.blocks->blocks == 4)));
    CHECK((!used.rerank || used.rerank->candidates == 30));
  }
  settings.block_size = 16;
  settings.blocks = 7;
  CHECK(effective(make_indexer("hisa", settings), placement.problem()).blocks->blocks == 6);  // 90 / 16, rounded up
}

TEST_CASE("an upstream block is cut at what is divided together, which may be more than a row sees") {
  const auto oracle = make_backend("oracle", 1);
  const Workload workload = small(Phase::prefill);
  const Placement placement(*oracle, workload);
  const IndexerSettings settings{.block_size = 1000, .router = {}, .block_window = BlockWindow::upstream};
  for (const char* name : {"misa", "hisa"}) {
    const IndexerSpec used = effective(make_indexer(name, settings), placement.problem());
    CHECK((used.heads ? used.heads->block_size : used.blocks->block_size) == placement.problem().shape.keys);
  }
  CHECK(placement.problem().shape.keys > placement.problem().shape.max_window);
}

TEST_CASE("an indexer selects what it selects with the numbers that are used, and the plan names those") {
  const auto oracle = make_backend("oracle", 1);
  for (const Phase phase : {Phase::prefill, Phase::decode}) {
    const Workload workload = small(phase);
    const Placement placement(*oracle, workload);
    for (const IndexerInfo& info : indexers()) {
      for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
        CAPTURE(info.name);
        CAPTURE(block_window_name(window));
        const IndexerSettings settings{.top_k = 12,
                                       .active_heads = 4,
                                       .block_size = 1'000'000'000,
                                       .candidates = 2'000'000'000,
                                       .blocks = 2'000'000'000,
                                       .samples = 1'000'000'000,
                                       .router = {},
                                       .block_window = window};
        const IndexerSpec told = make_indexer(info.name, settings);
        Plan large(*oracle, told, placement.problem()),
            cut(*oracle, effective(told, placement.problem()), placement.problem());
        large.run(nullptr);
        cut.run(nullptr);
        CHECK(ids(large.tokens()) == ids(cut.tokens()));
        CHECK(ids(large.heads()) == ids(cut.heads()));
        CHECK(large.workspace_bytes() == cut.workspace_bytes());
        const IndexerSpec& used = large.spec();
        CHECK((!used.blocks || used.blocks->blocks * used.blocks->block_size <= 2 * placement.problem().shape.keys));
        CHECK((!used.rerank || used.rerank->candidates == placement.problem().shape.max_window));
      }
    }
  }
}

}  // namespace misa
