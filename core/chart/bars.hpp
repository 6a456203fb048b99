#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/chart/svg.hpp"

namespace misa::chart {

/// A part of a bar: `style` says which one, and is the same in all bars.
struct BarPart {
  int style = 0;
  double value = 0;
  std::string tip{};
};

struct Bar {
  std::string name{}, total{};
  std::vector<BarPart> parts{};
};

/// Bars of parts, one below the other, from a common zero.
struct BarChart {
  std::string title{}, description{};
  std::string axis{};                         ///< title of the axis, with the unit
  std::function<std::string(double)> text{};  ///< of a tick; empty: tick_text
  std::vector<std::string> parts{};           ///< names by style
  std::vector<Bar> bars{};
};

/// Values that are not finite or negative count as 0.
Figure draw(const BarChart& chart);

}  // namespace misa::chart
