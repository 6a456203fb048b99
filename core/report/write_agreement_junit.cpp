#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/report/agreement_writers.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

/// As XML 1.0 takes it, in an attribute or between tags.
std::string xml(std::string_view text) {
  std::string out;
  for (const char c : repaired_utf8(text)) {
    const unsigned char code = static_cast<unsigned char>(c);
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\n')
      out += "&#10;";
    else if (c == '\t')
      out += "&#9;";
    else if (code < 0x20)
      out += "\xEF\xBF\xBD";
    else
      out += c;
  }
  // U+FFFE and U+FFFF are no characters of XML.
  for (const std::string_view forbidden : {"\xEF\xBF\xBE", "\xEF\xBF\xBF"}) {
    for (std::size_t at = 0; (at = out.find(forbidden, at)) != std::string::npos; at += 3)
      out.replace(at, 3, "\xEF\xBF\xBD");
  }
  return out;
}

enum class Result { passed, failed, error, skipped };

/// A testcase of a suite.
struct Test {
  std::string name, type, message, body;
  Result result = Result::passed;
};

Test choice_test(const ReportChoice& choice) {
  Test test{.name = choice.name, .type = {}, .message = {}, .body = {}};
  if (!choice.reason.empty()) {
    test.result = Result::skipped;
    test.message = choice.reason;
  } else if (choice.missed + choice.violated > 0) {
    test.result = Result::failed;
    test.type = choice.violated > 0 ? "violation" : "miss";
    test.message = fmt::format("{} misses, {} violations in {} rows", choice.missed, choice.violated, choice.rows);
    for (const ReportMiss& miss : choice.misses) test.body += miss_text(choice.name, miss) + "\n";
    for (const ReportViolation& violation : choice.violations) test.body += violation_text(violation) + "\n";
  } else if (choice.verdicts.unknown > 0) {
    test.result = Result::error;
    test.type = "unknown";
    test.message = fmt::format("{} of {} rows differ, and the arithmetic of a side is not known",
                               choice.verdicts.unknown, choice.rows);
  }
  return test;
}

std::vector<Test> tests_of(const AgreementCase& one, i64 max_miss) {
  std::vector<Test> tests;
  for (const ReportChoice& choice : one.choices) {
    Test& test = tests.emplace_back(choice_test(choice));
    // Misses that --max-miss excuses are no failures.
    if (one.verdict == CaseVerdict::passed && max_miss > 0 && test.result == Result::failed)
      test.result = Result::passed;
  }
  for (const ReportCheck& check : one.checks) {
    Test& test = tests.emplace_back();
    test.name = check.name;
    if (check.passed) continue;
    test.result = Result::failed;
    test.type = "robustness";
    test.message = check.detail;
  }
  if (one.quality) {
    Test& test = tests.emplace_back();
    test.name = "quality";
    if (one.verdict == CaseVerdict::failed) {
      test.result = Result::failed;
      test.type = "quality";
      test.message = one.explanation;
    }
  }
  const bool told = std::any_of(tests.begin(), tests.end(), [](const Test& test) {
    return test.result == Result::failed || test.result == Result::error;
  });
  if (one.verdict != CaseVerdict::passed && !told) {
    Test& test = tests.emplace_back();
    test.name = "verdict";
    test.result = one.verdict == CaseVerdict::failed ? Result::failed : Result::error;
    test.type = case_verdict_name(one.verdict);
    test.message = one.explanation;
  }
  for (Test& test : tests) {
    if (test.result == Result::failed || test.result == Result::error) test.body += one.reproduce;
  }
  return tests;
}

i64 count(const std::vector<Test>& tests, Result result) {
  return std::count_if(tests.begin(), tests.end(), [&](const Test& test) { return test.result == result; });
}

std::string counts(const std::vector<Test>& tests, double seconds) {
  return fmt::format(R"(tests="{}" failures="{}" errors="{}" skipped="{}" time="{:.3f}")", tests.size(),
                     count(tests, Result::failed), count(tests, Result::error), count(tests, Result::skipped), seconds);
}

}  // namespace

std::string write_agreement_junit(const AgreementReport& report) {
  std::string suites;
  for (const AgreementCase& one : report.cases) {
    const std::vector<Test> tests = tests_of(one, report.max_miss);
    const std::string name = "misa-prof.compare." + xml(one.indexer);
    suites += fmt::format("  <testsuite name=\"{}\" {}>\n", name, counts(tests, one.seconds));
    suites += "    <properties>\n";
    for (const auto& [key, value] : {std::pair<std::string, std::string>{"side", report.side.name},
                                     {"against", report.against.name},
                                     {"workload", report.workload.name},
                                     {"input_hash", report.input_hash},
                                     {"version", report.tool_version}}) {
      suites += fmt::format("      <property name=\"{}\" value=\"{}\"/>\n", key, xml(value));
    }
    suites += "    </properties>\n";
    for (const Test& test : tests) {
      const std::string head =
          fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"0\"", name, xml(test.name));
      if (test.result == Result::passed) {
        suites += head + "/>\n";
      } else if (test.result == Result::skipped) {
        suites += head + fmt::format("><skipped message=\"{}\"/></testcase>\n", xml(test.message));
      } else {
        const char* tag = test.result == Result::failed ? "failure" : "error";
        suites += head + fmt::format("><{0} type=\"{1}\" message=\"{2}\">{3}</{0}></testcase>\n", tag, xml(test.type),
                                     xml(test.message), xml(test.body));
      }
    }
    suites += "  </testsuite>\n";
  }
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"misa-prof compare\">\n" + suites +
         "</testsuites>\n";
}

}  // namespace misa
