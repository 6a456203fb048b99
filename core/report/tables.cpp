#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "core/report/columns.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

/// The rows of cases end to end, in summary_table's order, or all rows that are timed, in stage_table's.
std::vector<ReportRow> timed_rows(const Report& report, const ReportCase& one, bool titled) {
  std::vector<ReportRow> rows;
  for (const ReportStage& stage : one.stages) rows.push_back({report, one, &stage, titled});
  if (one.end_to_end) rows.push_back({report, one, nullptr, titled});
  return rows;
}

/// A text table of the columns of one Table; numbers of a column with a unit share a prefix.
class ColumnTable {
 public:
  ColumnTable(Table table, const std::vector<ReportRow>& rows) : columns_(columns_of(table)), table_(headers(rows)) {}

  void add(const ReportRow& row) {
    std::vector<Cell> cells;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      cells.push_back(columns_[i]->cell(row, shown_of(*columns_[i], row), prefixes_[i]));
    }
    table_.add(std::move(cells));
  }
  TextTable& text() { return table_; }

 private:
  std::vector<TableColumn> headers(const std::vector<ReportRow>& rows) {
    std::vector<TableColumn> headers;
    for (const Column* column : columns_) {
      double largest = 0;
      for (const ReportRow& row : rows) {
        if (column->unit.empty() || std::holds_alternative<std::monostate>(value_of(*column, row))) continue;
        const Value shown = shown_of(*column, row);
        const double* number = std::get_if<double>(&shown);
        if (number && std::isfinite(*number)) largest = std::max(largest, std::abs(*number));
      }
      prefixes_.push_back(si_prefix(largest));
      const std::string unit =
          column->unit.empty() ? std::string() : std::string(prefixes_.back().symbol) + std::string(column->unit);
      headers.push_back({std::string(column->title) + unit, column->right, column->drop});
    }
    return headers;
  }

  std::vector<const Column*> columns_;
  std::vector<SiPrefix> prefixes_;
  TextTable table_;
};

/// What the indexer was told, beside its name, on lines above its stages.
void add_title(TextTable& table, const Report& report, const ReportCase& one, const WriterOptions& terminal) {
  const std::string name = case_name(report, one);
  const i64 indent = display_width(name) + 2;
  std::string title = styled(name, Style::strong, terminal.colour) + "  ";
  for (const std::string& line : wrapped(describe_parameters(report, one), " · ", terminal.width - indent)) {
    table.add_line(title + styled(line, Style::faint, terminal.colour));
    title.assign(static_cast<std::size_t>(indent), ' ');
  }
}

/// Samples, first call and closure, on lines below its stages.
void add_timing(TextTable& table, const ReportCase& one, const WriterOptions& terminal) {
  std::string timing;
  i64 used = 0;
  for (const Cell& part : describe_timing(one)) {
    if (used > 0 && used + 3 + display_width(part.text) > terminal.width) {
      table.add_line(timing);
      used = 0;
    }
    timing = used == 0 ? "  " : timing + styled(" · ", Style::faint, terminal.colour);
    timing += styled(part.text, part.style, terminal.colour);
    used += (used == 0 ? 2 : 3) + display_width(part.text);
  }
  if (used > 0) table.add_line(timing);
  table.add_line("");
}

}  // namespace

TextTable stage_table(const Report& report, const std::optional<WriterOptions>& terminal) {
  std::vector<ReportRow> all;
  for (const ReportCase& one : report.cases) {
    for (const ReportRow& row : timed_rows(report, one, terminal.has_value())) all.push_back(row);
  }
  ColumnTable table(Table::stages, all);
  for (const ReportCase& one : report.cases) {
    if (terminal) add_title(table.text(), report, one, *terminal);
    for (const ReportRow& row : timed_rows(report, one, terminal.has_value())) table.add(row);
    if (terminal) add_timing(table.text(), one, *terminal);
  }
  return table.text();
}

TextTable summary_table(const Report& report) {
  ColumnTable table(Table::summary, {});
  for (const ReportCase& one : report.cases) table.add({report, one});
  if (report.recorded_topk) table.add({report, recorded_case(report)});
  return table.text();
}

}  // namespace misa
