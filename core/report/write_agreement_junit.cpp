#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"
#include "core/report/xml.hpp"

namespace misa {
namespace {

enum class Outcome { passed, skipped, error, failure };
constexpr std::string_view outcome_name(Outcome outcome) {
  constexpr std::string_view kNames[] = {"passed", "skipped", "error", "failure"};
  return kNames[static_cast<int>(outcome)];
}

struct Test {
  std::string name;
  Outcome outcome = Outcome::passed;
  std::string type = {}, message = {}, body = {};  ///< of an outcome other than passed
  std::string output = {};
};

struct Suite {
  std::string name, classname;
  double seconds = 0;
  std::vector<std::pair<std::string, std::string>> properties = {};
  std::vector<Test> tests = {};

  i64 count(Outcome outcome) const {
    return std::count_if(tests.begin(), tests.end(), [&](const Test& test) { return test.outcome == outcome; });
  }
};

std::string time_attribute(double seconds) {
  return std::isfinite(seconds) && seconds >= 0 ? fmt::format(" time=\"{:.3f}\"", seconds) : std::string();
}

std::string body_of(const AgreementCase& one, std::span<const ChoiceAgreement> choices) {
  std::vector<std::string> lines{case_reason(one)};
  for (const Fact& fact : describe_findings(choices, std::numeric_limits<i64>::max())) {
    lines.push_back(fact.name + ": " + joined(fact.parts, " · "));
  }
  if (!one.reproduce.empty()) lines.push_back("reproduce: " + one.reproduce);
  return joined(lines, "\n");
}

std::string counts_of(const ChoiceAgreement& choice) {
  std::vector<std::string> counts;
  for (std::size_t i = 0; i < kVerdictWords.size(); ++i) {
    counts.push_back(fmt::format("{} {}", kVerdictWords[i], choice.verdicts[i]));
  }
  return fmt::format("rows {}: {}", choice.rows, joined(counts, ", "));
}

Test test_of(const AgreementCase& one, const ChoiceAgreement& choice, bool misses_fail) {
  Test test{.name = std::string(choice_name(choice.choice)), .output = counts_of(choice)};
  for (const Fact& fact : describe_differences({&choice, 1}, std::numeric_limits<i64>::max())) {
    test.output += "\n" + fact.name + ": " + joined(fact.parts, " · ");
  }
  const i64 unjudged =
      choice.count(Verdict::unbounded) + choice.count(Verdict::unknown) + choice.count(Verdict::unjudged);
  if (choice.rows == 0) {
    test.outcome = Outcome::skipped;
    test.message = choice.reason.empty() ? "no rows" : choice.reason;
    test.output.clear();
  } else if (choice.rows == choice.count(Verdict::empty)) {
    test.outcome = Outcome::skipped;
    test.message = "nothing to compare in " + counted(choice.rows, "row", "rows");
  } else if (choice.violated > 0 || (choice.missed > 0 && misses_fail)) {
    test.outcome = Outcome::failure;
    test.type = choice.violated > 0 ? "violation" : "miss";
    test.message = fmt::format("misses: {}, violations: {}, in {}", choice.missed, choice.violated,
                               counted(choice.rows, "row", "rows"));
    test.body = body_of(one, {&choice, 1});
  } else if (unjudged > 0 && one.verdict != Conclusion::passed) {
    test.outcome = Outcome::error;
    test.type = "unjudged";
    test.message = fmt::format("{} of {} cannot be judged", unjudged, counted(choice.rows, "row", "rows"));
    test.body = body_of(one, {&choice, 1});
  }
  return test;
}

Suite suite_of(const AgreementReport& report, const AgreementCase& one) {
  Suite suite{.name = case_name(one), .classname = "misa-prof." + one.indexer, .seconds = one.seconds};
  suite.properties = {{"tool_version", report.tool_version},
                      {"workload", report.workload.name},
                      {"input_hash", report.input_hash},
                      {"side", side_name(report.side)},
                      {"against", side_name(report.against)},
                      {"verdict", std::string(conclusion_name(one.verdict))},
                      {"reproduce", one.reproduce}};
  i64 missed = 0;
  for (const ChoiceAgreement& choice : one.choices) missed += choice.missed;
  for (const ChoiceAgreement& choice : one.choices)
    suite.tests.push_back(test_of(one, choice, missed > report.max_miss));
  for (const ReportCheck& check : one.checks) {
    Test& test = suite.tests.emplace_back();
    test.name = check.name;
    test.output = check.detail;
    if (check.passed) continue;
    test.outcome = Outcome::failure;
    test.type = "check";
    test.message = check.detail;
    test.body = body_of(one, {});
  }
  if (one.quality) {
    Test& test = suite.tests.emplace_back();
    test.name = "recall";
    test.output = joined(describe_quality(*one.quality, one.minimum_recall).parts, " · ");
    const std::optional<double> recall = one.quality->recall.mean;
    if (one.minimum_recall && recall && !(*recall >= *one.minimum_recall)) {
      test.outcome = Outcome::failure;
      test.type = "recall";
      test.message = case_reason(one);
      test.body = body_of(one, {});
    }
  }
  // A case that did not pass must not look as if it had.
  if (one.verdict != Conclusion::passed && suite.count(Outcome::failure) + suite.count(Outcome::error) == 0) {
    suite.tests.push_back({.name = "verdict",
                           .outcome = one.verdict == Conclusion::failed ? Outcome::failure : Outcome::error,
                           .type = std::string(conclusion_name(one.verdict)),
                           .message = case_reason(one),
                           .body = body_of(one, {}),
                           .output = {}});
  }
  return suite;
}

std::string test_text(const Test& test, const std::string& classname) {
  std::string out = "    <testcase" + xml_attribute("name", test.name) + xml_attribute("classname", classname) + ">\n";
  if (test.outcome != Outcome::passed) {
    const std::string_view element = outcome_name(test.outcome);
    out += fmt::format("      <{}", element);
    if (!test.type.empty()) out += xml_attribute("type", test.type);
    out += xml_attribute("message", test.message);
    out += test.body.empty() ? "/>\n" : fmt::format(">{}</{}>\n", xml_escaped(test.body, false), element);
  }
  if (!test.output.empty()) out += "      <system-out>" + xml_escaped(test.output, false) + "</system-out>\n";
  return out + "    </testcase>\n";
}

std::string suite_text(const Suite& suite, const ReportEnvironment& environment, std::span<const Warning> warnings) {
  std::string out = "  <testsuite" + xml_attribute("name", suite.name) +
                    xml_attribute("tests", static_cast<i64>(suite.tests.size())) +
                    xml_attribute("failures", suite.count(Outcome::failure)) +
                    xml_attribute("errors", suite.count(Outcome::error)) +
                    xml_attribute("skipped", suite.count(Outcome::skipped)) + time_attribute(suite.seconds);
  if (environment.timestamp_utc) out += xml_attribute("timestamp", *environment.timestamp_utc);
  if (environment.host) out += xml_attribute("hostname", *environment.host);
  out += ">\n";
  if (!suite.properties.empty()) {
    out += "    <properties>\n";
    for (const auto& [name, value] : suite.properties) {
      out += "      <property" + xml_attribute("name", name) + xml_attribute("value", value) + "/>\n";
    }
    out += "    </properties>\n";
  }
  for (const Test& test : suite.tests) out += test_text(test, suite.classname);
  if (!warnings.empty()) {
    std::vector<std::string> lines;
    for (const Warning& warning : warnings) lines.push_back(warning_line(warning));
    out += "    <system-err>" + xml_escaped(joined(lines, "\n"), false) + "</system-err>\n";
  }
  return out + "  </testsuite>\n";
}

}  // namespace

std::string write_agreement_junit(const AgreementReport& report, const WriterOptions& /*options*/) {
  std::vector<Suite> suites;
  for (const AgreementCase& one : report.cases) suites.push_back(suite_of(report, one));
  if (report.interrupted) {
    suites.push_back({.name = "misa-prof compare", .classname = "misa-prof.compare"});
    suites.back().tests.push_back({"complete", Outcome::error, "interrupted", "interrupted: cases are missing"});
  }
  i64 tests = 0, failures = 0, errors = 0;
  double seconds = 0;
  std::string body;
  for (const Suite& suite : suites) {
    tests += static_cast<i64>(suite.tests.size());
    failures += suite.count(Outcome::failure);
    errors += suite.count(Outcome::error);
    seconds += suite.seconds;
    body += suite_text(suite, report.environment, report.warnings);
  }
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + xml_attribute("name", "misa-prof compare") +
         xml_attribute("tests", tests) + xml_attribute("failures", failures) + xml_attribute("errors", errors) +
         time_attribute(seconds) + ">\n" + body + "</testsuites>\n";
}

}  // namespace misa
