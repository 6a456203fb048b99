#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "core/report/text.hpp"
#include "core/report/write.hpp"
#include "tests/core/report/checks.hpp"
#include "tests/core/report/sample_report.hpp"

namespace misa {
namespace {

std::string table(const Report& report, int width = 100, bool colour = false) {
  return write_report(report, Format::table, {.colour = colour, .width = width});
}

}  // namespace

TEST_CASE("the table and the Markdown are those of the golden files") {
  const Report report = sample_report();
  check_golden("table.txt", table(report));
  check_golden("table-80.txt", table(report, 80));
  check_golden("table-colour.txt", table(report, 100, true));
  check_golden("markdown.txt", write_report(report, Format::markdown));
}

TEST_CASE("the table fits its width") {
  for (int width : {80, 100, 140}) {
    CAPTURE(width);
    CHECK(widest_line(table(sample_report(), width)) <= width);
  }
}

TEST_CASE("without colour there is no escape, with colour the same text") {
  const Report report = sample_report();
  CHECK(table(report).find('\x1b') == std::string::npos);
  CHECK(write_report(report, Format::markdown, {.colour = true, .width = 100}).find('\x1b') == std::string::npos);
  std::string coloured = table(report, 100, true);
  CHECK(coloured.find('\x1b') != std::string::npos);
  for (std::size_t at; (at = coloured.find('\x1b')) != std::string::npos;) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  CHECK(coloured == table(report));
}

TEST_CASE("names from outside cannot steer the terminal or break the table") {
  Report report = sample_report();
  report.workload.name = "evil\x1b[31m\nname|`x`\xff\xe2\x80\xae";
  report.cases[1].indexer = "mi|sa\x07\r\n";
  report.warnings[0].what = "line\nbreak";
  const std::string text = table(report);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\x07') == std::string::npos);
  CHECK(text.find('\r') == std::string::npos);
  CHECK(text.find("\xe2\x80\xae") == std::string::npos);
  CHECK(repaired_utf8(text) == text);
  const std::string markdown = write_report(report, Format::markdown);
  CHECK(markdown.find("mi\\|sa") != std::string::npos);
  CHECK(markdown.find("\\`x\\`") != std::string::npos);
  CHECK(markdown.find('\x1b') == std::string::npos);
}

TEST_CASE("Markdown tables have as many bars in every line") {
  std::istringstream lines(write_report(sample_report(), Format::markdown));
  std::size_t before = 0;
  i64 width = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto bars = static_cast<std::size_t>(std::count(line.begin(), line.end(), '|'));
    if (before > 0 && bars > 0) {
      CHECK(bars == before);
      CHECK(display_width(line) == width);
    }
    before = bars;
    width = display_width(line);
  }
}

TEST_CASE("numbers that are not known are shown as such") {
  Report report = sample_report();
  report.cases[0].stages[0].time = {
      .median_s = std::nan(""), .p10_s = std::nan(""), .p90_s = std::nan(""), .samples = 0};
  report.cases[1].quality->recall.mean = std::nan("");
  CHECK(table(report).find("n/a") != std::string::npos);
  CHECK(table(report).find("nan") == std::string::npos);
  CHECK(write_report(report, Format::markdown).find("nan") == std::string::npos);
}

TEST_CASE("a report without cases still tells why") {
  Report report = sample_report();
  report.cases.clear();
  report.interrupted = true;
  const std::string text = table(report);
  CHECK(text.find("skipped misa on cuda: no device") != std::string::npos);
  CHECK(text.find("interrupted") != std::string::npos);
  CHECK(write_report(report, Format::markdown).find("interrupted") != std::string::npos);
}

TEST_CASE("several backends are told apart") {
  Report report = sample_report();
  report.cases[1].backend = "cuda";
  CHECK(table(report).find("misa on cuda") != std::string::npos);
  CHECK(table(report).find("dsa on cpu") != std::string::npos);
}

}  // namespace misa
