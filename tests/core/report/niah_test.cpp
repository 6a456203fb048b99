#include <doctest/doctest.h>
#include <fmt/format.h>

#include <optional>
#include <regex>
#include <sstream>
#include <string>

#include "checks.hpp"
#include "core/report/niah_report.hpp"
#include "core/report/text.hpp"
#include "core/report/write.hpp"

namespace misa {
namespace {

NiahReport sample_map() {
  NiahReport report;
  report.tool_version = "1.2.3";
  report.command_line = {"misa-prof", "niah"};
  report.inputs = {.model = "a, \"model\"\x1b[31m",
                   .preset = "natural",
                   .heads = 64,
                   .head_dim = 128,
                   .top_k = 2048,
                   .dtype = Dtype::e4m3,
                   .mode = "top",
                   .needle_tokens = 24,
                   .gain = 3,
                   .needles = 2};
  report.contexts = {4096, 5000, 131072};
  report.depths = {0, 0.5, 1};
  report.seeds = {1, 18446744073709551615u};
  const std::optional<NiahCell> none;
  const auto cell = [](double mean, double worst) { return std::optional(NiahCell{mean, worst, 4}); };
  report.maps.push_back(
      {.name = "dsa",
       .spec = make_indexer("dsa", {}),
       .backend = "cpu",
       .cells = {
           {cell(1, 1), cell(1, 1), cell(1, 1)}, {none, none, none}, {cell(1, 1), cell(0.9999, 0.9), cell(1, 1)}}});
  report.maps.push_back(
      {.name = "misa (qnorm, h 1)",
       .spec = make_indexer("misa", {}),
       .backend = "cpu",
       .cells = {{cell(0.5, 0), cell(0.25, 0.125), cell(0, 0)}, {none, none, none}, {none, none, none}}});
  report.skipped.push_back({"context 5000", "cpu", "needles overlap"});
  return report;
}

std::string map_table(const NiahReport& report, int width, bool colour) {
  return write_report(report, "table", {.colour = colour, .width = width});
}

std::string map_without_colour(const std::string& text) {
  return std::regex_replace(text, std::regex("\x1b\\[[0-9;]*m"), "");
}

}  // namespace

TEST_CASE("a map is read by its digits alone: colour adds nothing but colour") {
  const NiahReport report = sample_map();
  for (const int width : {30, 60, 100, 200}) {
    INFO("width ", width);
    const std::string plain = map_table(report, width, false);
    CHECK(plain.find('\x1b') == std::string::npos);
    // Trailing spaces are cut where they have no colour.
    const auto lines = [](const std::string& text) {
      std::string out, line;
      for (std::istringstream in(text); std::getline(in, line);) {
        while (!line.empty() && line.back() == ' ') line.pop_back();
        out += line + "\n";
      }
      return out;
    };
    CHECK(lines(map_without_colour(map_table(report, width, true))) == lines(plain));
  }
}

TEST_CASE("a map fits the terminal, in parts where it must") {
  const NiahReport report = sample_map();
  for (const int width : {24, 40, 50, 80, 120}) {
    const std::string text = map_table(report, width, false);
    const std::size_t begin = text.find("\n\n") + 2, end = text.find("indexer");
    std::string line;
    std::size_t cells = 0;
    for (std::istringstream in(text.substr(begin, end - begin)); std::getline(in, line);) {
      CHECK_MESSAGE(display_width(line) <= width, width, ": ", line);
      for (const std::string& word : words_of(line)) {
        cells += word == "–" || (word.find_first_not_of("0123456789") == std::string::npos) ? 1 : 0;
      }
    }
    CHECK_MESSAGE(cells >= 18, width);  // 2 maps of 3 x 3, and depths
  }
}

TEST_CASE("only a needle that is found whole is 100, and a cell that is not known is no 0") {
  const std::string text = map_table(sample_map(), 100, false);
  CHECK(text.find(" 50 %  100    –   99     50 %   25    –    –") != std::string::npos);
  CHECK(text.find("skipped context 5000: needles overlap") != std::string::npos);
}

TEST_CASE("means and the worst needle of a map are those of its known cells") {
  const NiahReport report = sample_map();
  CHECK(report.maps[1].mean() == doctest::Approx(0.25));
  const auto worst = report.maps[1].worst(report.contexts, report.depths);
  REQUIRE(worst.has_value());
  CHECK(worst->context == 4096);
  CHECK(worst->depth == 0);
  CHECK(worst->share == 0);
  NiahMap unknown = report.maps[1];
  for (auto& column : unknown.cells) column.assign(3, std::nullopt);
  CHECK_FALSE(unknown.mean().has_value());
  CHECK_FALSE(unknown.worst(report.contexts, report.depths).has_value());
}

TEST_CASE("a map's JSON is valid, whatever the texts and whether cells are known or not" *
          doctest::skip(lacks_schema_checker())) {
  NiahReport report = sample_map();
  CHECK(agrees_with_schema(write_report(report, "json"), ".json"));
  report.interrupted = true;
  for (auto& column : report.maps[0].cells) column.assign(3, std::nullopt);
  CHECK(agrees_with_schema(write_report(report, "json"), ".json"));
}

TEST_CASE("a map's CSV has a line for each cell") {
  const std::string text = write_report(sample_map(), "csv");
  std::string line;
  i64 lines = 0;
  for (std::istringstream in(text); std::getline(in, line);) ++lines;
  CHECK(lines == 1 + 2 * 3 * 3);
  CHECK(text.find("\"misa (qnorm, h 1)\",misa,pooled,cpu,\"a, \"\"model\"\"") != std::string::npos);
  CHECK(text.find(",131072,0.5,0,,\r\n") != std::string::npos);
}

TEST_CASE("the drawing of all maps is XML and names each map, whatever it is called" *
          doctest::skip(testing::lacks(std::system("xmllint --version >/dev/null 2>&1") == 0,
                                       "xmllint (scripts/install.sh --ci)"))) {
  NiahReport report = sample_map();
  report.maps[0].name = "<script>&\"\x01";
  const std::string text = write_report(report, "svg");
  CHECK(accepts("xmllint --noout", text, ".svg"));
  CHECK(text.find("<script") == std::string::npos);
  CHECK(text.find("misa (qnorm, h 1)") != std::string::npos);
  // Transforms hold one map each, and its drawing in it.
  std::size_t groups = 0;
  for (std::size_t at = text.find("<g transform"); at != std::string::npos; at = text.find("<g transform", at + 1)) {
    ++groups;
  }
  CHECK(groups == 2 * report.maps.size());
  report.maps.clear();
  CHECK(accepts("xmllint --noout", write_report(report, "svg"), ".svg"));
}

}  // namespace misa
