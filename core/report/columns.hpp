#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/report/report.hpp"
#include "core/report/text.hpp"
#include "core/report/text_table.hpp"

// The columns of every format: a number of a report is one row of one table (columns.cpp).
namespace misa {

/// What a row of a table tells: a stage of a case, or, with `stage` null, the case end to end.
struct ReportRow {
  const Report& report;
  const ReportCase& one;
  const ReportStage* stage = nullptr;
  bool titled = false;  ///< a title above the row names the case
};

/// A number or a text of a row; monostate where the row has none.
using Value = std::variant<std::monostate, i64, double, std::string>;

/// The tables for people that a column may be in.
enum class Table { none, stages, summary };

struct Column {
  std::string_view name = {};  ///< in CSV, with its unit at the end; empty: not in CSV
  Value (*value)(const ReportRow&) = nullptr;

  /// A number of quality, in place of `value`: it is in the JSON of each quality too, under `json` ("recall.mean"), and
  /// `missing` says why it is null there.
  Value (*of_quality)(const Quality&) = nullptr;
  std::string_view json = {};
  std::string_view (*missing)(const Quality&) = nullptr;
  bool of_free = false;  ///< of what was free to choose: there only where something was forced

  Table table = Table::none;
  int place = 0;                ///< among the columns of `table` and the keys of JSON, from the left
  std::string_view title = {};  ///< of the table's column
  std::string_view unit = {};   ///< "FLOP/s": one SI prefix suits all numbers of the column and is in its title
  bool right = true;            ///< aligned
  int drop = 0;                 ///< TableColumn::drop
  Value (*shown)(const ReportRow&) = nullptr;  ///< to people, where that is not the value itself
  Cell (*cell)(const ReportRow&, const Value& shown, const SiPrefix& prefix) = nullptr;
};

/// Every column, those of CSV in CSV's order.
std::span<const Column> columns();
/// The columns of a table from left to right.
std::vector<const Column*> columns_of(Table table);
/// The columns of quality that JSON holds, in its order.
std::vector<const Column*> quality_columns();

Value value_of(const Column& column, const ReportRow& row);
/// What people are shown of it.
Value shown_of(const Column& column, const ReportRow& row);

}  // namespace misa
