#include "core/experiment/compare.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "backends/backends.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/indexer/dry_backend.hpp"
#include "core/selection/golden.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/synthetic.hpp"
#include "tests/support/temporary.hpp"

using namespace misa;

namespace {

constexpr i64 kTopK = 48;

Workload small_workload() {
  SyntheticRequest request;
  request.preset = "natural";
  request.heads = 16;
  request.head_dim = 64;
  request.format = ValueFormat::e4m3;
  request.contexts = {700};
  request.rows = 4;
  request.seed = 1;
  return generate(request);
}

/// dsa and misa on the cpu, against the formulas.
struct Small {
  Small() {
    settings.top_k = kTopK;
    settings.active_heads = 4;
    for (const char* indexer : {"dsa", "misa"}) request.specs.push_back(make_indexer(indexer, settings));
    request.settings = settings;
    request.reproduce = [](const IndexerSpec& spec) { return "compare --indexer " + spec.name; };
  }

  /// The bytes that a refusal names, where so many are too few.
  i64 needed() const {
    CompareRequest poor = request;
    poor.memory.host = 1;
    try {
      compare(poor);
    } catch (const Error& error) {
      CHECK(error.id() == "MP-E502");
      const std::string what = error.what();
      return std::stoll(what.substr(what.find("needs ") + 6));
    }
    FAIL("a byte sufficed");
    return 0;
  }

  std::unique_ptr<Backend> exact = make_backend("oracle", 1), backend = make_backend("cpu", 1);
  Workload workload = small_workload();
  IndexerSettings settings;
  CompareRequest request{
      .exact = *exact, .backend = *backend, .workload = workload, .specs = {}, .settings = {}, .threads = 1};
};

std::string id_of(const CompareRequest& request) {
  try {
    compare(request);
  } catch (const Error& error) {
    return error.id();
  }
  return "none";
}

}  // namespace

TEST_CASE("a comparison of the cpu with the formulas agrees, without a process") {
  Small small;
  small.request.origin = {
      .tool_version = "1.2.3", .command_line = {"compare"}, .seed = 1, .warnings = {{"MP-W999", ""}}};
  const AgreementReport report = compare(small.request);
  CHECK(report.tool_version == "1.2.3");
  CHECK(report.command_line == std::vector<std::string>{"compare"});
  CHECK(report.workload.seed == "1");
  CHECK(report.workload.rows == small.workload.rows());
  CHECK(report.side.name == "cpu");
  CHECK(report.against.name == "oracle");
  CHECK(report.environment.backends.size() == 2);
  CHECK(report.warnings.size() == 1);
  CHECK_FALSE(report.interrupted);
  REQUIRE(report.cases.size() == 2);
  for (const AgreementCase& one : report.cases) {
    CAPTURE(one.indexer);
    CHECK(one.verdict == Conclusion::passed);
    CHECK(one.explanation == "");
    CHECK(one.reproduce == "");
    REQUIRE(one.checks.size() == 1);
    CHECK(one.checks.front().name == "canaries");
    CHECK(one.checks.front().passed);
    for (const ChoiceAgreement& choice : one.choices) CHECK(choice.rows == small.workload.rows());
  }
  CHECK(report.cases[0].choices.size() == 2);  // tokens and scores
  CHECK(report.cases[1].choices.size() == 3);  // heads too
  CHECK(report.cases[1].router == "pooled");
}

TEST_CASE("a mistake of the tested side fails, and both sides are handed out") {
  Small small;
  small.request.mistake = find_mistake("swapped-token");
  std::vector<std::string> failed;
  small.request.sinks.failed = [&](const IndexerSpec& spec, const Selection& side, const Selection& against) {
    failed.push_back(spec.name);
    CHECK(side.name == "cpu");
    CHECK(against.name == "oracle");
    CHECK(first_difference(side, against).has_value());
  };
  const AgreementReport report = compare(small.request);
  REQUIRE(report.cases.size() == 2);
  for (const AgreementCase& one : report.cases) {
    CHECK(one.verdict == Conclusion::failed);
    CHECK(one.explanation == "1 miss, first in the tokens");
    CHECK(one.reproduce == "compare --indexer " + one.indexer);
  }
  CHECK(failed == std::vector<std::string>{"dsa", "misa"});
  small.request.max_miss = 1;
  for (const AgreementCase& one : compare(small.request).cases) CHECK(one.verdict == Conclusion::passed);
  small.request.mistake = find_mistake("dropped-block");
  CHECK(id_of(small.request) == "MP-E038");
}

TEST_CASE("a comparison that compares nothing says what would give an answer") {
  Small small;
  small.request.choices = {Choice::heads};
  AgreementReport report = compare(small.request);
  CHECK(report.cases[0].verdict == Conclusion::nothing);
  CHECK(report.cases[0].explanation == "nothing was compared: dsa makes none of the choices asked for");
  CHECK(report.cases[0].how == "--stages that both sides have");
  CHECK(report.cases[1].verdict == Conclusion::passed);

  small.request.choices = {kChoices.begin(), kChoices.end()};
  std::copy(small.workload.ks.begin(), small.workload.ks.end(), small.workload.ke.begin());
  report = compare(small.request);
  for (const AgreementCase& one : report.cases) {
    CHECK(one.verdict == Conclusion::nothing);
    CHECK(one.explanation == "no row sees a token");
    CHECK(one.how == "rows that see tokens");
  }
}

TEST_CASE("runs that must give the same bits are told from those of other bits") {
  Small small;
  small.request.repeats = 2;
  small.request.sweep = small.request.poison = true;
  small.request.threads = 2;
  i64 made = 0;
  small.request.with_threads = [&](i64 threads) {
    ++made;
    return make_backend(threads == 1 ? "cpu" : "oracle", 1);
  };
  const AgreementReport report = compare(small.request);
  CHECK(made == 4);
  for (const AgreementCase& one : report.cases) {
    std::map<std::string, bool> passed;
    for (const ReportCheck& check : one.checks) passed[check.name] = check.passed;
    CHECK(passed ==
          std::map<std::string, bool>{
              {"repeat-bitwise", true}, {"thread-sweep", false}, {"poison-unseen", true}, {"canaries", true}});
    CHECK(one.verdict == Conclusion::failed);
    CHECK(one.explanation.find("thread-sweep: the ") == 0);
    CHECK(one.explanation.find(" differ with 2 threads") != std::string::npos);
  }
}

TEST_CASE("what is rated against an indexer may keep too little of its selection") {
  Small small;
  small.request.specs = {make_indexer("misa", small.settings)};
  small.request.against_indexer = "dsa";
  small.request.min_recall = 1;
  AgreementReport report = compare(small.request);
  REQUIRE(report.cases.size() == 1);
  CHECK(report.against.name == "cpu");
  CHECK(report.cases[0].quality.value().reference == "dsa");
  CHECK(report.cases[0].choices.empty());
  CHECK(report.cases[0].verdict == Conclusion::failed);
  small.request.min_recall = 0;
  CHECK(compare(small.request).cases[0].verdict == Conclusion::passed);
}

TEST_CASE("a selection that the workload recorded is one more case unless nobody asks for it") {
  Small small;
  small.request.specs.pop_back();
  small.workload.topk = HostTensor(Dtype::int32, {1, 3});
  std::copy_n(std::vector<i32>{0, 1, 2}.begin(), 3, small.workload.topk.span<i32>().begin());
  small.workload.topk_row = {2};
  AgreementReport report = compare(small.request);
  REQUIRE(report.cases.size() == 2);
  CHECK(report.cases[1].indexer == "recorded topk");
  CHECK(report.cases[1].parameters.top_k == 3);
  CHECK(report.cases[1].verdict == Conclusion::inconclusive);
  CHECK(report.cases[1].choices[0].count(Verdict::unknown) == 1);
  CHECK(report.cases[1].how == "--arithmetic NAME, one of misa-prof list --arithmetic");
  small.workload.metadata["topk_arithmetic"] = "f32";
  report = compare(small.request);
  CHECK(report.cases[1].verdict == Conclusion::failed);
  CHECK(report.cases[1].how == "docs/traces.md, What goes wrong when recording");
  small.request.recorded = false;
  CHECK(compare(small.request).cases.size() == 1);
}

TEST_CASE("a golden is the other side of the indexer that it was made by") {
  Small small;
  const misa::testing::TemporaryPath file;
  small.request.sinks.selected = [&](const IndexerSpec& spec, const Selection& side) {
    if (spec.name == "misa") write_golden(file.path, small.workload, spec, side, {{"backend", "elsewhere"}});
  };
  compare(small.request);
  small.request.sinks = {};
  small.request.golden = file.path;
  const AgreementReport report = compare(small.request);
  CHECK(report.against.name == file.path);
  CHECK(report.against.description.find("elsewhere") == 0);
  CHECK(report.cases[0].verdict == Conclusion::nothing);
  CHECK(report.cases[0].explanation == file.path + " holds no golden of dsa");
  CHECK(report.cases[1].verdict == Conclusion::passed);
}

TEST_CASE("an interrupted comparison keeps its cases without a verdict") {
  Small small;
  small.request.sinks.progress = [](const CompareProgress& begins) { interruption = begins.indexer == "misa"; };
  const AgreementReport report = compare(small.request);
  interruption = false;
  CHECK(report.interrupted);
  REQUIRE(report.cases.size() == 2);
  CHECK(report.cases[0].verdict == Conclusion::passed);
  CHECK(report.cases[1].verdict == Conclusion::nothing);
  CHECK(report.cases[1].explanation == "interrupted");
}

TEST_CASE("a comparison refuses a workload without rows, and memory that does not suffice") {
  Small small;
  small.request.specs.pop_back();  // a refusal names the bytes of the first that does not fit
  const i64 needed = small.needed();
  small.request.memory.host = needed - 1;
  CHECK(id_of(small.request) == "MP-E502");
  small.request.memory.host = needed;
  CHECK(id_of(small.request) == "none");
  small.workload.q.shape[0] = 0;
  CHECK(id_of(small.request) == "MP-E030");
}

TEST_CASE("the memory of a comparison counts what is alive at once, and nothing else") {
  Small small;
  small.request.specs = {make_indexer("dsa", small.settings)};
  const i64 alone = small.needed(), selection = selection_bytes(small.request.specs.front(), shape_of(small.workload));

  // Files are written from what is there.
  CompareSinks& sinks = small.request.sinks;
  sinks.failed = [](const IndexerSpec&, const Selection&, const Selection&) {};
  sinks.selected = [](const IndexerSpec&, const Selection&) {};
  CHECK(small.needed() == alone);
  // What earlier cases selected is kept.
  small.request.specs.assign(3, small.request.specs.front());
  small.request.memory.host = alone;
  CHECK(id_of(small.request) == "MP-E502");
  small.request.memory.host = alone + 2 * selection;
  CHECK(id_of(small.request) == "none");
  sinks = {};
  small.request.memory.host = alone;
  CHECK(id_of(small.request) == "none");

  // A run that is repeated has a selection of its own; unseen keys are filled in a copy.
  small.request.repeats = 1;
  CHECK(small.needed() == alone + selection);
  small.request.poison = true;
  CHECK(small.needed() == alone + selection + small.workload.bytes());
}

TEST_CASE("what a comparison would run is planned for both sides, and a golden runs nothing") {
  Small small;
  DryBackend dry(*small.backend, small.backend->workspace_bytes());
  CompareRequest request{.exact = *small.exact,
                         .backend = dry,
                         .workload = small.workload,
                         .specs = small.request.specs,
                         .settings = small.settings};
  request.origin.warnings = {{"MP-W999", ""}};
  const std::vector<PlannedRun> both = plan_comparison(request);
  REQUIRE(both.size() == 2);
  CHECK(both[0].backend == "cpu");
  CHECK(both[0].warnings.size() == 1);
  CHECK(both[1].backend == "oracle");
  CHECK(both[1].warnings.empty());
  for (const PlannedRun& run : both) {
    REQUIRE(run.indexers.size() == 2);
    CHECK(run.indexers[0].count("score") > 0);
    CHECK(run.indexers[0].count("route") == 0);
    CHECK(run.indexers[1].count("route") > 0);
  }
  request.golden = "elsewhere";
  CHECK(plan_comparison(request).size() == 1);
  request.golden = "";
  request.against_indexer = "hisa";
  const std::vector<PlannedRun> rated = plan_comparison(request);
  REQUIRE(rated.size() == 1);
  CHECK(rated[0].indexers.back().name == "hisa");
  request.memory.host = 1;
  CHECK_THROWS_AS(plan_comparison(request), Error);
}
