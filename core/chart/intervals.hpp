#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/chart/svg.hpp"

namespace misa::chart {

/// A value with the interval in which it may lie.
struct IntervalRow {
  std::string name{}, text{};  ///< above the row, left and right
  double value = 0;
  std::optional<double> low{}, high{};
  int style = 0;
  bool filled = true;
};

/// Rows one below the other, over one axis.
struct IntervalChart {
  std::string title{}, description{};
  std::string axis{};
  bool log = false;
  double level = 0;  ///< a dashed line: where nothing changed
  std::vector<IntervalRow> rows{};
};

/// Rows whose value is not finite, or not positive on a logarithmic axis, have their text alone.
Figure draw(const IntervalChart& chart);

}  // namespace misa::chart
