#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/report/agreement_report.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/report/write.hpp"
#include "tests/core/report/checks.hpp"
#include "tests/core/report/sample_report.hpp"

namespace misa {
namespace {

/// Rows by verdict, in the order of Verdict.
struct Rows {
  i64 exact = 0, tie_swap = 0, within_bound = 0, follows = 0, unbounded = 0, unknown = 0, miss = 0, violation = 0,
      unjudged = 0, empty = 0;
};

ChoiceAgreement sample_choice(Choice choice, const Rows& rows) {
  ChoiceAgreement one;
  one.choice = choice;
  one.verdicts = {rows.exact,   rows.tie_swap, rows.within_bound, rows.follows,  rows.unbounded,
                  rows.unknown, rows.miss,     rows.violation,    rows.unjudged, rows.empty};
  for (const i64 count : one.verdicts) one.rows += count;
  one.trivial = rows.exact / 50;
  return one;
}

AgreementCase sample_case(const std::string& indexer, Conclusion verdict, const std::string& explanation) {
  AgreementCase one;
  one.indexer = indexer;
  one.parameters.top_k = 2048;
  one.verdict = verdict;
  one.explanation = explanation;
  one.checks = {{.name = "canaries", .passed = true, .detail = "41 allocations, poisoned and guarded"}};
  if (verdict != Conclusion::passed) one.reproduce = "misa-prof compare --workload prefill-8k --indexer " + indexer;
  one.seconds = 1.2345;
  return one;
}

/// Every verdict of a case and of a row, misses and violations of more choices than one, more than are shown.
AgreementReport sample_agreement() {
  const Report run = sample_report();
  AgreementReport report;
  report.tool_version = run.tool_version;
  report.command_line = {"misa-prof", "compare", "--indexer", "all"};
  report.environment = run.environment;
  report.environment.backends = {{.name = "cpu", .description = "OpenMP, oneDNN 2.6.3, AVX2", .roofs = {}}};
  report.workload = run.workload;
  report.input_hash = "0123456789abcdef";
  report.side = {.name = "cpu", .description = "OpenMP, oneDNN 2.6.3, AVX2", .arithmetic = "f32-dot"};
  report.against = {.name = "oracle", .description = "the formulas in double precision", .arithmetic = "f64"};
  report.warnings = {{.id = "MP-W012", .what = "the machine was busy", .where = "misa"}};

  AgreementCase dsa = sample_case("dsa", Conclusion::passed, "");
  dsa.choices = {sample_choice(Choice::tokens, {.exact = 124, .tie_swap = 1, .within_bound = 3}),
                 sample_choice(Choice::scores, {.exact = 7, .within_bound = 121})};
  dsa.choices[1].largest_share = 0.0123;

  AgreementCase misa = sample_case("misa", Conclusion::failed, "9 misses and 1 violation, first in the heads");
  misa.router = "qnorm";
  misa.parameters.active_heads = 8;
  misa.choices = {
      sample_choice(Choice::heads, {.exact = 127, .violation = 1}),
      sample_choice(Choice::tokens, {.exact = 110, .within_bound = 5, .follows = 4, .miss = 8, .unjudged = 1}),
      sample_choice(Choice::scores, {.exact = 126, .miss = 1, .unjudged = 1})};
  misa.choices[0].violated = 1;
  misa.choices[0].violations = {{.side = "cpu", .row = 3, .column = 5, .id = -7, .fault = Fault::out_of_range}};
  misa.choices[1].missed = 8;
  misa.choices[1].mass_lost = 0.0125;
  for (i64 i = 0; i < 4; ++i) {
    misa.choices[1].misses.push_back({.side = "cpu",
                                      .row = 17 + i,
                                      .missed = 4711 + i,
                                      .taken = 12 + i,
                                      .missed_score = 1.25,
                                      .taken_score = 1.125 - 0.1 / static_cast<double>(i + 1),
                                      .rank = 40 + i,
                                      .to_last = 0.0625,
                                      .mass_lost = 0.00125,
                                      .bound = 2.5e-6});
  }
  misa.choices[2].missed = 1;
  misa.choices[2].largest_share = 13.5;
  misa.choices[2].misses = {{.side = "cpu",
                             .row = 21,
                             .missed = 99,
                             .taken = 99,
                             .missed_score = -0.333333343,
                             .taken_score = -0.33,
                             .rank = 0,
                             .to_last = -0.003333343,
                             .mass_lost = 0,
                             .bound = 2.4e-4}};
  misa.checks = {{.name = "canaries", .passed = false, .detail = "64 bytes beside allocations were overwritten"},
                 {.name = "repeat-bitwise", .passed = true, .detail = "3 more runs gave the same bits"}};

  AgreementCase dagger = sample_case("misa-dagger", Conclusion::inconclusive,
                                     "6 of 256 rows differ, and the arithmetic of a side is not known");
  dagger.router = "pooled";
  dagger.choices = {sample_choice(Choice::candidates, {.exact = 126, .unknown = 2}),
                    sample_choice(Choice::tokens, {.exact = 124, .unknown = 4})};

  AgreementCase hisa = sample_case("hisa", Conclusion::nothing, "nothing was compared; tokens: oracle has none");
  hisa.choices = {sample_choice(Choice::tokens, {})};
  hisa.choices[0].reason = "oracle has none";
  hisa.checks.clear();

  report.cases = {dsa, misa, dagger, hisa};
  return report;
}

/// --against-indexer: recall and no choices.
AgreementReport sample_rating() {
  AgreementReport report = sample_agreement();
  report.against = report.side;
  report.warnings.clear();
  AgreementCase good = sample_case("misa", Conclusion::passed, "");
  good.router = "pooled";
  good.quality = sample_report().cases[1].quality;
  good.minimum_recall = 0.9;
  AgreementCase bad = sample_case("hisa", Conclusion::failed, "the mean recall is 0.7000, and 0.9000 was asked for");
  bad.quality = sample_report().cases[3].quality;
  bad.quality->recall.mean = 0.7;
  bad.minimum_recall = 0.9;
  report.cases = {good, bad};
  return report;
}

const std::string kHostile = "a\x1b[31m\x01\r\n\t<b> & \"c\" 'd' ]]> % :, \xff\xc3 \xef\xbf\xbe \xe2\x80\xae \x7f";

/// Every text and every number at its worst.
AgreementReport hostile_agreement() {
  AgreementReport report = sample_agreement();
  const double nan = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  for (std::string* text :
       {&report.tool_version, &report.command_line[1], &report.workload.name, &report.side.name,
        &report.side.arithmetic, &report.against.name, &report.against.description, &report.warnings[0].what}) {
    *text = kHostile;
  }
  report.environment.host = kHostile;
  report.against.arithmetic.clear();
  report.cases.push_back(sample_rating().cases[1]);
  for (AgreementCase& one : report.cases) {
    for (std::string* text : {&one.indexer, &one.explanation, &one.reproduce}) *text += kHostile;
    one.router = kHostile;
    one.seconds = nan;
    for (ReportCheck& check : one.checks) check.name = check.detail = kHostile;
    for (ChoiceAgreement& choice : one.choices) {
      choice.mass_lost = nan;
      choice.largest_share = infinite;
      if (!choice.reason.empty()) choice.reason = kHostile;
      for (Miss& miss : choice.misses) {
        miss.side = kHostile;
        miss.missed_score = nan;
        miss.taken_score = -infinite;
        miss.to_last = miss.mass_lost = miss.bound = infinite;
      }
      for (Violation& violation : choice.violations) violation.side = kHostile;
      choice.differences = {
          {.row = 3, .tokens = 1, .token = 7, .score = nan, .last_score = infinite, .bound = infinite}};
      choice.differing = 2;
    }
  }
  report.cases.back().quality->recall = {.mean = nan, .median = nan, .p1 = nan, .worst = -infinite, .worst_row = 0};
  report.cases.back().minimum_recall = nan;
  return report;
}

AgreementReport interrupted_agreement() {
  AgreementReport report = sample_agreement();
  report.cases.resize(1);
  report.interrupted = true;
  return report;
}

std::vector<AgreementReport> all_reports() {
  return {sample_agreement(), sample_rating(), hostile_agreement(), interrupted_agreement()};
}

std::string table(const AgreementReport& report, int width = 100, bool colour = false) {
  return write_report(report, "table", {.colour = colour, .width = width});
}

std::string json_text(const AgreementReport& report) { return write_report(report, "json"); }

std::string junit(const AgreementReport& report) { return write_report(report, "junit"); }

i64 count(const std::string& text, const std::string& part) {
  i64 found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string last_line(const std::string& text) { return text.substr(text.rfind('\n', text.size() - 2) + 1); }

/// What stands between `from` and the next `to`.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const std::size_t begin = text.find(from);
  REQUIRE(begin != std::string::npos);
  return text.substr(begin, text.find(to, begin) - begin);
}

}  // namespace

TEST_CASE("agreement's table, JUnit and annotations are those of the golden files") {
  check_golden("agreement.txt", table(sample_agreement()));
  check_golden("agreement-80.txt", table(sample_agreement(), 80));
  check_golden("agreement-colour.txt", table(sample_agreement(), 100, true));
  check_golden("agreement-rating.txt", table(sample_rating()));
  check_golden("agreement.xml", junit(sample_agreement()));
  check_golden("agreement-annotations.txt", github_annotations(sample_agreement()));
}

TEST_CASE("agreement's table fits its width, and never cuts an explanation or the command that reproduces a case") {
  AgreementReport report = sample_agreement();
  report.cases[2].explanation = "the arithmetic of a side is not known";
  for (int width : {80, 100, 140}) {
    CAPTURE(width);
    CHECK(widest_line(table(report, width)) <= width);
  }
  report.cases[1].reproduce = std::string(300, 'x');
  report.cases[1].explanation = std::string(300, 'y');
  CHECK(holds(table(report, 80), "reproduce: " + report.cases[1].reproduce + "\n"));
  CHECK(holds(table(report, 80), "verdict:   failed: " + report.cases[1].explanation + "\n"));
}

TEST_CASE("agreement's table has columns for rows that cannot be judged only when there are some") {
  AgreementReport report = sample_agreement();
  CHECK(holds(table(report, 140), "unjudged"));
  CHECK(holds(table(report, 140), "unknown"));
  report.cases.resize(1);
  CHECK_FALSE(holds(table(report, 140), "unjudged"));
  CHECK_FALSE(holds(table(report, 140), "unknown"));
}

TEST_CASE("rows that no finite bound judges and rows that are empty are shown in every format") {
  AgreementReport report = sample_agreement();
  CHECK_FALSE(holds(table(report, 140), "unbounded"));
  CHECK_FALSE(holds(table(report, 140), "empty"));
  AgreementCase one = sample_case("dsa", Conclusion::inconclusive, "the bound is infinite");
  one.choices = {sample_choice(Choice::tokens, {.unbounded = 3, .empty = 2}),
                 sample_choice(Choice::scores, {.empty = 5})};
  report.cases = {one};
  CHECK(holds(table(report, 140), "unbounded"));
  CHECK(holds(table(report, 140), "empty"));
  const Json choice = parse_strictly(json_text(report))["cases"][0]["choices"][0];
  CHECK(choice["verdicts"]["unbounded"] == 3);
  CHECK(choice["verdicts"]["empty"] == 2);
  const std::string xml = junit(report);
  CHECK(holds(between(xml, "<testcase name=\"tokens\"", "</testcase>"), "3 of 5 rows cannot be judged"));
  CHECK(holds(between(xml, "<testcase name=\"scores\"", "</testcase>"),
              "<skipped message=\"nothing to compare in 5 rows\"/>"));
}

TEST_CASE("a miss of a forced id says so, and names no gap between scores that do not matter") {
  AgreementReport report = sample_agreement();
  report.cases.resize(2);
  report.cases[1].choices = {sample_choice(Choice::blocks, {.miss = 1})};
  report.cases[1].choices[0].missed = 1;
  report.cases[1].choices[0].misses = {
      {.side = "cpu", .row = 2, .missed = 9, .taken = 4, .missed_score = 1, .taken_score = 3, .forced = true}};
  const std::string text = table(report, 140);
  CHECK(holds(text, "belongs to every selection, whatever it scores"));
  CHECK_FALSE(holds(text, "apart"));
  CHECK(parse_strictly(json_text(report))["cases"][1]["choices"][0]["misses"][0]["forced"] == true);
}

TEST_CASE("agreement's table shows five misses and five violations and counts the rest") {
  AgreementReport report = sample_agreement();
  ChoiceAgreement& heads = report.cases[1].choices[0];
  heads.violations.resize(100, heads.violations[0]);
  heads.violated = 250;
  const std::string text = table(report);
  CHECK(count(text, "    miss: ") == 5);
  CHECK(count(text, "    violation: ") == 5);
  CHECK(holds(text, "more:      4 misses · 245 violations\n"));
  CHECK(holds(text, "check:     canaries: 64 bytes"));
}

TEST_CASE("agreement's last line is the verdict, the worst first") {
  AgreementReport report = sample_agreement();
  CHECK(last_line(table(report)) == "failed: 1 of 4 cases; nothing: 1; inconclusive: 1; passed: 1\n");
  report.cases = {report.cases[0], report.cases[0]};
  CHECK(last_line(table(report)) == "passed: 2 of 2 cases\n");
  CHECK(last_line(table(interrupted_agreement())) == "interrupted; passed: 1 of 1 case\n");
  report.cases.clear();
  CHECK(last_line(table(report)) == "nothing: no case ran\n");
}

TEST_CASE("agreement in colour is the same text, and hostile names do not steer the terminal") {
  std::string coloured = table(sample_agreement(), 100, true);
  for (std::size_t at; (at = coloured.find('\x1b')) != std::string::npos;) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  CHECK(coloured == table(sample_agreement()));
  const std::string text = table(hostile_agreement());
  for (const char* bad : {"\x1b", "\x01", "\r", "\t", "\x7f", "\xe2\x80\xae", "nan", "inf "})
    CHECK_FALSE(holds(text, bad));
  CHECK(repaired_utf8(text) == text);
}

TEST_CASE("agreement's JSON says what the report holds, complete comes last") {
  const Json json = parse_strictly(json_text(sample_agreement()));
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"$schema", "schema", "schema_version", "tool", "command_line", "environment",
                                         "workload", "input_hash", "side", "against", "max_miss", "cases", "warnings",
                                         "complete"});
  CHECK(json["schema"] == "misa-prof/agreement");
  CHECK(json["side"]["arithmetic"] == "f32-dot");
  CHECK(json["complete"] == true);
  REQUIRE(json["cases"].size() == 4);
  const Json& misa = json["cases"][1];
  CHECK(misa["verdict"] == "failed");
  CHECK(misa["router"] == "qnorm");
  CHECK(misa["choices"][1]["verdicts"]["follows"] == 4);
  CHECK(misa["choices"][1]["missed"] == 8);
  CHECK(misa["choices"][1]["misses"].size() == 4);
  CHECK(misa["choices"][1]["misses"][0]["bound"] == 2.5e-6);
  CHECK(misa["choices"][0]["violations"][0]["id"] == -7);
  CHECK(misa["checks"][0]["passed"] == false);
  CHECK(misa["duration_ns"] == 1234500000);
  CHECK(misa["duration_ns"].is_number_integer());
  CHECK(misa["quality_reason"] == "not asked for");
  CHECK(json["cases"][3]["choices"][0]["reason"] == "oracle has none");
  CHECK(parse_strictly(json_text(sample_rating()))["cases"][0]["quality"]["recall"]["mean"] == 0.91234);
  CHECK(parse_strictly(json_text(interrupted_agreement()))["complete"] == false);
}

TEST_CASE("agreement's numbers that are none become null with a reason, and broken UTF-8 is repaired") {
  const std::string text = json_text(hostile_agreement());
  CHECK(repaired_utf8(text) == text);
  const Json json = parse_strictly(text);
  CHECK(json["against"]["arithmetic"].is_null());
  CHECK(json["against"]["arithmetic_reason"] == "not known");
  CHECK(json["workload"]["name"] == repaired_utf8(kHostile));
  const Json& miss = json["cases"][1]["choices"][1]["misses"][0];
  CHECK(miss["missed_score"].is_null());
  CHECK(miss["missed_score_reason"] == "not a finite number");
  CHECK(miss["bound"].is_null());
  CHECK(json["cases"][1]["choices"][0]["largest_bound_share"].is_null());
  CHECK(json["cases"][1]["duration_ns"].is_null());
  CHECK(json["cases"][4]["minimum_recall"].is_null());
}

TEST_CASE("agreement's JSON obeys its published schema, and what does not is refused" *
          doctest::skip(lacks_schema_checker())) {
  for (const AgreementReport& report : all_reports()) CHECK(agrees_with_schema(json_text(report), ".json"));
  const std::string good = json_text(sample_agreement());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  CHECK_FALSE(agrees_with_schema(with("misa-prof/agreement", "misa-prof/result"), ".json"));
  CHECK_FALSE(agrees_with_schema(with("misa-prof/agreement", "misa-prof/other"), ".json"));
  CHECK_FALSE(agrees_with_schema(with("\"failed\"", "\"perhaps\""), ".json"));
  CHECK_FALSE(agrees_with_schema(with("0123456789abcdef", "0123"), ".json"));
  CHECK_FALSE(agrees_with_schema(with("\"trivial\": 2,", ""), ".json"));
  CHECK_FALSE(agrees_with_schema(with("\"trivial\": 2", "\"other\": 2"), ".json"));
  CHECK_FALSE(agrees_with_schema(with("0.0123", "NaN"), ".json"));
}

TEST_CASE("the command that an agreement report holds reads back") {
  CHECK(read_agreement_command(json_text(sample_agreement()), "report.json") == sample_agreement().command_line);
}

TEST_CASE("JUnit has a suite per indexer and a test per choice and per check") {
  const std::string text = junit(sample_agreement());
  CHECK(holds(text, R"(<testsuites name="misa-prof compare" tests="13" failures="4" errors="3" time="4.938">)"));
  CHECK(holds(text, R"(<testsuite name="dsa" tests="3" failures="0" errors="0" skipped="0" time="1.234")"));
  CHECK(holds(text, R"~(<testsuite name="misa (qnorm)" tests="5" failures="4" errors="0" skipped="0")~"));
  CHECK(holds(text, R"(<testsuite name="misa-dagger" tests="3" failures="0" errors="2" skipped="0")"));
  CHECK(holds(text, R"(<testsuite name="hisa" tests="2" failures="0" errors="1" skipped="1")"));
  for (const AgreementReport& report : all_reports()) {
    const std::string xml = junit(report);
    const auto said = [&](const std::string& name, const std::string& element) {
      CHECK(holds(between(xml, "<testsuites", ">\n"),
                  " " + name + "=\"" + std::to_string(count(xml, "<" + element + " ")) + "\""));
    };
    said("tests", "testcase");
    said("failures", "failure");
    said("errors", "error");
  }
}

TEST_CASE("a JUnit failure tells why, what was missed, and how to see it again") {
  const std::string failure = between(junit(sample_agreement()), R"(<failure type="miss")", "</failure>");
  CHECK(holds(failure, "9 misses and 1 violation, first in the heads\nmiss: tokens of cpu · row 17"));
  CHECK(holds(failure, "\nmore: 4 misses\n"));
  CHECK(holds(failure, "\nreproduce: misa-prof compare --workload prefill-8k --indexer misa"));
  CHECK(holds(junit(sample_agreement()), "violation: heads of cpu · row 3, column 5 · -7: out-of-range\n"));
  CHECK(holds(junit(sample_agreement()), R"(<skipped message="oracle has none"/>)"));
  CHECK(holds(junit(sample_rating()), R"(<failure type="recall" message="the mean recall is 0.7000)"));
}

TEST_CASE("misses that --max-miss lets pass are no JUnit failures") {
  AgreementReport report = sample_agreement();
  report.cases = {report.cases[1]};
  report.cases[0].choices.erase(report.cases[0].choices.begin());
  report.cases[0].checks.clear();
  report.cases[0].verdict = Conclusion::passed;
  report.max_miss = 9;
  CHECK(holds(junit(report), R"(tests="2" failures="0" errors="0")"));
  report.max_miss = 8;
  CHECK(holds(junit(report), R"(tests="2" failures="2" errors="0")"));
}

TEST_CASE("a case that did not pass, and a run that was interrupted, never look green in JUnit") {
  for (Conclusion verdict : {Conclusion::failed, Conclusion::inconclusive, Conclusion::nothing}) {
    AgreementReport report = sample_agreement();
    report.cases = {report.cases[0]};
    report.cases[0].verdict = verdict;
    const std::string text = junit(report);
    CHECK(count(text, "<failure ") + count(text, "<error ") == 1);
    CHECK(holds(text, R"(<testcase name="verdict")"));
  }
  CHECK(count(junit(interrupted_agreement()), "<error type=\"interrupted\"") == 1);
}

TEST_CASE("every format of a comparison shows a warning with its id, its text and where it holds") {
  AgreementReport report = sample_agreement();
  report.warnings = {{.id = "MP-W901", .what = "the first < of all"},
                     {.id = "MP-W902", .what = "another", .where = "misa"}};
  const Json json = parse_strictly(write_report(report, "json"));
  CHECK(json["warnings"] == Json::parse(R"([{"id": "MP-W901", "text": "the first < of all", "where": ""},
                                            {"id": "MP-W902", "text": "another", "where": "misa"}])"));
  const std::string table = write_report(report, "table");
  CHECK(holds(table, "\nwarning: MP-W901: the first < of all\nwarning: MP-W902: another; misa\n"));
  CHECK(count(junit(report),
              "<system-err>warning: MP-W901: the first &lt; of all\nwarning: MP-W902: another; misa"
              "</system-err>") == static_cast<i64>(report.cases.size()));
  report.warnings.clear();
  CHECK(count(junit(report), "<system-err>") == 0);
}

TEST_CASE("JUnit escapes what XML would read as markup, and replaces what it cannot hold") {
  const std::string text = junit(hostile_agreement());
  for (const char* bad : {"\x1b", "\x01", "\r", "]]>", "<b>", "\xef\xbf\xbe"}) CHECK_FALSE(holds(text, bad));
  CHECK(repaired_utf8(text) == text);
  CHECK(holds(text, "&lt;b&gt; &amp; &quot;c&quot; 'd' ]]&gt; % :,"));
  CHECK(holds(between(text, "<property name=\"workload\"", "/>"), "&#13;&#10;&#9;&lt;b&gt;"));
  CHECK(xml_characters("a\tb\r\n\x0b\xef\xbf\xbf\xff") == "a\tb\r\n\uFFFD\uFFFD\uFFFD");
}

TEST_CASE("JUnit is valid against the schema of Jenkins' reader" *
          doctest::skip(testing::lacks(std::system("xmllint --version >/dev/null 2>&1") == 0,
                                       "xmllint (scripts/install.sh --ci)"))) {
  const std::string validate =
      "xmllint --nonet --noout --schema '" + std::string(MISA_SOURCE_DIR) + "/tests/core/report/junit-10.xsd'";
  std::vector<AgreementReport> reports = all_reports();
  reports.emplace_back();
  for (const AgreementReport& report : reports) CHECK(accepts(validate, junit(report), ".xml"));
  std::string text = junit(sample_agreement());
  CHECK_FALSE(accepts(validate, text + "x", ".xml"));
  CHECK_FALSE(accepts(validate, text.replace(text.find("<failure"), 8, "<failed "), ".xml"));
}

TEST_CASE("GitHub gets a command for each case that did not pass, escaped as its runner reads it") {
  const std::string text = github_annotations(sample_agreement());
  CHECK(count(text, "::error title=misa-prof compare ") == 3);
  CHECK(count(text, "::warning title=misa-prof compare MP-W012::the machine was busy; misa\n") == 1);
  CHECK(count(text, "\n") == 3 + 1);
  CHECK(holds(text, "::error title=misa-prof compare misa::9 misses and 1 violation, first in the heads%0Amisa-prof "));
  const std::string hostile = github_annotations(hostile_agreement());
  CHECK(count(hostile, "\n") == 5 - 1 + 1);
  CHECK_FALSE(holds(hostile, "\r"));
  CHECK(holds(hostile, "]]> %25 %3A%2C "));
  CHECK(holds(hostile, "]]> %25 :, "));
  AgreementReport passed = sample_agreement();
  passed.cases.resize(1);
  passed.warnings.clear();
  CHECK(github_annotations(passed).empty());
}

TEST_CASE("agreement's formats are found by name") {
  CHECK(agreement_format_names() == std::vector<std::string_view>{"table", "json", "rows", "html", "junit"});
  CHECK_THROWS_AS(write_report(sample_agreement(), "csv"), Error);
}

}  // namespace misa
