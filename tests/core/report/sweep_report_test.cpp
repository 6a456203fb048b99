#include "core/report/sweep_report.hpp"

#include <doctest/doctest.h>

#include "core/base/error.hpp"
#include "core/report/sweep_parts.hpp"

namespace misa {
namespace {

/// A case of indexer `name` at a length, in 9 rounds that take `milliseconds` each, give or take a part in a hundred.
Json case_at(i64 group, i64 context, const std::string& name, double milliseconds, double recall) {
  Json raw = Json::array();
  for (int i = 0; i < 9; ++i) raw.push_back(static_cast<i64>(milliseconds * 1e6 * (1 + 0.001 * ((i * 7) % 9))));
  const std::string place = "context=" + std::to_string(context);
  return {{"key", place + " indexer=" + name},
          {"name", name},
          {"axes", {{"model", "m"}, {"workload", "w"}, {"context", context}, {"backend", "cpu"}, {"indexer", name}}},
          {"group", group},
          {"setting", "model=m"},
          {"series", "model=m indexer=" + name},
          {"case",
           {{"indexer", name},
            {"stages", {{{"flops", 100 * recall}, {"bytes", 10}}}},
            {"end_to_end_ns", {{"median", milliseconds * 1e6}, {"raw", raw}}},
            {"quality", {{"recall", {{"mean", recall}, {"worst", recall}, {"worst_row", 3}}}}}}},
          {"measurement", Json::object()},
          {"warnings", Json::array()},
          {"skipped", Json::array()}};
}

/// dsa takes as many milliseconds as there are thousands of tokens, misa what `misa` gives for them.
template <class Milliseconds>
Json document_of(const Milliseconds& misa) {
  std::vector<Json> cases;
  Json planned = Json::array();
  i64 group = 0;
  for (const i64 context : {2000, 4000, 8000, 16000}) {
    const auto thousands = static_cast<double>(context) / 1000;
    cases.push_back(case_at(group, context, "dsa", thousands, 1));
    cases.push_back(case_at(group, context, "misa", misa(thousands), 0.9));
    planned.push_back({cases[cases.size() - 2]["key"], cases.back()["key"]});
    ++group;
  }
  Json header{{"schema", "misa-prof/sweep"}, {"schema_version", "1.0.0"}, {"planned", planned}};
  for (const char* key : {"tool", "axes", "zip", "options", "inputs"}) header[key] = Json::array();
  return sweep_document(header, cases, {}, Json::array(), true);
}

std::string answer_of(const Json& document) {
  const std::vector<std::string> all = answers(make_sweep_report(document, "test"));
  REQUIRE(all.size() == 1);
  return all.front();
}

bool begins(const std::string& text, const std::string& with) { return text.substr(0, with.size()) == with; }

}  // namespace

TEST_CASE("a sweep answers from which length an indexer pays, and what is lost") {
  const std::string crossing = answer_of(document_of([](double thousands) { return 3 + thousands / 4; }));
  CHECK(begins(crossing, "misa pays from "));
  CHECK(crossing.find("(between 2000 and 4000, 95 %)") == std::string::npos);  // at 4000 both take 4 ms
  CHECK(crossing.find("(between 2000 and 8000, 95 %) on: ") != std::string::npos);
  CHECK(crossing.find("recall 0.900") != std::string::npos);
  CHECK(begins(answer_of(document_of([](double thousands) { return thousands / 2; })),
               "misa pays from 2000 tokens on, the shortest length measured: 2.00× as fast as dsa at 2000 tokens"));
  CHECK(begins(answer_of(document_of([](double thousands) { return thousands * 2; })),
               "misa does not pay between 2000 and 16000 tokens, it is slower than dsa throughout: 0.500×"));
  CHECK(begins(answer_of(document_of([](double thousands) { return thousands * thousands / 6; })), "misa pays up to "));
  CHECK(begins(answer_of(document_of([](double thousands) { return thousands; })),
               "no answer for misa: noise: 1 lies in the interval at 2000, 4000, 8000, 16000 tokens"));
  CHECK(begins(answer_of(document_of([](double thousands) { return thousands < 5 ? thousands : 5; })),
               "misa pays from 8000 tokens on at the latest: 1.60×"));
}

TEST_CASE("a document has crossovers of every pair and fronts of every group") {
  const SweepReport report = make_sweep_report(document_of([](double thousands) { return thousands / 2; }), "test");
  CHECK(report.crossovers.size() == 1);
  CHECK(report.document["crossovers"][0]["verdict"] == "faster throughout");
  CHECK(report.document["crossovers"][0]["ratios"].size() == 4);
  CHECK(report.fronts.size() == 4 * 3);  // time, flops, bytes
  for (const SweepFront& front : report.fronts) {
    REQUIRE(front.points.size() == 2);
    CHECK(front.points[0].on_front);                             // dsa has the best recall
    CHECK(front.points[1].on_front == (front.cost != "bytes"));  // misa costs less, but for bytes
  }
  CHECK((--report.document.end()).key() == "complete");
}

TEST_CASE("parts amount to the whole, whatever their order") {
  const Json whole = document_of([](double thousands) { return thousands / 2; });
  std::vector<ResultFile> parts;
  for (int part = 0; part < 2; ++part) {
    Json document = whole;
    document["cases"] = Json::array();
    for (const Json& one : whole["cases"]) {
      if (one["group"].get<i64>() % 2 == part) document["cases"].push_back(one);
    }
    parts.push_back({.path = "part" + std::to_string(part), .kind = ResultKind::sweep, .document = document});
  }
  CHECK_THROWS_AS(merge_sweeps({parts[0]}, false), Error);
  CHECK(merge_sweeps({parts[0]}, true)["complete"] == false);
  const Json merged = merge_sweeps({parts[1], parts[0], parts[1]}, false);
  CHECK(merged["cases"] == whole["cases"]);
  CHECK(merged["complete"] == true);
  parts[1].document["cases"][0]["name"] = "another";
  ResultFile other = parts[1];
  other.document["cases"][0]["name"] = "misa";
  CHECK_THROWS_AS(merge_sweeps({parts[1], other}, true), Error);
}

TEST_CASE("a document that lacks what it must have is refused by name") {
  Json document = document_of([](double thousands) { return thousands; });
  document["cases"][1].erase("setting");
  try {
    make_sweep_report(document, "file.json");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.id() == "MP-E488");
    CHECK(std::string(error.what()).find("cases[1].setting") != std::string::npos);
  }
}

}  // namespace misa
