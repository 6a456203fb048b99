#include "core/experiment/profile.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "backends/backends.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/workload/profile.hpp"
#include "core/workload/synthetic.hpp"

using namespace misa;

namespace {

constexpr i64 kProfiledTopK = 64;

Workload profiled_workload() {
  const std::vector<std::string> folders{MISA_SOURCE_DIR "/profiles"};
  return generate(make_request(load_model("tiny", folders), load_workload("ci", folders), 7));
}

/// dsa and misa on `backend`, one sample of each.
struct SmallProfile {
  explicit SmallProfile(std::string_view name) : backend(make_backend(name, 1)) {
    settings.top_k = kProfiledTopK;
    for (const char* indexer : {"dsa", "misa"}) request.specs.push_back(make_indexer(indexer, settings));
    request.settings = settings;
    request.samples = 1;
    request.warm_up = 0;
    request.origin.tool_version = "1.2.3";
    request.origin.seed = 7;
  }

  std::unique_ptr<Backend> backend;
  Workload workload = profiled_workload();
  IndexerSettings settings;
  ProfileRequest request{.backend = *backend, .workload = workload, .specs = {}, .settings = {}};
};

}  // namespace

TEST_CASE("a profile times and rates each indexer, without a process") {
  for (const char* name : {"oracle", "cpu"}) {
    CAPTURE(name);
    SmallProfile small(name);
    const Report report = profile(small.request);
    CHECK(report.tool_version == "1.2.3");
    CHECK(report.workload.seed == "7");
    CHECK(report.workload.rows == small.workload.rows());
    CHECK(report.workload.recall.chance.value_or(0) > 0);
    CHECK_FALSE(report.interrupted);
    REQUIRE(report.cases.size() == 2);
    for (const ReportCase& one : report.cases) {
      CHECK(one.backend == name);
      CHECK(one.end_to_end.value().samples == 1);
      CHECK_FALSE(one.stages.empty());
    }
    CHECK(report.cases[0].quality.value().recall.mean == 1);
    CHECK(report.cases[1].quality.value().recall.mean.value() > 0);
    CHECK(report.cases[1].speedup_over_dsa.has_value());
  }
}

TEST_CASE("sinks are told in order: the start, each case, the report, each selection") {
  SmallProfile small("oracle");
  std::vector<std::string> told;
  i64 runs = 0;
  small.request.sinks.started = [&](const Report& report) {
    told.push_back("started");
    CHECK(report.cases.empty());
    CHECK(report.workload.rows > 0);
  };
  small.request.sinks.progress = [&](const ProfileProgress& progress) {
    ++runs;
    CHECK_FALSE(progress.reference);
  };
  small.request.sinks.finished = [&](const ReportCase& one) { told.push_back(one.spec.name); };
  small.request.sinks.reported = [&](const Report& report) {
    told.push_back("reported");
    CHECK(report.cases.size() == 2);
  };
  small.request.sinks.selected = [&](const IndexerSpec& spec, const Selection& selection) {
    told.push_back("selection of " + spec.name);
    CHECK(selection[Choice::tokens].shape == std::vector<i64>{small.workload.rows(), kProfiledTopK});
    CHECK(selection[Choice::heads].empty() == (spec.name == "dsa"));
  };
  profile(small.request);
  CHECK(told ==
        std::vector<std::string>{"started", "dsa", "misa", "reported", "selection of dsa", "selection of misa"});
  CHECK(runs == 8);  // a first call and a sample, whole and by stages, of each
}

TEST_CASE("without dsa among the indexers it runs once more as their reference") {
  SmallProfile small("oracle");
  small.request.specs.erase(small.request.specs.begin());
  i64 references = 0;
  small.request.sinks.progress = [&](const ProfileProgress& progress) { references += progress.reference ? 1 : 0; };
  const Report report = profile(small.request);
  REQUIRE(report.cases.size() == 1);
  CHECK(references == 1);
  CHECK(report.cases[0].quality.has_value());
  CHECK_FALSE(report.cases[0].speedup_over_dsa.has_value());
}

TEST_CASE("an interrupted profile says so, rates nothing and hands out no selection") {
  SmallProfile small("oracle");
  small.request.sinks.progress = [](const ProfileProgress&) { interruption = true; };
  small.request.sinks.selected = [](const IndexerSpec&, const Selection&) { FAIL("a selection"); };
  const Report report = profile(small.request);
  interruption = false;
  CHECK(report.interrupted);
  REQUIRE(report.cases.size() == 2);
  CHECK_FALSE(report.cases[0].quality.has_value());
  CHECK(report.cases[0].quality_reason == "interrupted");
}

TEST_CASE("a profile refuses a workload without rows, and memory that does not suffice") {
  SmallProfile small("oracle");
  const auto id_of = [&] {
    try {
      profile(small.request);
    } catch (const Error& error) {
      return error.id();
    }
    return std::string("none");
  };
  small.request.memory.host = small.workload.bytes();
  CHECK(id_of() == "MP-E502");
  small.workload.q.shape[0] = 0;
  CHECK(id_of() == "MP-E030");
}

TEST_CASE("what the caller noticed comes before the warnings of the experiment") {
  SmallProfile small("oracle");
  small.request.origin.warnings = {{"MP-W999", "noticed before"}};
  small.request.samples = 100;
  small.request.budget_seconds = 0;
  const Report report = profile(small.request);
  REQUIRE(report.warnings.size() >= 2);
  CHECK(report.warnings.front().id == "MP-W999");
  CHECK(report.warnings.back().id == "MP-W051");
}
