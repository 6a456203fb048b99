#include "core/report/result_file.hpp"

#include <doctest/doctest.h>

#include <string>

#include "core/base/error.hpp"
#include "core/report/write.hpp"
#include "tests/core/report/sample_report.hpp"

using namespace misa;  // NOLINT(google-build-using-namespace): a test

namespace {

constexpr auto kAll = {ResultKind::result, ResultKind::agreement, ResultKind::sweep, ResultKind::niah};

/// The id and the place of the refusal; "" when the text is read.
std::string refusal(const std::string& text, bool allow_incomplete = false) {
  try {
    (void)parse_result(text, "file", kAll, allow_incomplete);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.id() + " " + error.where();
  }
  return "";
}

std::string document(const std::string& rest) {
  return R"({"schema":"misa-prof/result","schema_version":"1.2.0",)" + rest + R"("complete":true})";
}

}  // namespace

TEST_CASE("a report that was written is read as the same document from JSON and from JSON Lines") {
  const Report report = sample_report();
  const ResultFile json = parse_result(write_report(report, "json"), "a.json", {ResultKind::result}, true);
  const ResultFile lines = parse_result(write_report(report, "jsonl"), "a.jsonl", {ResultKind::result}, true);
  CHECK(json.document.size() == lines.document.size());
  for (const auto& item : json.document.items()) {
    const std::string key = item.key();
    CAPTURE(key);
    CHECK(lines.document[key] == item.value());
  }
  CHECK(json.complete == !report.interrupted);
  CHECK(json.complete == lines.complete);
}

TEST_CASE("what is no strict JSON is refused with its line and column") {
  CHECK(refusal(document("")).empty());
  CHECK(refusal("") == "MP-E485 file");
  CHECK(refusal("{\n  \"schema\": nan}") == "MP-E485 file, line 2, column 14");
  CHECK(refusal(document("") + "x").rfind("MP-E485 file, line 1", 0) == 0);
  CHECK(refusal(document(R"("a":1,"a":2,)")) == "MP-E485 file");
  CHECK(refusal(document("\"a\":\"\xff\",")).rfind("MP-E485", 0) == 0);
  CHECK(refusal(document(R"("a":1e999,)")) == "MP-E485 file");
  CHECK(refusal(document("\"a\":" + std::string(100'000, '[') + ",")) == "MP-E485 file");
  std::string keys;
  for (int i = 0; i < 300; ++i) keys += "\"k" + std::to_string(i) + "\":0,";
  CHECK(refusal(document(keys)) == "MP-E485 file");
}

TEST_CASE("another document, another kind and a later version are refused") {
  CHECK(refusal("[]") == "MP-E486 file");
  CHECK(refusal("{}") == "MP-E486 file");
  CHECK(refusal(R"({"schema":1,"schema_version":"1.0.0"})") == "MP-E486 file");
  CHECK(refusal(R"({"schema":"misa-prof/result","schema_version":"2.0.0","complete":true})") == "MP-E486 file");
  CHECK(refusal(R"({"schema":"misa-prof/other","schema_version":"1.0.0","complete":true})") == "MP-E486 file");
  CHECK_THROWS_AS(parse_result(document(""), "file", {ResultKind::sweep}), Error);
}

TEST_CASE("a result that is not complete is refused unless that is allowed") {
  const std::string interrupted =
      R"({"schema":"misa-prof/result","schema_version":"1.2.0","cases":[],"complete":false})";
  CHECK(refusal(interrupted) == "MP-E487 file");
  CHECK(refusal(interrupted, true).empty());
  const std::string header = "{\"record\":\"header\",\"schema\":\"misa-prof/sweep\",\"schema_version\":\"1.0.0\"}\n";
  const std::string one = "{\"record\":\"case\",\"key\":\"a\",\"case\":{\"indexer\":\"dsa\"}}\n";
  CHECK(refusal(header + one) == "MP-E487 file");
  const ResultFile cut = parse_result(header + one + one.substr(0, 20), "file", kAll, true);
  CHECK(cut.document["cases"].size() == 1);
  CHECK(text_at(cut.document["cases"][0], "case.indexer") == "dsa");
  CHECK(refusal(header + one + "{\"record\":\"footer\",\"cases\":2,\"complete\":true}\n") == "MP-E486 file, record 3");
  CHECK(refusal(header + one + "{\"record\":\"footer\",\"cases\":1,\"complete\":true}\n").empty());
  CHECK(refusal(header + "{\"record\":\"case\",\n" + one) == "MP-E485 file, line 2, column 18");
}

TEST_CASE("values are found by type, and their absence is no crash") {
  const Json json = Json::parse(R"({"a":{"b":[1,"x",2.5]},"n":-1,"t":"text","big":1e300})");
  CHECK(numbers_at(json, "a.b") == std::vector<double>{1, 2.5});
  CHECK(!number_at(json, "t"));
  CHECK(!count_at(json, "n"));
  CHECK(!text_at(json, "a.b.c"));
  CHECK(array_at(json, "t").empty());
  CHECK(find_value(json, "a.x") == nullptr);
  const ResultFile file{.path = "file", .document = json};
  CHECK(need_number(file, json, "big") == 1e300);
  CHECK_THROWS_WITH_AS(need_text(file, json, "a.b", "cases[0]"), "cases[0].a.b is no text", Error);
}
