#include "backends/plugin/plugin.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "backends/plugin/given.hpp"
#include "core/base/error.hpp"
#include "core/experiment/rehearsal.hpp"
#include "tests/support/drawn_case.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// Which functions a table has.
struct Parts {
  bool score = false, select = false, score_select = false, route = false, index = false;
};

/// The cpu backend as libmisa_kernels.so exports it, with some of its functions: what comes out of them is what a
/// backend computes from what went in.
misa_kernel_table exported(const Parts& parts) {
  static const plugin::KernelLibrary library(MISA_KERNELS_LIBRARY, {});
  misa_kernel_table table = library.table(MISA_CPU, 0).value();
  if (!parts.score) table.score = nullptr;
  if (!parts.select) table.select = nullptr;
  if (!parts.score_select) table.score_select = nullptr;
  if (!parts.route) table.route = nullptr;
  if (!parts.index) table.plan = nullptr, table.run = nullptr, table.release = nullptr;
  return table;
}

const std::vector<Parts> kAllParts{
    {.score = true},        {.select = true}, {.score = true, .select = true},
    {.score_select = true}, {.route = true},  {.score = true, .select = true, .score_select = true, .route = true},
    {.index = true}};

std::string words_of(const Parts& parts) {
  std::string words;
  if (parts.score) words += " score";
  if (parts.select) words += " select";
  if (parts.score_select) words += " score_select";
  if (parts.route) words += " route";
  if (parts.index) words += " index";
  return words;
}

Selection select_on(Backend& backend, const Workload& workload, const IndexerSpec& spec) {
  const Placement placement(backend, workload);
  return run_selection(backend, spec, placement.problem());
}

std::string_view bits_of(const HostTensor& values) {
  return {reinterpret_cast<const char*>(values.storage.data()), static_cast<std::size_t>(values.bytes())};
}

/// What differs between a backend and itself behind a table; empty: nothing does. A run in one kernel shows tokens
/// only.
std::string difference(const Workload& workload, const IndexerSpec& spec, const Parts& parts, i64* runs = nullptr) {
  const auto cpu = make_backend("cpu", 1);
  const auto plugin = plugin::make_plugin(make_backend("cpu", 1), exported(parts), "here");
  const Selection right = select_on(*cpu, workload, spec), found = select_on(*plugin, workload, spec);
  if (runs != nullptr) *runs = *plugin->loaded_runs();
  for (const Choice choice : kChoices) {
    if (found[choice].empty() && (parts.index || parts.score_select) && choice != Choice::tokens) continue;
    const bool same = found[choice].shape == right[choice].shape && bits_of(found[choice]) == bits_of(right[choice]);
    if (!same) return std::string(choice_name(choice));
  }
  return {};
}

/// dsa of a small workload.
struct SmallRun {
  Workload workload = draw_workload({.seed = 5, .contexts = {90}});
  IndexerSettings settings;
  std::unique_ptr<Backend> cpu = make_backend("cpu", 1);

  IndexerSpec spec(const std::string& name = "dsa") {
    settings.top_k = 8;
    settings.candidates = 20;
    settings.block_size = 16;
    settings.blocks = 3;
    settings.active_heads = 4;
    return make_indexer(name, settings);
  }
};

}  // namespace

TEST_CASE("our backend behind a table of C functions gives the same bits as without, indexer by indexer") {
  for (const std::string& name : indexer_names()) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::e4m3}) {
      for (const bool paged : {false, true}) {
        for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
          const CaseOptions options{.seed = 3, .dtype = dtype, .contexts = {100, 37}, .paged = paged, .next_n = 2};
          IndexerSettings settings;
          settings.top_k = 12;
          settings.candidates = 30;
          settings.block_size = 16;
          settings.blocks = 3;
          settings.active_heads = 4;
          settings.block_window = window;
          const Workload workload = draw_workload(options);
          for (const Parts& parts : kAllParts) {
            INFO(name, " of ", options.describe(), ", ", block_window_name(window), " blocks, by", words_of(parts));
            i64 runs = 0;
            CHECK(difference(workload, make_indexer(name, settings), parts, &runs) == "");
            const bool routes = name == "misa" || name == "misa-dagger";  // others route none, or ask for slopes
            CHECK((runs > 0) == (!parts.route || parts.score || routes));
          }
        }
      }
    }
  }
}

TEST_CASE("our backend behind a table gives the same bits on every drawn case, whichever router it draws") {
  const char* const first_seed = std::getenv("MISA_RANDOM_SEED");
  const char* const cases = std::getenv("MISA_RANDOM_CASES");
  const u64 first = first_seed ? std::strtoull(first_seed, nullptr, 10) : 1;
  const u64 count = cases ? std::strtoull(cases, nullptr, 10) : 700;
  for (u64 seed = first; seed < first + count; ++seed) {
    const DrawnCase drawn = seed % 4 == 0 ? forced_case(seed) : drawn_case(seed);
    const Parts& parts = kAllParts[seed % kAllParts.size()];
    const Workload workload = draw_workload(drawn.workload);
    const std::string differs = difference(workload, make_indexer(drawn.indexer, drawn.settings), parts);
    if (differs.empty()) continue;
    FAIL_CHECK("the " << differs << " differ by" << words_of(parts) << ": " << drawn.describe()
                      << "\nMISA_RANDOM_SEED=" << seed << " MISA_RANDOM_CASES=1 runs it again");
    break;
  }
}

TEST_CASE("a table is shown no queries and keys of INT8 or MXFP4, and bounds are then the base's") {
  for (u64 seed = 1; seed <= 40; ++seed) {
    const DrawnCase drawn = narrow_case(seed);
    const Parts& parts = kAllParts[seed % kAllParts.size()];
    INFO(drawn.describe(), ", by", words_of(parts));
    const Workload workload = draw_workload(drawn.workload);
    i64 runs = 0;
    CHECK(difference(workload, make_indexer(drawn.indexer, drawn.settings), parts, &runs) == "");
    if (!parts.select) CHECK(runs == 0);
    misa_kernel_table table = exported(parts);
    table.arithmetic = "fp8-mma";
    const auto made = plugin::make_plugin(make_backend("cpu", 1), table, "here"), base = make_backend("cpu", 1);
    CHECK(arithmetic_name(made->arithmetic(shape_of(workload))) ==
          arithmetic_name(base->arithmetic(shape_of(workload))));
  }
}

TEST_CASE("a plug-in is asked for forced tokens where it says that it reads them, and else for those of hisa alone") {
  SmallRun small;
  static i64 asked, forced;
  for (const bool reads : {false, true}) {
    for (const std::string& name : indexer_names()) {
      for (const Parts& parts : kAllParts) {
        INFO(reads, " ", name, " ", words_of(parts));
        misa_kernel_table table = exported(parts);
        table.features = reads ? MISA_FORCES : 0;
        table.accepts = [](void*, int32_t step, const void* task) {
          if (step == MISA_INDEX) {
            const auto* plan = static_cast<const misa_index_plan*>(task);
            forced += plan->force_first + plan->force_last > 0 ? 1 : 0;
          } else if (step == MISA_SELECT || step == MISA_SCORE_SELECT) {
            const auto* select = static_cast<const misa_select_task*>(
                step == MISA_SELECT ? task : static_cast<const void* const*>(task)[1]);
            CHECK((select->force_ends == 0 || (select->force_first == 1 && select->force_last == 1)));
            forced += select->force_ends == 0 && select->force_first + select->force_last > 0 ? 1 : 0;
          }
          return static_cast<int32_t>(++asked > 0);
        };
        asked = forced = 0;
        small.settings.forced = {2, 3};
        const auto made = plugin::make_plugin(make_backend("cpu", 1), table, "here");
        const IndexerSpec spec = small.spec(name);
        const Selection found = select_on(*made, small.workload, spec),
                        right = select_on(*small.cpu, small.workload, spec);
        CHECK(bits_of(found[Choice::tokens]) == bits_of(right[Choice::tokens]));
        const bool selects = parts.select || parts.score_select || parts.index;
        CHECK((forced > 0) == (reads && selects));
      }
    }
  }
}

TEST_CASE("the arithmetic of scores is what the table states, unknown where it scores, or the base's") {
  SmallRun small;
  const auto arithmetic = [&](Parts parts, const char* stated) {
    misa_kernel_table table = exported(parts);
    table.arithmetic = stated;
    const auto made = plugin::make_plugin(make_backend("cpu", 1), table, "here");
    return arithmetic_name(made->arithmetic(shape_of(small.workload)));
  };
  for (const Parts scores : {Parts{.score = true}, Parts{.score_select = true}, Parts{.index = true}}) {
    CHECK(arithmetic(scores, nullptr) == "");
    CHECK(arithmetic(scores, "fp8-mma") == "fp8-mma");
  }
  CHECK(arithmetic({.select = true, .route = true}, nullptr) == "f32-dot");
}

TEST_CASE("whoever asks is told which function runs, and nothing once it has returned") {
  SmallRun small;
  misa_kernel_table table = exported({.score = true, .select = true});
  table.accepts = [](void*, int32_t, const void*) { return 1; };
  std::vector<std::string> told;
  const auto note = [&](std::string_view step) { told.emplace_back(step); };
  const auto made = plugin::make_plugin(make_backend("cpu", 1), table, "here", note);
  select_on(*made, small.workload, small.spec());
  const std::vector<std::string> one{"accepts", "", "score", "", "accepts", "", "select", ""};
  REQUIRE(told.size() >= one.size());
  CHECK(std::vector<std::string>(told.end() - static_cast<std::ptrdiff_t>(one.size()), told.end()) == one);
  CHECK(made->loaded_runs() == 2);
}

TEST_CASE("what a rehearsal goes through is counted and not run") {
  SmallRun small;
  static int calls = 0;
  calls = 0;
  misa_kernel_table table = exported({});
  table.error = nullptr;
  table.accepts = nullptr;
  table.score = [](void*, misa_score_task*, void*) { return ++calls, int32_t{MISA_FAILED}; };
  const auto made = plugin::make_plugin(make_backend("cpu", 1), table, "here");
  CHECK(has_loaded_work(*made, small.workload, small.spec(), true));
  CHECK(calls == 0);
  table.accepts = [](void*, int32_t, const void*) { return 0; };
  const auto idle = plugin::make_plugin(make_backend("cpu", 1), table, "here");
  CHECK_FALSE(has_loaded_work(*idle, small.workload, small.spec(), true));
  CHECK_FALSE(has_loaded_work(*small.cpu, small.workload, small.spec(), true));
  CHECK_THROWS_WITH_AS(select_on(*made, small.workload, small.spec()),
                       doctest::Contains("score returned 3 (MISA_FAILED)"), Error);
}

TEST_CASE("a selection in any order is asked for where nothing is scored after it, and nowhere else") {
  SmallRun small;
  static std::vector<i64> asked;
  misa_kernel_table table = exported({.select = true});
  table.flags = MISA_ANY_ORDER;
  table.accepts = [](void*, int32_t, const void* task) {
    asked.push_back(static_cast<const misa_select_task*>(task)->k);
    return 0;
  };
  const auto made = plugin::make_plugin(make_backend("cpu", 1), table, "here");
  for (const std::string& name : indexer_names()) {
    CAPTURE(name);
    asked.clear();
    select_on(*made, small.workload, small.spec(name));
    CHECK_FALSE(asked.empty());
    CHECK(std::count(asked.begin(), asked.end(), 8) == static_cast<i64>(asked.size()));
  }
}

TEST_CASE("a table is read as far as its size goes, and what is behind is null") {
  const misa_kernel_table whole = exported({.score = true, .select = true, .route = true, .index = true});
  misa_kernel_table table = whole;
  table.size = offsetof(misa_kernel_table, select);
  const misa_kernel_table known = plugin::checked_table(table, MISA_CPU, "here");
  CHECK((known.score == table.score));
  CHECK((known.select == nullptr && known.plan == nullptr && known.error == nullptr));
  table.size = sizeof table + 64;  // a later version
  CHECK((plugin::checked_table(table, MISA_CPU, "here").run == table.run));
  const auto refused = [&](const char* words, auto change) {
    misa_kernel_table wrong = whole;
    change(wrong);
    CHECK_THROWS_WITH_AS(plugin::checked_table(wrong, MISA_CPU, "here"), doctest::Contains(words), Error);
  };
  refused("56", [](auto& wrong) { wrong.size = 55; });
  refused("of version 2", [](auto& wrong) { wrong.version = 2; });
  refused("device type 2", [](auto& wrong) { wrong.device_type = MISA_CUDA; });
  refused("has no name", [](auto& wrong) { wrong.name = nullptr; });
  refused("the name ''", [](auto& wrong) { wrong.name = ""; });
  refused("the name 'a/b'", [](auto& wrong) { wrong.name = "a/b"; });
  refused("flags", [](auto& wrong) { wrong.flags = 2; });
  refused("arithmetic 'exact'", [](auto& wrong) { wrong.arithmetic = "exact"; });
  refused("some of plan, run and release", [](auto& wrong) { wrong.release = nullptr; });
  refused("no function that does a step", [](auto& wrong) { wrong.size = offsetof(misa_kernel_table, accepts); });
}

TEST_CASE("kernels that were handed to the program are found by their name, and only for devices that they name") {
  static misa_kernel_table table;
  SmallRun small;
  table = exported({.score = true});
  give_kernels("handed", [](int32_t version, int32_t device_type, int32_t) -> const misa_kernel_table* {
    return version == MISA_KERNEL_VERSION && device_type == MISA_CPU ? &table : nullptr;
  });
  const auto made = make_backend("plugin:handed", 1);
  CHECK(made->name() == "plugin:" + std::string(table.name));
  REQUIRE(made->base() != nullptr);
  CHECK(made->base()->name() == "cpu");
  CHECK(select_on(*made, small.workload, small.spec())[Choice::tokens].size() > 0);
  give_kernels("nothing", [](int32_t, int32_t, int32_t) -> const misa_kernel_table* { return nullptr; });
  CHECK_THROWS_WITH_AS(make_backend("plugin:nothing", 1), doctest::Contains("no kernels of version 1"), Error);
  CHECK_THROWS_WITH_AS(make_backend("plugin:/no/such/file.so", 1), doctest::Contains("cannot be loaded"), Error);
  CHECK_THROWS_WITH_AS(make_backend("plugin:", 1), doctest::Contains("names no file"), Error);
}
