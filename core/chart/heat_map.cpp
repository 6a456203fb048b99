#include "core/chart/heat_map.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/chart/scale.hpp"

namespace misa::chart {
namespace {

constexpr double kCellsTop = 8, kCellsRight = 8, kTickLine = 14, kAxisTitle = 16;

struct Stop {
  double share = 0, red = 0, green = 0, blue = 0;
};
constexpr std::array kStops{Stop{0, 140, 16, 34},      Stop{0.25, 200, 55, 45},  Stop{0.5, 238, 138, 69},
                            Stop{0.75, 249, 210, 122}, Stop{0.9, 223, 233, 138}, Stop{1, 143, 209, 158}};

/// Relative luminance of WCAG 2.
double luminance(const HeatColour& colour) {
  const auto linear = [](int channel) {
    const double value = channel / 255.0;
    return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue);
}

std::string hex(const HeatColour& colour) {
  return fmt::format("#{:02x}{:02x}{:02x}", colour.red, colour.green, colour.blue);
}

double widest(const std::vector<std::string>& names) {
  double width = 0;
  for (const std::string& name : names) width = std::max(width, text_width(name));
  return width;
}

/// Every so many names, none overlaps the next.
i64 stride_of(double room, double needed) { return std::max<i64>(1, static_cast<i64>(std::ceil(needed / room))); }

/// A bar of the colours from 0 to 100 %.
void draw_colour_bar(Marks& marks, double y, std::string_view what) {
  constexpr i64 kSteps = 20;
  constexpr double kStep = 6;
  const double right = kWidth - kCellsRight - 34, left = right - kStep * kSteps;
  marks.text(left - 26, y + 10, "0 %", "soft");
  for (i64 i = 0; i < kSteps; ++i) {
    const HeatColour colour = heat_colour(static_cast<double>(i) / (kSteps - 1));
    marks.rect(left + kStep * static_cast<double>(i), y + 1, kStep + 0.3, 10, "", "", hex(colour));
  }
  marks.text(right + 4, y + 10, "100 %", "soft");
  marks.text(8, y + 10, what, "soft");
}

}  // namespace

HeatColour heat_colour(double share) {
  const double inside = std::clamp(share, 0.0, 1.0);
  std::size_t i = 1;
  while (i + 1 < kStops.size() && inside > kStops[i].share) ++i;
  const Stop &a = kStops[i - 1], &b = kStops[i];
  const double part = (inside - a.share) / (b.share - a.share);
  const auto mixed = [&](double from, double to) { return static_cast<int>(std::lround(from + part * (to - from))); };
  HeatColour colour{mixed(a.red, b.red), mixed(a.green, b.green), mixed(a.blue, b.blue), false};
  const double light = luminance(colour);
  colour.pale_text = 1.05 / (light + 0.05) > (light + 0.05) / 0.05;
  return colour;
}

Figure draw(const HeatMap& map) {
  const double left = kAxisTitle + widest(map.rows) + 6;
  const auto rows = static_cast<double>(std::max<std::size_t>(1, map.rows.size()));
  const auto columns = static_cast<double>(std::max<std::size_t>(1, map.columns.size()));
  const double width = (kWidth - kCellsRight - left) / columns, height = std::clamp(200 / rows, 4.0, 22.0);
  const double bottom = kCellsTop + rows * height;
  Marks marks;
  for (i64 row = 0; row < std::ssize(map.rows); ++row) {
    const double y = kCellsTop + static_cast<double>(row) * height;
    if (row % stride_of(height, kTextSize + 1) == 0) {
      marks.text(left - 5, y + height / 2 + 4, map.rows[row], "soft end");
    }
    for (i64 column = 0; column < std::ssize(map.columns); ++column) {
      const double x = left + static_cast<double>(column) * width;
      const std::optional<double> share = map.share(row, column);
      const std::string tip = fmt::format("{} {}, {} {}: {}", map.x_title, map.columns[column], map.y_title,
                                          map.rows[row], share ? fmt::format("{:.1f} %", 100 * *share) : "unknown");
      if (!share) {
        marks.rect(x, y, width, height, "none", tip);
        continue;
      }
      const HeatColour colour = heat_colour(*share);
      marks.rect(x, y, width, height, "", tip, hex(colour));
      if (width >= 20 && height >= 11) {
        // Rounded down: only all of them are 100.
        marks.text(x + width / 2, y + height / 2 + 3.5, fmt::format("{:.0f}", std::floor(100 * *share + 1e-9)),
                   colour.pale_text ? "small mid pale" : "small mid dark");
      }
    }
  }
  const i64 stride = stride_of(width, widest(map.columns) + 4);
  for (i64 column = 0; column < std::ssize(map.columns); column += stride) {
    marks.text(left + (static_cast<double>(column) + 0.5) * width, bottom + kTickLine, map.columns[column], "soft mid");
  }
  marks.text((left + kWidth - kCellsRight) / 2, bottom + kTickLine + kAxisTitle, map.x_title, "soft mid");
  marks.upright_text(12, (kCellsTop + bottom) / 2, map.y_title);
  draw_colour_bar(marks, bottom + kTickLine + kAxisTitle + 10, map.what);
  return {map.title, map.description, kWidth, bottom + kTickLine + kAxisTitle + 26, marks.markup()};
}

Figure draw(const Presence& presence) {
  const double left = kAxisTitle + widest(presence.rows) + 6;
  const auto rows = static_cast<double>(std::max<std::size_t>(1, presence.rows.size()));
  const double width = (kWidth - kCellsRight - left) / static_cast<double>(std::max<i64>(1, presence.columns));
  const double height = std::clamp(240 / rows, 2.0, 14.0), bottom = kCellsTop + rows * height;
  Marks marks;
  marks.rect(left, kCellsTop, kWidth - kCellsRight - left, bottom - kCellsTop, "none");
  std::string cells;
  for (i64 row = 0; row < std::ssize(presence.rows); ++row) {
    const double y = kCellsTop + static_cast<double>(row) * height;
    if (row % stride_of(height, kTextSize + 1) == 0) {
      marks.text(left - 5, y + height / 2 + 4, presence.rows[row], "soft end");
    }
    for (const i64 column : presence.chosen[row]) {
      cells += fmt::format("M{} {}h{}v{}h-{}z", coordinate(left + static_cast<double>(column) * width), coordinate(y),
                           coordinate(width), coordinate(height), coordinate(width));
    }
  }
  marks.path(cells, "cell s0");
  const Scale scale{0, static_cast<double>(std::max<i64>(1, presence.columns)), left, kWidth - kCellsRight, false};
  for (const double tick : ticks(scale, 8)) {
    if (tick >= scale.high) continue;
    marks.text(scale.at(tick + 0.5), bottom + kTickLine, tick_text(tick), "soft mid");
  }
  marks.text((left + kWidth - kCellsRight) / 2, bottom + kTickLine + kAxisTitle, presence.x_title, "soft mid");
  marks.upright_text(12, (kCellsTop + bottom) / 2, presence.y_title);
  return {presence.title, presence.description, kWidth, bottom + kTickLine + kAxisTitle + 8, marks.markup()};
}

}  // namespace misa::chart
