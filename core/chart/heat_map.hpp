#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/types.hpp"
#include "core/chart/svg.hpp"

namespace misa::chart {

/// Shares over rows and columns.
struct HeatMap {
  std::string title{}, description{};
  std::string x_title{}, y_title{};
  std::vector<std::string> columns{}, rows{};  ///< names; rows from the top down
  /// From 0 (red) to 1 (green); empty: unknown, drawn grey.
  std::function<std::optional<double>(i64 row, i64 column)> share{};
  std::string what{};  ///< what a share is of, for the legend: "needle's tokens selected"
};

/// The colour of a share: red for 0 over yellow to green for 1, lighter as it grows, so that it can be told without
/// seeing red and green.
struct HeatColour {
  int red = 0, green = 0, blue = 0;
  bool pale_text = false;  ///< white text is read better on it than black
};
HeatColour heat_colour(double share);

/// Cells of shares in percent; the percentages are written into cells that have room for them.
Figure draw(const HeatMap& map);

/// Which of `columns` each row has: cells that are there or not.
struct Presence {
  std::string title{}, description{};
  std::string x_title{}, y_title{};
  i64 columns = 0;
  std::vector<std::string> rows{};         ///< names, from the top down; some are written where there are many
  std::vector<std::vector<i64>> chosen{};  ///< by row: the columns that it has, ascending
};
Figure draw(const Presence& presence);

}  // namespace misa::chart
