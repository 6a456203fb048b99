#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/chart/svg.hpp"

namespace misa::chart {

struct Point {
  double x = 0, y = 0;
  /// Ends of an interval of y; none where they are no numbers.
  double low = std::numeric_limits<double>::quiet_NaN(), high = low;
  std::string tip{};
  bool filled = true;
};

struct Series {
  std::string name{};  ///< empty: not in the legend
  std::vector<Point> points{};
  int style = 0;
  bool markers = true, line = false, dashed = false;
};

struct Axis {
  std::string title{};  ///< with the unit
  bool log = false;
  std::function<std::string(double)> text{};  ///< of a tick; empty: tick_text
  std::vector<double> ticks{};                ///< empty: round numbers. Those that would overlap are left out.
  std::optional<double> low{}, high{};        ///< ends; empty: those of the data
};

/// A value of x to be seen, with the interval in which it may lie.
struct Mark {
  double at = 0, low = at, high = at;
  std::string name{};
  int style = 0;
};

/// Points over two axes.
struct Plot {
  std::string title{}, description{};
  Axis x{}, y{};
  std::vector<Series> series{};
  std::vector<Mark> marks{};
  std::optional<double> level{};  ///< of y: a dashed line across, such as "as fast as dsa"
};

/// Points whose coordinates are not finite, or not positive on a logarithmic axis, are not drawn.
Figure draw(const Plot& plot);

}  // namespace misa::chart
