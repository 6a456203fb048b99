#include "core/chart/bars.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/chart/scale.hpp"

namespace misa::chart {
namespace {

constexpr double kMargin = 8, kNameLine = 14, kBarHeight = 16, kStride = kNameLine + kBarHeight + 8;

double drawn_value(const BarPart& part) { return std::isfinite(part.value) ? std::max(part.value, 0.0) : 0; }

}  // namespace

Figure draw(const BarChart& chart) {
  double longest = 0;
  for (const Bar& bar : chart.bars) {
    double sum = 0;
    for (const BarPart& part : bar.parts) sum += drawn_value(part);
    longest = std::max(longest, sum);
  }
  const Scale scale{0, longest > 0 ? longest : 1, kMargin, kWidth - kMargin - 6, false};
  const double bottom = 4 + kStride * static_cast<double>(chart.bars.size());
  Marks marks;
  for (const double tick : ticks(scale, 6)) {
    if (tick > 0) marks.line(scale.at(tick), 2, scale.at(tick), bottom, "grid");
    marks.text(scale.at(tick), bottom + 13, chart.text ? chart.text(tick) : tick_text(tick),
               tick > 0 ? "soft mid" : "soft");
  }
  double top = 4;
  for (const Bar& bar : chart.bars) {
    marks.text(kMargin, top + 10, fitted(bar.name, kWidth - 2 * kMargin - text_width(bar.total) - 8));
    marks.text(kWidth - kMargin, top + 10, bar.total, "end");
    double sum = 0;
    for (const BarPart& part : bar.parts) {
      const double from = scale.at(sum);
      sum += drawn_value(part);
      const double width = scale.at(sum) - from;
      if (width <= 0) continue;
      marks.rect(from, top + kNameLine, width, kBarHeight, fmt::format("bar s{}", part.style % kStyles), part.tip);
      const std::string& name = chart.parts[static_cast<std::size_t>(part.style)];
      if (width > text_width(name) + 4) {
        marks.text(from + width / 2, top + kNameLine + 12, name, "on mid");
      }
    }
    top += kStride;
  }
  marks.text(kWidth / 2, bottom + 28, chart.axis, "soft mid");
  std::vector<LegendEntry> entries;
  for (int style = 0; style < static_cast<int>(chart.parts.size()); ++style) {
    const bool used = std::any_of(chart.bars.begin(), chart.bars.end(), [&](const Bar& bar) {
      return std::any_of(bar.parts.begin(), bar.parts.end(),
                         [&](const BarPart& part) { return part.style == style && drawn_value(part) > 0; });
    });
    if (used) entries.push_back({chart.parts[static_cast<std::size_t>(style)], style, LegendEntry::Form::bar});
  }
  const double legend = draw_legend(marks, entries, kMargin, bottom + 38, kWidth - 2 * kMargin);
  return {chart.title, chart.description, kWidth, bottom + 42 + legend, marks.markup()};
}

}  // namespace misa::chart
