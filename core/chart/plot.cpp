#include "core/chart/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/chart/scale.hpp"

namespace misa::chart {
namespace {

constexpr double kTop = 12, kRight = 12, kPlotHeight = 200, kMarkLine = 14, kTickHeight = 14, kTitleLine = 16, kGap = 8;

bool drawable(double value, const Axis& axis) { return std::isfinite(value) && (!axis.log || value > 0); }

bool drawable(const Point& point, const Plot& plot) { return drawable(point.x, plot.x) && drawable(point.y, plot.y); }

std::string text_of_tick(const Axis& axis, double value) { return axis.text ? axis.text(value) : tick_text(value); }

Scale scale_of(const Axis& axis, const std::vector<double>& values, double from, double to) {
  Scale scale = scale_over(values, from, to, axis.log);
  if (axis.low) scale.low = *axis.low;
  if (axis.high) scale.high = *axis.high;
  if (!(scale.low < scale.high)) scale.high = scale.low + (axis.log ? scale.low : 1);
  return scale;
}

std::vector<double> ticks_of(const Axis& axis, const Scale& scale, int most) {
  if (axis.ticks.empty()) return ticks(scale, most);
  std::vector<double> inside;
  for (const double tick : axis.ticks) {
    if (tick >= scale.low && tick <= scale.high) inside.push_back(tick);
  }
  return inside;
}

std::vector<LegendEntry> legend_of(const Plot& plot) {
  using Form = LegendEntry::Form;
  std::vector<LegendEntry> entries;
  for (const Series& series : plot.series) {
    if (series.name.empty()) continue;
    entries.push_back({series.name, series.style,
                       series.markers  ? Form::marker
                       : series.dashed ? Form::dashed
                                       : Form::line});
  }
  return entries;
}

class PlotDrawing {
 public:
  explicit PlotDrawing(const Plot& plot) : plot_(plot) {
    std::vector<double> xs, ys;
    for (const Series& series : plot.series) {
      for (const Point& point : series.points) {
        if (!drawable(point, plot)) continue;
        xs.push_back(point.x);
        ys.insert(ys.end(), {point.y, point.low, point.high});
      }
    }
    for (const Mark& mark : plot.marks) xs.insert(xs.end(), {mark.at, mark.low, mark.high});
    if (plot.level) ys.push_back(*plot.level);
    top_ = kTop + kMarkLine * static_cast<double>(plot.marks.size());
    bottom_ = top_ + kPlotHeight;
    y_ = scale_of(plot.y, ys, bottom_, top_);
    double widest = 0;
    for (const double tick : ticks_of(plot.y, y_, 6)) {
      widest = std::max(widest, text_width(text_of_tick(plot.y, tick)));
    }
    left_ = kTitleLine + widest + kGap;
    x_ = scale_of(plot.x, xs, left_, kWidth - kRight);
  }

  Figure drawn() {
    draw_axes();
    draw_marks();
    for (const Series& series : plot_.series) draw_series(series);
    const double below = bottom_ + kTickHeight + kTitleLine + kGap;
    const double legend = draw_legend(marks_, legend_of(plot_), 6, below, kWidth - 12);
    return {plot_.title, plot_.description, kWidth, below + legend + 4, marks_.markup()};
  }

 private:
  void draw_axes() {
    for (const double tick : ticks_of(plot_.y, y_, 6)) {
      marks_.line(left_, y_.at(tick), kWidth - kRight, y_.at(tick), "grid");
      marks_.text(left_ - 5, y_.at(tick) + 4, text_of_tick(plot_.y, tick), "soft end");
    }
    double used = -kWidth;
    for (const double tick : ticks_of(plot_.x, x_, 7)) {
      const std::string text = text_of_tick(plot_.x, tick);
      const double half = text_width(text) / 2;
      const double at = x_.at(tick), middle = std::min(at, kWidth - 2 - half);
      if (middle - half < used + 4) continue;
      used = middle + half;
      marks_.line(at, top_, at, bottom_, "grid");
      marks_.text(middle, bottom_ + kTickHeight, text, "soft mid");
    }
    marks_.line(left_, bottom_, kWidth - kRight, bottom_, "axis");
    marks_.line(left_, top_, left_, bottom_, "axis");
    marks_.text((left_ + kWidth - kRight) / 2, bottom_ + kTickHeight + kTitleLine, plot_.x.title, "soft mid");
    marks_.upright_text(12, (top_ + bottom_) / 2, plot_.y.title);
    if (plot_.level) marks_.line(left_, y_.at(*plot_.level), kWidth - kRight, y_.at(*plot_.level), "axis dash");
  }

  /// The interval as a band, the value as a dashed line, its name above the plot: each a line lower from left to right,
  /// so that no line passes through a name.
  void draw_marks() {
    double line = kTop + 8;
    std::vector<Mark> marks = plot_.marks;
    std::stable_sort(marks.begin(), marks.end(), [](const Mark& a, const Mark& b) { return a.at < b.at; });
    for (const Mark& mark : marks) {
      const auto inside = [&](double value) { return std::clamp(x_.at(value), left_, kWidth - kRight); };
      const std::string colour = fmt::format("s{}", mark.style % kStyles);
      if (mark.low < mark.high) {
        marks_.rect(inside(mark.low), top_, inside(mark.high) - inside(mark.low), kPlotHeight, "band " + colour,
                    mark.name);
      }
      const double at = inside(mark.at);
      marks_.line(at, line - 9, at, bottom_, "line dash " + colour);
      const bool left = at + 4 + text_width(mark.name) > kWidth - kRight;
      marks_.text(left ? at - 4 : at + 4, line, mark.name, left ? "end" : "");
      line += kMarkLine;
    }
  }

  void draw_series(const Series& series) {
    const std::string colour = fmt::format("s{}", series.style % kStyles);
    std::string outline;
    for (const Point& point : series.points) {
      if (!drawable(point, plot_)) continue;
      outline +=
          fmt::format("{}{} {}", outline.empty() ? "M" : "L", coordinate(x_.at(point.x)), coordinate(y_.at(point.y)));
    }
    if (series.line && !outline.empty()) {
      marks_.path(outline, (series.dashed ? "line dash " : "line ") + colour, series.markers ? "" : series.name);
    }
    for (const Point& point : series.points) {
      if (!drawable(point, plot_)) continue;
      if (point.low < point.high) {
        const double x = x_.at(point.x);
        marks_.path(fmt::format("M{0} {2}V{3}M{1} {2}h6M{1} {3}h6", coordinate(x), coordinate(x - 3),
                                coordinate(y_.at(point.low)), coordinate(y_.at(point.high))),
                    "line " + colour);
      }
      if (series.markers) marks_.marker(x_.at(point.x), y_.at(point.y), series.style, point.filled, point.tip);
    }
  }

  const Plot& plot_;
  Marks marks_;
  Scale x_, y_;
  double left_ = 0, top_ = 0, bottom_ = 0;
};

}  // namespace

Figure draw(const Plot& plot) { return PlotDrawing(plot).drawn(); }

}  // namespace misa::chart
