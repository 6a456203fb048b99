// Forced tokens: what is selected whatever it scores, by identities with selections that force none.

#include <doctest/doctest.h>

#include "core/base/error.hpp"
#include "core/workload/subset.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/drawn_case.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

const std::vector<std::string> kForcedOn{"cpu", "oracle"};

CaseOptions case_of(u64 seed, bool paged) {
  Draw draw(seed * 7919 + 3);
  CaseOptions options;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 4, 16});
  options.dim = 32;
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::zeros, Numbers::nan, Numbers::few_keys});
  options.rows = draw.whole(1, 6);
  options.contexts = {draw.whole(1, 300), draw.whole(1, 60)};
  options.paged = paged;
  options.next_n = paged ? 3 : 1;
  return options;
}

IndexerSettings forced_settings() {
  IndexerSettings settings;
  settings.top_k = 17;
  settings.active_heads = 3;
  settings.candidates = 40;
  settings.blocks = 5;
  settings.block_size = 16;
  settings.samples = 20;
  return settings;
}

Selection select_on(const std::string& backend_name, const Workload& workload, const IndexerSpec& spec) {
  const auto backend = make_backend(backend_name, 2);
  const Placement placement(*backend, workload);
  return run_selection(*backend, spec, placement.problem());
}

std::vector<i32> tokens_of(const Selection& selection, i64 m) {
  const auto row = without_pads(row_of<i32>(selection[Choice::tokens], m));
  return {row.begin(), row.end()};
}

i64 visible(const Workload& workload, i64 m) {
  const std::size_t row = static_cast<std::size_t>(m);
  return workload.ke[row] - workload.ks[row];
}

/// What must be in a selection of k.
std::vector<i32> forced_tokens(i64 count, i64 k, Forced forced) {
  std::vector<i32> tokens;
  for (i64 t = 0; t < std::min({forced.first, k, count}); ++t) tokens.push_back(static_cast<i32>(t));
  const i64 left = k - std::ssize(tokens);
  for (i64 t = std::max(std::ssize(tokens), count - std::min(forced.last, left)); t < count; ++t) {
    tokens.push_back(static_cast<i32>(t));
  }
  return tokens;
}

}  // namespace

TEST_CASE("what is forced of k columns is the first ones, then the last ones, in as many places as there are") {
  CHECK(Forced{2, 3}.within(9) == Forced{2, 3});
  CHECK(Forced{2, 3}.within(4) == Forced{2, 2});
  CHECK(Forced{2, 3}.within(2) == Forced{2, 0});
  CHECK(Forced{2, 3}.within(1) == Forced{1, 0});
  CHECK_FALSE(Forced{}.any());
}

TEST_CASE("every selection and every candidate list holds the forced tokens, whatever they score") {
  for (u64 seed = 1; seed <= 120; ++seed) {
    const DrawnCase drawn = forced_case(seed);
    const IndexerSpec spec = make_indexer(drawn.indexer, drawn.settings);
    const Workload workload = draw_workload(drawn.workload);
    for (const std::string& backend : kForcedOn) {
      INFO(backend, " ", drawn.describe());
      const Selection found = select_on(backend, workload, spec);
      for (const Choice choice : {Choice::candidates, Choice::tokens}) {
        if (found[choice].empty()) continue;
        for (i64 m = 0; m < workload.rows(); ++m) {
          const auto chosen = without_pads(row_of<i32>(found[choice], m));
          const i64 k = choice == Choice::tokens ? spec.top_k : spec.rerank->candidates;
          for (const i32 token : forced_tokens(visible(workload, m), k, spec.forced_tokens())) {
            CHECK(std::binary_search(chosen.begin(), chosen.end(), token));
          }
        }
      }
    }
  }
}

TEST_CASE("a selection that forces everything it keeps is the first tokens, or the last ones") {
  for (u64 seed = 1; seed <= 20; ++seed) {
    const CaseOptions options = case_of(seed, seed % 2 == 0);
    const Workload workload = draw_workload(options);
    for (const std::string& backend : kForcedOn) {
      for (const Forced forced : {Forced{1000, 0}, Forced{1000, 1000}, Forced{0, 1000}, Forced{10, 1000}}) {
        INFO(backend, " ", options.describe(), " ", forced.first, " ", forced.last);
        IndexerSettings settings = forced_settings();
        settings.forced = forced;
        const Selection found = select_on(backend, workload, make_indexer("dsa", settings));
        for (i64 m = 0; m < workload.rows(); ++m) {
          const i64 count = visible(workload, m), k = std::min<i64>(settings.top_k, count);
          std::vector<i32> wanted;
          for (i64 t = 0; t < k; ++t) {
            const bool first = t < std::min(forced.first, k);
            wanted.push_back(static_cast<i32>(first ? t : count - k + t));
          }
          CHECK(tokens_of(found, m) == wanted);
        }
      }
    }
  }
}

TEST_CASE("what is left of a selection without its forced tokens is the selection of the middle") {
  for (u64 seed = 1; seed <= 40; ++seed) {
    const CaseOptions options = case_of(seed, false);
    const Workload workload = draw_workload(options);
    Draw draw(seed);
    IndexerSettings settings = forced_settings();
    settings.forced = {draw.whole(0, 8), draw.whole(0, 8)};
    const i64 first = settings.forced.first, last = settings.forced.last;
    IndexerSettings middle = forced_settings();
    middle.top_k = settings.top_k - first - last;
    Workload within = copy_of(workload);
    for (std::size_t m = 0; m < within.ks.size(); ++m) {
      if (within.ke[m] - within.ks[m] <= settings.top_k) continue;
      within.ks[m] += static_cast<i32>(first);
      within.ke[m] -= static_cast<i32>(last);
    }
    for (const std::string& backend : kForcedOn) {
      INFO(backend, " ", options.describe(), " ", first, " ", last);
      const Selection found = select_on(backend, workload, make_indexer("dsa", settings));
      const Selection free = select_on(backend, within, make_indexer("dsa", middle));
      for (i64 m = 0; m < workload.rows(); ++m) {
        const i64 count = visible(workload, m);
        if (count <= settings.top_k) continue;
        std::vector<i32> wanted = forced_tokens(count, settings.top_k, settings.forced);
        for (const i32 token : tokens_of(free, m)) wanted.push_back(token + static_cast<i32>(first));
        std::sort(wanted.begin(), wanted.end());
        CHECK(tokens_of(found, m) == wanted);
      }
    }
  }
}

TEST_CASE("hisa keeps the blocks of forced tokens, so that none of them is lost, and refuses too few blocks") {
  IndexerSettings settings = forced_settings();
  const auto blocks_of = [&](Forced forced, BlockWindow window) {
    settings.forced = forced;
    settings.block_window = window;
    settings.blocks = 100;
    settings.top_k = 1000;
    return make_indexer("hisa", settings).forced_blocks();
  };
  for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
    const i64 more = window == BlockWindow::upstream ? 1 : 0;  // blocks begin before the row does
    CHECK(blocks_of({}, window) == Forced{1, 1});
    CHECK(blocks_of({1, 1}, window) == Forced{1, 1});
    CHECK(blocks_of({16, 2}, window) == Forced{1 + more, 2});
    CHECK(blocks_of({17, 17}, window) == Forced{2, 2});
    CHECK(blocks_of({18, 18}, window) == Forced{2 + more, 3});
  }
  settings.forced = {17, 17};
  settings.blocks = 4;
  CHECK_NOTHROW(make_indexer("hisa", settings));
  settings.blocks = 3;
  for (const std::string& name : indexer_names()) {
    std::string id;
    try {
      make_indexer(name, settings);
    } catch (const Error& error) {
      id = error.id();
    }
    CHECK(id == (name == "hisa" ? "MP-E545" : ""));
  }
  settings.forced = {-1, 0};
  CHECK_THROWS_AS(make_indexer("dsa", settings), Error);
}
