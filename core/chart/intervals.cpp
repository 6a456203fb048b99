#include "core/chart/intervals.hpp"

#include <fmt/format.h>

#include <cmath>

#include "core/chart/scale.hpp"

namespace misa::chart {

Figure draw(const IntervalChart& chart) {
  constexpr double kSide = 12, kStep = 34, kMiddle = 24;
  std::vector<double> values{chart.level};
  for (const IntervalRow& row : chart.rows) {
    values.push_back(row.value);
    values.push_back(row.low.value_or(row.value));
    values.push_back(row.high.value_or(row.value));
  }
  const Scale scale = scale_over(values, kSide, kWidth - kSide, chart.log);
  const double bottom = 4 + kStep * static_cast<double>(chart.rows.size());
  Marks marks;
  double used = -kWidth;
  for (const double tick : ticks(scale, 6)) {
    const std::string text = tick_text(tick);
    marks.line(scale.at(tick), 2, scale.at(tick), bottom, "grid");
    if (scale.at(tick) - text_width(text) / 2 < used + 4) continue;
    used = scale.at(tick) + text_width(text) / 2;
    marks.text(scale.at(tick), bottom + 13, text, "soft mid");
  }
  marks.line(scale.at(chart.level), 2, scale.at(chart.level), bottom, "axis dash");
  double top = 4;
  for (const IntervalRow& row : chart.rows) {
    marks.text(kSide, top + 10, fitted(row.name, kWidth - 2 * kSide - text_width(row.text) - 8));
    marks.text(kWidth - kSide, top + 10, row.text, "end");
    if (std::isfinite(row.value) && (!chart.log || row.value > 0)) {
      const double y = top + kMiddle;
      if (row.low && row.high && *row.low < *row.high && (!chart.log || *row.low > 0)) {
        marks.line(scale.at(*row.low), y, scale.at(*row.high), y, fmt::format("line s{}", row.style % kStyles));
      }
      marks.marker(scale.at(row.value), y, row.style, row.filled, row.name + ": " + row.text);
    }
    top += kStep;
  }
  marks.text(kWidth / 2, bottom + 28, chart.axis, "soft mid");
  return {chart.title, chart.description, kWidth, bottom + 36, marks.markup()};
}

}  // namespace misa::chart
