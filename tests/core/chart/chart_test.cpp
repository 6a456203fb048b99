#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <string>

#include "core/chart/bars.hpp"
#include "core/chart/heat_map.hpp"
#include "core/chart/plot.hpp"
#include "core/chart/scale.hpp"
#include "core/chart/svg.hpp"

namespace misa::chart {
namespace {

constexpr const char* kHostile = "<script>alert('1')</script> & \"]]>";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// What a reader makes of escaped text.
std::string read_back(std::string text) {
  for (const auto& [from, to] :
       {std::pair{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#39;", "'"}, {"&amp;", "&"}}) {
    text = replaced(std::move(text), from, to);
  }
  return text;
}

/// WCAG 2's contrast of two colours "#rrggbb" or "#rgb".
double contrast(const std::string& a, const std::string& b) {
  const auto luminance = [](std::string colour) {
    colour.erase(0, 1);
    if (colour.size() == 3) colour = {colour[0], colour[0], colour[1], colour[1], colour[2], colour[2]};
    constexpr std::array kWeights{0.2126, 0.7152, 0.0722};
    double sum = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const double value = std::stoi(colour.substr(2 * i, 2), nullptr, 16) / 255.0;
      sum += kWeights[i] * (value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4));
    }
    return sum;
  };
  const double one = luminance(a) + 0.05, other = luminance(b) + 0.05;
  return std::max(one / other, other / one);
}

/// The value of a variable in a part of the style sheet.
std::string variable(const std::string& css, const std::string& name) {
  const std::size_t at = css.find("--" + name + ":");
  REQUIRE(at != std::string::npos);
  const std::size_t begin = at + name.size() + 3;
  return css.substr(begin, css.find_first_of(";}", begin) - begin);
}

Plot hostile_plot() {
  Plot plot{.title = kHostile, .description = kHostile};
  plot.x.title = plot.y.title = kHostile;
  plot.x.text = [](double) { return std::string(kHostile); };
  plot.series = {{.name = kHostile, .points = {{.x = 1, .y = 2, .tip = kHostile}, {.x = 2, .y = 3, .tip = ""}}}};
  plot.marks = {{.at = 1.5, .low = 1.2, .high = 1.7, .name = kHostile}};
  return plot;
}

TEST_CASE("escaped text has no character that means something in markup, and reads back as it was") {
  std::mt19937 random(1);
  const std::string letters = "<>&\"'ab;#39ltgamp";
  for (int i = 0; i < 1000; ++i) {
    std::string text;
    for (int j = 0; j < 12; ++j) text += letters[random() % letters.size()];
    const std::string safe = escaped(text);
    CAPTURE(text);
    CHECK(safe.find_first_of("<>\"'") == std::string::npos);
    CHECK(read_back(safe) == text);
  }
  CHECK(escaped(std::string_view("a\x01\x00z\xff", 5)) == "a\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD");
}

TEST_CASE("ticks are round, ascending, within the scale, and no more than asked for") {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> exponent(-9, 9), unit(0, 1);
  for (int i = 0; i < 2000; ++i) {
    const bool log = i % 2 == 1;
    const double low = std::pow(10, exponent(random)) * (log || i % 4 == 0 ? 1 : -1);
    const double high = log ? low * std::pow(10, 8 * unit(random) + 0.01) : low + std::pow(10, exponent(random));
    if (!(high - low > 1e-9 * std::abs(low))) continue;
    const Scale scale{low, high, 0, 100, log};
    const int most = 4 + i % 6;
    const std::vector<double> values = ticks(scale, most);
    CAPTURE(i);
    CAPTURE(low);
    CAPTURE(high);
    CHECK(static_cast<int>(values.size()) <= most);
    CHECK((log || values.size() >= 2));
    CHECK(std::is_sorted(values.begin(), values.end()));
    for (const double value : values) {
      CHECK(value >= low - 1e-6 * std::abs(high - low));
      CHECK(value <= high + 1e-6 * std::abs(high - low));
    }
  }
  CHECK(ticks({1, 1000, 0, 1, true}, 4) == std::vector<double>{1, 10, 100, 1000});
  CHECK(ticks({0, 1, 0, 1, false}, 6) == std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1});
}

TEST_CASE("a scale over values holds them all, and ends at its coordinates") {
  for (const bool log : {false, true}) {
    const Scale scale = scale_over({3, 500, std::nan(""), 20}, 10, 110, log);
    CHECK(scale.low < 3);
    CHECK(scale.high > 500);
    CHECK(scale.at(scale.low) == doctest::Approx(10));
    CHECK(scale.at(scale.high) == doctest::Approx(110));
    const double middle = log ? std::sqrt(scale.low * scale.high) : (scale.low + scale.high) / 2;
    CHECK(scale.at(middle) == doctest::Approx(60));
    for (const std::vector<double>& none : {std::vector<double>{}, {7}, {-1}}) {
      const Scale single = scale_over(none, 0, 1, log);
      CHECK(single.low < single.high);
      CHECK((!log || single.low > 0));
    }
  }
}

TEST_CASE("tokens are written in powers of 1024 where they are such") {
  CHECK(token_text(512) == "512");
  CHECK(token_text(4096) == "4k");
  CHECK(token_text(131072) == "128k");
  CHECK(token_text(1048576) == "1m");
  CHECK(token_text(5000) == "5000");
  CHECK(token_text(22014) == "21.5k");
}

TEST_CASE("every colour of series and text has a contrast of 4.5 with the paper, in light, dark and print") {
  const std::string css(style_sheet());
  const std::size_t dark = css.find("prefers-color-scheme"), print = css.find("@media print");
  for (const std::string& mode : {css.substr(0, dark), css.substr(dark, print - dark), css.substr(print)}) {
    const std::string paper = variable(mode, "paper");
    for (const char* name : {"ink", "soft", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"}) {
      CAPTURE(name);
      CHECK(contrast(variable(mode, name), paper) >= 4.5);
      CHECK((name[0] != 's' || contrast(variable(mode, name), variable(mode, "on")) >= 4.5));
    }
  }
}

TEST_CASE("text on a cell of a heat map can be read, and colours become lighter up to 90 %") {
  double before = 0;
  for (int percent = 0; percent <= 100; ++percent) {
    const HeatColour colour = heat_colour(percent / 100.0);
    std::string hex = "#";
    for (const int channel : {colour.red, colour.green, colour.blue}) {
      constexpr const char* kDigits = "0123456789abcdef";
      hex += {kDigits[channel / 16], kDigits[channel % 16]};
    }
    CAPTURE(percent);
    CHECK(contrast(hex, colour.pale_text ? "#fff" : "#000") >= 4.5);
    const double lightness = contrast(hex, "#000");
    CHECK((percent > 90 || lightness > before));
    before = lightness;
  }
}

TEST_CASE("a text from outside is nowhere markup: in titles, tips, ticks, legends and names") {
  HeatMap map{.title = kHostile, .description = kHostile, .x_title = kHostile, .y_title = kHostile};
  map.columns = map.rows = {kHostile};
  map.share = [](i64, i64) { return 0.5; };
  map.what = kHostile;
  BarChart bars{.title = kHostile, .description = kHostile, .axis = kHostile};
  bars.parts = {kHostile};
  bars.bars = {{kHostile, kHostile, {{0, 1, kHostile}}}};
  Presence presence{.title = kHostile, .description = kHostile, .x_title = kHostile, .y_title = kHostile};
  presence.columns = 4;
  presence.rows = {kHostile};
  presence.chosen = {{1, 2}};
  for (const Figure& figure : {draw(hostile_plot()), draw(map), draw(bars), draw(presence)}) {
    for (const std::string& svg : {inline_svg(figure, "a"), standalone_svg(figure)}) {
      CHECK(svg.find("<script") == std::string::npos);
      CHECK(svg.find("alert('1')") == std::string::npos);
      CHECK(svg.find("&lt;script&gt;alert(&#39;1&#39;)") != std::string::npos);
      CHECK(svg.find("role=\"img\"") != std::string::npos);
    }
  }
}

TEST_CASE("what cannot be drawn is left out, and a cell of unknown share is grey") {
  Plot plot{.title = "t"};
  plot.y.log = true;
  plot.series = {{.name = "s", .points = {{.x = 1, .y = 0}, {.x = 2, .y = std::nan("")}, {.x = 3, .y = 4}}}};
  const std::string marks = draw(plot).marks;
  CHECK(marks.find("nan") == std::string::npos);
  CHECK(marks.find("inf") == std::string::npos);
  HeatMap map{.title = "t"};
  map.columns = {"4k", "8k"};
  map.rows = {"0"};
  map.share = [](i64, i64 column) { return column == 0 ? std::optional<double>() : 0.999; };
  const std::string cells = draw(map).marks;
  CHECK(cells.find("class=\"none\"") != std::string::npos);
  CHECK(cells.find(">99<") != std::string::npos);  // not 100: a token is missing
}

TEST_CASE("every style has a shape and a colour that no other has") {
  std::vector<std::string> shapes;
  for (int style = 0; style < 2 * kStyles; ++style) {
    Marks marks;
    marks.marker(0, 0, style, true);
    for (const std::string& other : shapes) CHECK(marks.markup() != other);
    shapes.push_back(marks.markup());
  }
}

}  // namespace
}  // namespace misa::chart
