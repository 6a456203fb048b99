#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "core/report/text.hpp"
#include "core/report/text_table.hpp"
#include "core/report/write.hpp"
#include "tests/core/report/checks.hpp"
#include "tests/core/report/sample_report.hpp"

namespace misa {
namespace {

std::string table(const Report& report, int width = 100, bool colour = false) {
  return write_report(report, "table", {.colour = colour, .width = width});
}

}  // namespace

TEST_CASE("the table and the Markdown are those of the golden files") {
  const Report report = sample_report();
  check_golden("table.txt", table(report));
  check_golden("table-80.txt", table(report, 80));
  check_golden("table-colour.txt", table(report, 100, true));
  check_golden("markdown.txt", write_report(report, "md"));
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
  CHECK(write_report(report, "md", {.colour = true, .width = 100}).find('\x1b') == std::string::npos);
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
  report.cases[1].spec.name = "mi|sa\x07\r\n";
  report.warnings[0].what = "line\nbreak";
  const std::string text = table(report);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\x07') == std::string::npos);
  CHECK(text.find('\r') == std::string::npos);
  CHECK(text.find("\xe2\x80\xae") == std::string::npos);
  CHECK(repaired_utf8(text) == text);
  const std::string markdown = write_report(report, "md");
  CHECK(markdown.find("mi\\|sa") != std::string::npos);
  CHECK(markdown.find("\\`x\\`") != std::string::npos);
  CHECK(markdown.find('\x1b') == std::string::npos);
}

TEST_CASE("Markdown tables have as many bars in every line") {
  std::istringstream lines(write_report(sample_report(), "md"));
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
  report.cases[0].stages[0].seconds = {.median = std::nan(""), .p10 = std::nan(""), .p90 = std::nan(""), .samples = 0};
  report.cases[1].quality->recall.mean = std::nan("");
  CHECK(table(report).find("n/a") != std::string::npos);
  CHECK(table(report).find("nan") == std::string::npos);
  CHECK(write_report(report, "md").find("nan") == std::string::npos);
}

TEST_CASE("a ratio whose interval holds 1 is marked, has no colour, and the table says what the mark means") {
  const std::string text = table(sample_report(), 140);
  CHECK(text.find("4.21×   4.11–4.27") != std::string::npos);
  CHECK(text.find("~2.10×  0.930–2.40") != std::string::npos);
  CHECK(text.find("~ inconclusive: 1 lies in the interval of misa-dagger (qnorm)") != std::string::npos);
  const std::string coloured = table(sample_report(), 140, true);
  CHECK(coloured.find(styled("4.21×", Style::good, true)) != std::string::npos);
  for (const Style style : {Style::good, Style::bad}) {
    CHECK(coloured.find(styled("~2.10×", style, true)) == std::string::npos);
  }
  Report clear = sample_report();
  clear.cases[2].speedup->low = 2;
  CHECK(table(clear, 140).find("inconclusive") == std::string::npos);
  clear.cases[2].speedup->low = 0.5;
  clear.cases[2].speedup->high = 0.9;
  CHECK(table(clear, 140, true).find(styled("2.10×", Style::bad, true)) != std::string::npos);
}

TEST_CASE("a ratio measured beside other work has no colour, and one of few samples says so") {
  Report report = sample_report();
  report.measurement.loaded = "threads waited";
  CHECK(table(report, 140, true).find(styled("4.21×", Style::good, true)) == std::string::npos);
  CHECK(table(report, 140, true).find("4.21×") != std::string::npos);
  report.cases[1].speedup->low.reset();
  report.cases[1].speedup->rounds = 3;
  CHECK(table(report, 140).find("4.21×     too few") != std::string::npos);
  CHECK(table(report, 140).find("too few samples: 3 of the 6 that an interval takes, for misa:") != std::string::npos);
}

TEST_CASE("figures that cannot be true are replaced by the reason") {
  Report report = sample_report();
  report.cases[1].closure_residual = -182.37;
  for (const std::string& text : {table(report, 140), write_report(report, "md")}) {
    CHECK(text.find("-18237") == std::string::npos);
    CHECK(text.find("stages do not add up to the whole: the samples spread by more than that") != std::string::npos);
    const std::size_t at = text.find("cached");
    REQUIRE(at != std::string::npos);
    const std::size_t line = text.rfind('\n', at);
    CHECK(text.substr(line, at - line).find("102") == std::string::npos);
  }
}

TEST_CASE("a report without cases still tells why") {
  Report report = sample_report();
  report.cases.clear();
  report.interrupted = true;
  const std::string text = table(report);
  CHECK(text.find("skipped misa on cuda: no device") != std::string::npos);
  CHECK(text.find("interrupted") != std::string::npos);
  CHECK(write_report(report, "md").find("interrupted") != std::string::npos);
}

TEST_CASE("several backends are told apart") {
  Report report = sample_report();
  report.cases[1].backend = "cuda";
  CHECK(table(report).find("misa on cuda") != std::string::npos);
  CHECK(table(report).find("dsa on cpu") != std::string::npos);
}

}  // namespace misa
