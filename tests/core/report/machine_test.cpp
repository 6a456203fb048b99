#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <locale>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/report/columns.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/report/write.hpp"
#include "tests/core/report/checks.hpp"
#include "tests/core/report/sample_report.hpp"

namespace misa {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// A reader of RFC 4180.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      REQUIRE(field.empty());
      quoted = true;
    } else if (c == ',') {
      row.push_back(std::move(field));
      field.clear();
    } else if (c == '\r') {
      REQUIRE(text.at(i + 1) == '\n');
      ++i;
      row.push_back(std::move(field));
      field.clear();
      rows.push_back(std::move(row));
      row.clear();
    } else {
      REQUIRE(c != '\n');
      field += c;
    }
  }
  REQUIRE_FALSE(quoted);
  REQUIRE(row.empty());
  return rows;
}

/// Every number and every text at its worst.
Report hostile_report() {
  Report report = sample_report();
  const double nan = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  report.command_line.push_back("bad \xff\x01 \"quoted\"\n");
  report.workload.name = "a,b \"c\"\r\nd\xc3";
  report.workload.recall.chance = nan;
  report.environment.backends[0].roofs->launch_seconds = infinite;
  report.cases[0].stages[0].seconds = {.median = nan, .p10 = -infinite, .p90 = 1e300, .samples = 0};
  report.cases[0].stages[0].flops_per_second = infinite;
  report.cases[0].stages[0].roofline = {};
  report.cases[0].first_call_s = nan;
  report.cases[0].end_to_end->raw = {nan, 0.5};
  report.cases[1].speedup->median = infinite;
  report.measurement.contention->own_cpu_share = nan;
  report.measurement.loaded = "a\xff\x1b[31m";
  report.cases[1].quality->iou = nan;
  report.cases[1].quality->recall.worst = -infinite;
  report.cases[1].closure_residual = nan;
  report.cases[1].speedup_over_dsa = infinite;
  return report;
}

/// The field of a row in the column called `name`.
std::string field(const std::vector<std::vector<std::string>>& rows, std::size_t row, const std::string& name) {
  const auto found = std::find(rows.front().begin(), rows.front().end(), name);
  REQUIRE(found != rows.front().end());
  return rows.at(row).at(static_cast<std::size_t>(found - rows.front().begin()));
}

}  // namespace

TEST_CASE("JSON says what the report holds, in whole nanoseconds") {
  const Json json = parse_strictly(write_report(sample_report(), "json"));
  CHECK(json["schema"] == "misa-prof/result");
  CHECK(json["schema_version"] == "1.5.0");
  CHECK(json["workload"]["seed"] == "18446744073709551615");
  CHECK(json["environment"]["backends"][0]["roofs"]["launch_ns"] == 3200);
  REQUIRE(json["cases"].size() == 4);

  const Json& dsa = json["cases"][0];
  CHECK(dsa["router"].is_null());
  CHECK(dsa["end_to_end_ns"]["median"] == 128900000);
  CHECK(dsa["end_to_end_ns"]["median"].is_number_integer());
  CHECK(dsa["end_to_end_ns"]["raw"] == Json::array({128900000, 126500000, 135100000}));
  CHECK(dsa["stages"][0]["time_ns"]["median"] == 117100000);
  CHECK(dsa["quality"].is_null());
  CHECK(dsa["quality_reason"] == "reference");
  CHECK(dsa["closure"]["ok"] == true);

  const Json& misa = json["cases"][1];
  CHECK(misa["router"] == "pooled");
  CHECK(misa["quality"]["recall"]["mean"] == 0.91234);
  CHECK(misa["closure"]["ok"] == false);
  CHECK(json["cases"][2]["stages"][1]["name"] == "score+select");
  CHECK(json["cases"][3]["end_to_end_ns"].is_null());
  CHECK(json["cases"][3]["quality"]["attention_mass_reason"] == "the workload records no main attention");
}

TEST_CASE("JSON keys have a fixed order, complete comes last") {
  const Json json = Json::parse(write_report(sample_report(), "json"));
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"$schema", "schema", "schema_version", "tool", "command_line", "environment",
                                         "workload", "cases", "skipped", "recorded_topk", "recorded_topk_reason",
                                         "measurement", "warnings", "complete"});
  CHECK(write_report(sample_report(), "json") == write_report(sample_report(), "json"));
}

TEST_CASE("what is no number becomes null with a reason, what is no UTF-8 is repaired") {
  const std::string text = write_report(hostile_report(), "json");
  CHECK(repaired_utf8(text) == text);
  const Json json = parse_strictly(text);
  const Json& stage = json["cases"][0]["stages"][0];
  CHECK(stage["time_ns"]["median"].is_null());
  CHECK(stage["time_ns"]["median_reason"] == "not a finite number");
  CHECK(stage["time_ns"]["p90"].is_null());
  CHECK(stage["flops_per_second"].is_null());
  CHECK(stage["roof_fraction_reason"].is_string());
  CHECK(json["cases"][0]["end_to_end_ns"]["raw"] == Json::array({500000000}));
  CHECK(json["cases"][1]["quality"]["iou"].is_null());
  CHECK(json["cases"][1]["closure"]["residual"].is_null());
  CHECK(json["command_line"][4] == "bad \uFFFD\u0001 \"quoted\"\n");
  CHECK(json["workload"]["name"] == "a,b \"c\"\r\nd\uFFFD");
}

TEST_CASE("numbers survive JSON") {
  Report report = sample_report();
  report.cases[1].speedup_over_dsa = 1.0 / 3;
  report.cases[1].quality->iou = std::nextafter(1.0, 0.0);
  const Json json = Json::parse(write_report(report, "json"));
  CHECK(json["cases"][1]["speedup_over_dsa"].get<double>() == 1.0 / 3);
  CHECK(json["cases"][1]["quality"]["iou"].get<double>() == std::nextafter(1.0, 0.0));
}

TEST_CASE("JSON lines put together are the JSON document") {
  for (const Report& report : {sample_report(), hostile_report()}) {
    const std::vector<std::string> lines = lines_of(write_report(report, "jsonl"));
    REQUIRE(lines.size() == 6);
    Json whole = parse_strictly(lines.front());
    CHECK(whole["record"] == "header");
    whole.erase("record");
    whole["cases"] = Json::array();
    for (std::size_t i = 1; i + 1 < lines.size(); ++i) {
      const Json one = parse_strictly(lines[i]);
      CHECK(one["record"] == "case");
      whole["cases"].push_back(one["case"]);
    }
    const Json footer = parse_strictly(lines.back());
    CHECK(footer["record"] == "footer");
    CHECK(footer["cases"] == 4);
    for (const char* key :
         {"workload", "skipped", "recorded_topk", "recorded_topk_reason", "measurement", "warnings", "complete"}) {
      whole[key] = footer[key];
    }
    CHECK(whole == Json::parse(write_report(report, "json")));
  }
}

TEST_CASE("an interrupted run leaves whole lines and says so") {
  Report report = sample_report();
  std::string file;
  JsonLinesWriter writer([&](std::string_view line) {
    CHECK(line.back() == '\n');
    file += line;
  });
  writer.header(report);
  writer.add(report.cases[0]);
  const std::vector<std::string> cut_off = lines_of(file);
  REQUIRE(cut_off.size() == 2);
  CHECK(Json::parse(cut_off.back())["record"] == "case");

  report.interrupted = true;
  writer.footer(report);
  const Json footer = Json::parse(lines_of(file).back());
  CHECK(footer["cases"] == 1);
  CHECK(footer["complete"] == false);
  CHECK(Json::parse(write_report(report, "json"))["complete"] == false);
}

TEST_CASE("CSV has one row per stage and one end to end, all of one length") {
  const auto rows = parse_csv(write_report(sample_report(), "csv"));
  REQUIRE(rows.size() == 1 + (2 + 1) + (4 + 1) + (3 + 1) + 1);
  for (const auto& row : rows) CHECK(row.size() == rows.front().size());
  const auto column = [&](const std::string& name) {
    const auto found = std::find(rows.front().begin(), rows.front().end(), name);
    REQUIRE(found != rows.front().end());
    return static_cast<std::size_t>(found - rows.front().begin());
  };
  CHECK(rows[1][column("stage")] == "score");
  CHECK(rows[1][column("median_ns")] == "117100000");
  CHECK(rows[1][column("flops")] == "17246466048");
  CHECK(rows[1][column("bound")] == "compute");
  CHECK(rows[3][column("stage")] == "end_to_end");
  CHECK(rows[3][column("median_ns")] == "128900000");
  CHECK(rows[3][column("recall_mean")].empty());
  CHECK(rows[8][column("router")] == "pooled");
  CHECK(rows[8][column("recall_mean")] == "0.91234");
  CHECK(rows[8][column("speedup_over_dsa")] == "4.199");
  CHECK(rows[8][column("speedup_median")] == "4.21");
  CHECK(rows[8][column("speedup_low")] == "4.11");
  CHECK(rows[8][column("speedup_high")] == "4.27");
  CHECK(rows[8][column("speedup_verdict")] == "faster");
  CHECK(rows[8][column("closure_doubt")] == "noise");
  CHECK(rows[8][column("loaded")] == "false");
  CHECK(rows[3][column("speedup_verdict")].empty());
  CHECK(rows[12][column("speedup_verdict")] == "inconclusive");
  CHECK(rows[9][column("roof_fraction")].empty());
  CHECK(rows[9][column("roof_doubt")] == "cached");
  CHECK(rows[13][column("stage")] == "end_to_end");
  CHECK(rows[13][column("median_ns")].empty());
  CHECK(rows[13][column("needle_hit_rate")].empty());
}

TEST_CASE("what a device did while it was measured is in every format") {
  const Report report = device_report();
  const Json json = parse_strictly(write_report(report, "json"));
  CHECK(json["measurement"]["cache"] == "cold");
  CHECK(json["measurement"]["launch"] == "graph");
  const Json& device = json["measurement"]["device"];
  CHECK(device["before"]["sm_clock_hz"] == 345e6);
  CHECK(device["before"]["power_watts"].is_null());
  CHECK(device["sm_clock_max_hz"] == 1980e6);
  CHECK(device["throttled"] == Json::array({"power cap"}));
  const Json& roofs = json["environment"]["backends"][0]["roofs"];
  CHECK(roofs["graph_launch_ns"] == 1100);
  CHECK(roofs["peaks"][0]["dtype"] == "F8_E4M3");
  CHECK(roofs["peaks"][1]["flops_per_second"].is_null());
  const auto rows = parse_csv(write_report(report, "csv"));
  CHECK(field(rows, 1, "cache") == "cold");
  CHECK(field(rows, 1, "launch") == "graph");
  CHECK(field(rows, 1, "sm_clock_min_hz") == "1830000000");
  CHECK(field(rows, 1, "sm_clock_max_hz") == "1980000000");
  const std::string table = write_report(report, "table");
  for (const char* part : {"SM 1.83–1.98 GHz", "slowed by power cap", "cold cache", "one graph launch each",
                           "F8_E4M3 1.31 PFLOP/s", "BF16 not measured", "in a graph 1.10 µs"}) {
    CAPTURE(part);
    CHECK(table.find(part) != std::string::npos);
  }
  const Json plain = parse_strictly(write_report(sample_report(), "json"));
  CHECK(plain["measurement"]["cache"] == "warm");
  CHECK(plain["measurement"]["device"].is_null());
}

TEST_CASE("every format of a result shows a warning with its id, its text and where it holds") {
  Report report = sample_report();
  report.warnings = {{.id = "MP-W901", .what = "the first, of all"},
                     {.id = "MP-W902", .what = "another", .where = "misa"}};
  const Json expected = Json::parse(R"([{"id": "MP-W901", "text": "the first, of all", "where": ""},
                                        {"id": "MP-W902", "text": "another", "where": "misa"}])");
  CHECK(Json::parse(write_report(report, "json"))["warnings"] == expected);
  const std::string lines = write_report(report, "jsonl");
  CHECK(Json::parse(lines.substr(lines.rfind('\n', lines.size() - 2) + 1))["warnings"] == expected);
  const auto rows = parse_csv(write_report(report, "csv"));
  REQUIRE(rows.size() > 4);
  for (std::size_t row = 1; row < rows.size(); ++row) {
    CHECK(field(rows, row, "warnings") == "MP-W901: the first, of all | MP-W902: another; misa");
  }
  for (const char* format : {"table", "md"}) {
    const std::string text = write_report(report, format);
    CHECK(text.find("warning: MP-W901: the first, of all") != std::string::npos);
    CHECK(text.find("warning: MP-W902: another; misa") != std::string::npos);
  }
  report.warnings.clear();
  CHECK(field(parse_csv(write_report(report, "csv")), 1, "warnings").empty());
  CHECK(write_report(report, "table").find("warning") == std::string::npos);
}

TEST_CASE("the columns of CSV that were published keep their places") {
  const auto rows = parse_csv(write_report(Report(), "csv"));
  const std::vector<std::string> published{"workload",
                                           "phase",
                                           "indexer",
                                           "router",
                                           "backend",
                                           "threads",
                                           "rows",
                                           "heads",
                                           "head_dim",
                                           "keys",
                                           "max_window",
                                           "dtype",
                                           "paged",
                                           "top_k",
                                           "active_heads",
                                           "head_block_size_tokens",
                                           "blocks",
                                           "block_size_tokens",
                                           "candidates",
                                           "stage",
                                           "median_ns",
                                           "p10_ns",
                                           "p90_ns",
                                           "samples",
                                           "flops",
                                           "bytes",
                                           "flops_per_second",
                                           "bytes_per_second",
                                           "ps_per_pair",
                                           "share",
                                           "roof_fraction",
                                           "bound",
                                           "speedup_over_dsa",
                                           "closure_residual",
                                           "recall_mean",
                                           "recall_p1",
                                           "recall_worst",
                                           "iou",
                                           "attention_mass",
                                           "needle_hit_rate",
                                           "cache",
                                           "launch",
                                           "sm_clock_min_hz",
                                           "sm_clock_max_hz",
                                           "sampled_keys",
                                           "warnings"};
  REQUIRE(rows[0].size() > published.size());
  CHECK(std::equal(published.begin(), published.end(), rows[0].begin()));
}

TEST_CASE("JSON holds the samples of stages, the interval of a ratio, and why a figure cannot be true") {
  Report report = sample_report();
  report.cases[0].stages[0].seconds.raw = {0.1, 0.2};
  report.cases[2].speedup = PairedRatio{.median = 2, .rounds = 3, .low = {}, .high = {}};
  report.measurement.loaded = "threads waited for a core for 20 % of the time";
  const Json json = parse_strictly(write_report(report, "json"));
  CHECK(json["cases"][0]["stages"][0]["time_ns"]["raw"] == Json::array({100000000, 200000000}));
  CHECK(json["cases"][0]["speedup"].is_null());
  CHECK(json["cases"][0]["speedup_reason"] == "is dsa itself");
  const Json& speedup = json["cases"][1]["speedup"];
  CHECK(speedup["median"] == 4.21);
  CHECK(speedup["low"] == 4.11);
  CHECK(speedup["high"] == 4.27);
  CHECK(speedup["verdict"] == "faster");
  CHECK(json["cases"][2]["speedup"]["low"].is_null());
  CHECK(json["cases"][2]["speedup"]["low_reason"] == "an interval takes 6 rounds, there are 3");
  CHECK(json["cases"][2]["speedup"]["verdict"] == "too few samples");
  CHECK(json["cases"][3]["speedup_reason"] == "dsa was not timed in this run");
  CHECK(json["cases"][1]["closure"]["reason"] == "noise: the samples spread by more than that");
  CHECK(json["cases"][2]["stages"][0]["roof_fraction"].is_null());
  CHECK(json["cases"][2]["stages"][0]["roof_fraction_reason"].get<std::string>().find("cached: ") == 0);
  const Json& contention = json["measurement"]["contention"];
  CHECK(contention["loaded"] == true);
  CHECK(contention["reason"] == "threads waited for a core for 20 % of the time");
  CHECK(contention["waiting_share"] == 0.0021);
  CHECK(contention["steal_share"].is_null());
  CHECK(contention["steal_share_reason"].is_string());
}

TEST_CASE("every format says what made a result, and names the host only where it was asked for") {
  Report report = sample_report();
  const Json environment = parse_strictly(write_report(report, "json"))["environment"];
  CHECK(environment["build"]["commit"] == "0123456789ab");
  CHECK(environment["build"]["changed"] == true);
  CHECK(environment["build"]["compiler"] == "GNU 12.2.0");
  CHECK(environment["build"]["flags"] == "-O3 -DNDEBUG");
  CHECK(environment["build"]["kernel_flags"] == "-march=x86-64-v3");
  CHECK(environment["build"]["libraries"] == Json::parse(R"([{"name": "oneDNN", "version": "2.6.3"}])"));
  CHECK(environment["governor"] == "performance");
  CHECK(environment["load_average"] == 0.42);
  CHECK(environment["cache_bytes"] == 33554432);
  CHECK(environment["host"].is_null());
  const auto rows = parse_csv(write_report(report, "csv"));
  for (const std::size_t row : {std::size_t{1}, std::size_t{8}}) {
    CHECK(field(rows, row, "seed") == "18446744073709551615");
    CHECK(field(rows, row, "preset") == "natural");
    CHECK(field(rows, row, "context") == "8128");
    CHECK(field(rows, row, "date") == "2026-01-31T12:00:00Z");
    CHECK(field(rows, row, "version") == "0.1.0");
    CHECK(field(rows, row, "commit") == "0123456789ab-dirty");
    CHECK(field(rows, row, "machine") == "AMD EPYC 9654 96-Core Processor");
    CHECK(field(rows, row, "host").empty());
    CHECK(field(rows, row, "load_average") == "0.42");
  }
  CHECK(field(rows, 8, "recall_median") == "0.9201");
  CHECK(field(rows, 8, "worst_row") == "17");
  CHECK(field(rows, 1, "worst_row").empty());
  for (const char* format : {"table", "md"}) {
    const std::string text = write_report(report, format);
    CHECK(text.find("2026") != std::string::npos);
    CHECK(text.find("commit 0123456789ab with changes, GNU 12.2.0, Release") != std::string::npos);
    CHECK(text.find("governor performance") != std::string::npos);
  }

  report.environment.host = "node7";
  report.environment.build.commit.clear();
  const Json asked = parse_strictly(write_report(report, "json"))["environment"];
  CHECK(asked["host"] == "node7");
  CHECK(asked["build"]["commit"].is_null());
  CHECK(asked["build"]["commit_reason"].is_string());
  CHECK(field(parse_csv(write_report(report, "csv")), 1, "host") == "node7");
  CHECK(write_report(report, "table").find("node7") != std::string::npos);
}

TEST_CASE("CSV quotes what would end a field, and has no word for numbers that are none") {
  const std::string text = write_report(hostile_report(), "csv");
  const auto rows = parse_csv(text);
  CHECK(rows[1][0] == "a,b \"c\"\r\nd\uFFFD");
  CHECK(text.find("nan") == std::string::npos);
  CHECK(text.find("inf") == std::string::npos);
}

TEST_CASE("writers do not depend on the locale") {
  const std::string before = write_report(sample_report(), "csv");
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const std::locale old = std::locale::global(std::locale(std::locale::classic(), new Comma));
  CHECK(write_report(sample_report(), "csv") == before);
  CHECK(Json::parse(write_report(sample_report(), "json"))["cases"].size() == 4);
  CHECK(write_report(sample_report(), "table").find("117 ms") != std::string::npos);
  std::locale::global(old);
}

TEST_CASE("results obey the published schema, and a strict checker refuses what does not" *
          doctest::skip(lacks_schema_checker())) {
  const auto accepted = agrees_with_schema;
  Report interrupted_report = sample_report();
  interrupted_report.interrupted = true;
  for (const Report& report : {sample_report(), hostile_report(), device_report(), interrupted_report, Report()}) {
    CHECK(accepted(write_report(report, "json"), ".json"));
    CHECK(accepted(write_report(report, "jsonl"), ".jsonl"));
  }

  const std::string good = write_report(sample_report(), "json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  CHECK_FALSE(accepted(with("0.91234", "NaN"), ".json"));
  CHECK_FALSE(accepted(with("0.91234", "-Infinity"), ".json"));
  CHECK_FALSE(accepted(with("0.91234", "1.5"), ".json"));
  CHECK_FALSE(accepted(with("\"paged\": false", "\"paged\": false, \"paged\": false"), ".json"));
  CHECK_FALSE(accepted(with("\"paged\": false", "\"unknown\": 1"), ".json"));
  CHECK_FALSE(accepted(with("128900000", "128900000.5"), ".json"));
  CHECK_FALSE(accepted(with("1.5.0", "2.0.0"), ".json"));
  CHECK_FALSE(accepted(with("deepseek", "\xff"), ".json"));
  CHECK_FALSE(accepted(good + "{}", ".json"));
  const std::string lines = write_report(sample_report(), "jsonl");
  CHECK_FALSE(accepted(lines.substr(0, lines.rfind("{\"record\":\"footer\"")), ".jsonl"));
  CHECK_FALSE(accepted(lines.substr(0, lines.size() - 5), ".jsonl"));
}

TEST_CASE("every format has a name and an ending of its own, and writes what it says it writes") {
  CHECK(profile_format_names() == std::vector<std::string_view>{"table", "json", "jsonl", "csv", "rows", "md", "html"});
  std::set<std::string_view> seen;
  for (const ReportFormat& format : report_formats()) {
    CHECK(seen.insert(format.name).second);
    if (!format.endings.empty()) CHECK(seen.insert(format.endings).second);
    CHECK((format.profile || format.agreement || format.niah));
  }
  for (const std::string_view name : profile_format_names()) CHECK_FALSE(write_report(sample_report(), name).empty());
  CHECK_THROWS_AS(write_report(sample_report(), "junit"), Error);
}

TEST_CASE("the columns of a table have places of their own, and all can be shown") {
  for (const Table table : {Table::stages, Table::summary}) {
    std::set<int> places;
    for (const Column* column : columns_of(table)) {
      CHECK(places.insert(column->place).second);
      CHECK(bool(column->cell));
    }
  }
  std::set<int> places;
  for (const Column* column : quality_columns()) {
    CAPTURE(column->json);
    CHECK(places.insert(column->place).second);
    CHECK(bool(column->of_quality));
    CHECK(bool(column->missing));
  }
  for (const Column& column : columns()) CHECK((column.value == nullptr) != (column.of_quality == nullptr));
}

TEST_CASE("an empty report is still valid in every format") {
  const Report report;
  CHECK(parse_strictly(write_report(report, "json"))["cases"].empty());
  CHECK(lines_of(write_report(report, "jsonl")).size() == 2);
  CHECK(parse_csv(write_report(report, "csv")).size() == 1);
  CHECK_FALSE(write_report(report, "table").empty());
  CHECK_FALSE(write_report(report, "md").empty());
}

}  // namespace misa
