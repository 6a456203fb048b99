#include "core/chart/svg.hpp"

#include <fmt/format.h>

#include <array>

#include "core/report/text.hpp"

namespace misa::chart {
namespace {

constexpr double kTitleHeight = 26, kMarkRadius = 4;
constexpr double kCharacter = 0.57;  // its width, of the text's size, on average

/// Chosen for a contrast of at least 4.5 with the paper, and apart for those who do not see red and green.
constexpr std::string_view kStyleSheet =
    R"(:root{color-scheme:light dark;--paper:#fff;--ink:#1c2128;--soft:#57606a;--grid:#dfe3e8;--on:#fff;
--s0:#0072b2;--s1:#b84a00;--s2:#007a56;--s3:#a8457d;--s4:#7a5c00;--s5:#5b4b9a;--s6:#555b61;--s7:#00707a}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9aa4af;--grid:#2b323b;--on:#0d1117;
--s0:#58b1ff;--s1:#ff9d5c;--s2:#3ddc97;--s3:#f08cc6;--s4:#e3c34f;--s5:#b9a7ff;--s6:#c9d1d9;--s7:#4fd8df}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--grid:#ccc;--on:#fff;
--s0:#0072b2;--s1:#b84a00;--s2:#007a56;--s3:#a8457d;--s4:#7a5c00;--s5:#5b4b9a;--s6:#555b61;--s7:#00707a}}
.s0{--s:var(--s0)}.s1{--s:var(--s1)}.s2{--s:var(--s2)}.s3{--s:var(--s3)}
.s4{--s:var(--s4)}.s5{--s:var(--s5)}.s6{--s:var(--s6)}.s7{--s:var(--s7)}
.chart{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.chart text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",sans-serif;fill:var(--ink)}
.chart .soft{fill:var(--soft)}.chart .mid{text-anchor:middle}.chart .end{text-anchor:end}
.chart .small{font-size:9px}.chart .head{font-size:13px;font-weight:600}.chart .on{fill:var(--on)}
.chart .dark{fill:#000}.chart .pale{fill:#fff}
.chart .paper{fill:var(--paper)}.chart .grid{stroke:var(--grid)}.chart .axis{stroke:var(--soft)}
.chart .mark{fill:var(--s);stroke:var(--s);stroke-width:1.5}.chart .hollow{fill:var(--paper)}
.chart .line{fill:none;stroke:var(--s);stroke-width:1.75}.chart .dash{stroke-dasharray:5 3}
.chart .band{fill:var(--s);fill-opacity:.1}.chart .bar{fill:var(--s);stroke:var(--paper)}
.chart .cell{fill:var(--s)}.chart .none{fill:var(--grid)}
)";

/// The outline of a shape around (0, 0) for each style but the first, which is a circle.
constexpr std::array<std::string_view, kStyles> kShapes{
    "",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-4.6l4.4 8h-8.8z",
    "m0-5.2l4.4 5.2-4.4 5.2-4.4-5.2z",
    "m0 4.6l4.4-8h-8.8z",
    "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "m-4.6 0l2.3-4h4.6l2.3 4-2.3 4h-4.6z",
    "m0-4.8l1.4 3.4 3.4 1.4-3.4 1.4-1.4 3.4-1.4-3.4-3.4-1.4 3.4-1.4z"};

std::string style_class(int style) { return fmt::format("s{}", style % kStyles); }

/// The end of an element that has a tip or none.
std::string closed(std::string_view element, std::string_view tip) {
  if (tip.empty()) return "/>";
  return fmt::format("><title>{}</title></{}>", escaped(tip), element);
}

double entry_width(const LegendEntry& entry) { return 18 + text_width(entry.name) + 12; }

void draw_entry(Marks& marks, const LegendEntry& entry, double x, double y) {
  using Form = LegendEntry::Form;
  const std::string colour = style_class(entry.style);
  switch (entry.form) {
    case Form::marker:
    case Form::hollow: marks.marker(x + 7, y + 6, entry.style, entry.form == Form::marker); break;
    case Form::line: marks.line(x, y + 6, x + 14, y + 6, "line " + colour); break;
    case Form::dashed: marks.line(x, y + 6, x + 14, y + 6, "line dash " + colour); break;
    case Form::bar: marks.rect(x + 1, y + 1, 12, 10, "bar " + colour); break;
  }
  marks.text(x + 18, y + 10, entry.name);
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : xml_characters(text)) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      case '\'': safe += "&#39;"; break;
      default: safe += c;
    }
  }
  return safe;
}

std::string coordinate(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

double text_width(std::string_view text) { return kCharacter * kTextSize * static_cast<double>(display_width(text)); }

std::string fitted(std::string_view text, double width) {
  return shortened(text, static_cast<i64>(width / (kCharacter * kTextSize)));
}

void Marks::line(double x1, double y1, double x2, double y2, std::string_view css) {
  markup_ += fmt::format("<path class=\"{}\" d=\"M{} {}L{} {}\"/>\n", css, coordinate(x1), coordinate(y1),
                         coordinate(x2), coordinate(y2));
}

void Marks::rect(double x, double y, double width, double height, std::string_view css, std::string_view tip,
                 std::string_view fill) {
  markup_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", coordinate(x), coordinate(y),
                         coordinate(width), coordinate(height));
  if (!css.empty()) markup_ += fmt::format(" class=\"{}\"", css);
  if (!fill.empty()) markup_ += fmt::format(" fill=\"{}\"", fill);
  markup_ += closed("rect", tip) + "\n";
}

void Marks::path(const std::string& commands, std::string_view css, std::string_view tip) {
  markup_ += fmt::format("<path class=\"{}\" d=\"{}\"{}\n", css, commands, closed("path", tip));
}

void Marks::text(double x, double y, std::string_view text, std::string_view css) {
  markup_ += fmt::format("<text x=\"{}\" y=\"{}\"", coordinate(x), coordinate(y));
  if (!css.empty()) markup_ += fmt::format(" class=\"{}\"", css);
  markup_ += fmt::format(">{}</text>\n", escaped(text));
}

void Marks::upright_text(double x, double y, std::string_view text) {
  markup_ += fmt::format("<text class=\"soft mid\" transform=\"translate({} {})rotate(-90)\">{}</text>\n",
                         coordinate(x), coordinate(y), escaped(text));
}

void Marks::marker(double x, double y, int style, bool filled, std::string_view tip) {
  const std::string css = fmt::format("mark {}{}", style_class(style), filled ? "" : " hollow");
  const std::string_view shape = kShapes[static_cast<std::size_t>((style + style / kStyles) % kStyles)];
  if (!shape.empty()) return path(fmt::format("M{} {}{}", coordinate(x), coordinate(y), shape), css, tip);
  markup_ += fmt::format("<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"{}\n", css, coordinate(x), coordinate(y),
                         coordinate(kMarkRadius), closed("circle", tip));
}

double draw_legend(Marks& marks, const std::vector<LegendEntry>& entries, double x, double y, double width) {
  constexpr double kLine = 16;
  double at = x, line = 0;
  for (const LegendEntry& entry : entries) {
    if (at > x && at + entry_width(entry) - 12 > x + width) {
      at = x;
      line += kLine;
    }
    draw_entry(marks, entry, at, y + line);
    at += entry_width(entry);
  }
  return entries.empty() ? 0 : line + kLine;
}

std::string_view style_sheet() { return kStyleSheet; }

std::string inline_svg(const Figure& figure, std::string_view id) {
  return fmt::format(
      "<svg class=\"chart\" viewBox=\"0 0 {0} {1}\" role=\"img\" aria-labelledby=\"{2}-title\" "
      "aria-describedby=\"{2}-desc\">\n<title id=\"{2}-title\">{3}</title>\n<desc id=\"{2}-desc\">{4}</desc>\n{5}"
      "</svg>\n",
      coordinate(figure.width), coordinate(figure.height), id, escaped(figure.title), escaped(figure.description),
      figure.marks);
}

std::string standalone_svg(const Figure& figure) {
  Marks head;
  head.rect(0, -kTitleHeight, figure.width, figure.height + kTitleHeight, "paper");
  head.text(8, -8, figure.title, "head");
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{1}\" height=\"{2}\" viewBox=\"0 -{0} {3} "
      "{4}\" role=\"img\" aria-labelledby=\"title\" aria-describedby=\"desc\">\n<title id=\"title\">{5}</title>\n"
      "<desc id=\"desc\">{6}</desc>\n<style>\n{7}</style>\n{8}{9}</svg>\n",
      coordinate(kTitleHeight), coordinate(1.5 * figure.width), coordinate(1.5 * (figure.height + kTitleHeight)),
      coordinate(figure.width), coordinate(figure.height + kTitleHeight), escaped(figure.title),
      escaped(figure.description), style_sheet(), head.markup(), figure.marks);
}

}  // namespace misa::chart
