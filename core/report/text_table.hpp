#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/types.hpp"

namespace misa {

enum class Style { plain, strong, faint, accent, good, bad, caution };

/// `text` in ANSI colours, or as it is.
std::string styled(std::string_view text, Style style, bool colour);

struct Cell {
  std::string text;
  Style style = Style::plain;
};

struct TableColumn {
  std::string header;
  bool right = true;  ///< aligned
  int drop = 0;       ///< 0 stays; else the largest goes first when the table is too wide
};

/// Rows of cells under one header, and lines of text between them. Columns without any text are left out.
class TextTable {
 public:
  explicit TextTable(std::vector<TableColumn> columns) : columns_(std::move(columns)) {}

  /// One cell for each column, printable text.
  void add(std::vector<Cell> cells);
  /// A line across all columns; may be styled already.
  void add_line(std::string text);

  /// For a terminal of `width` columns.
  std::string text(int width, bool colour) const;
  /// GitHub's pipe table, aligned in the source too; lines are left out, `|` and markup in cells are escaped.
  std::string markdown() const;

 private:
  struct Row {
    std::vector<Cell> cells;  ///< empty: a line
    std::string line;
  };

  /// Widths of the columns, 0 for those that show nothing.
  std::vector<i64> widths() const;

  std::vector<TableColumn> columns_;
  std::vector<Row> rows_;
};

/// Text that GitHub's Markdown shows as it is, also inside a table.
std::string escaped_markdown(std::string_view text);

}  // namespace misa
