#include "core/report/text_table.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "core/report/text.hpp"

namespace misa {
namespace {

constexpr std::string_view kGap = "  ";

std::string without_trailing_spaces(std::string line) {
  const std::size_t last = line.find_last_not_of(' ');
  line.erase(last == std::string::npos ? 0 : last + 1);
  return line;
}

std::string_view code_of(Style style) {
  switch (style) {
    case Style::plain: return "";
    case Style::strong: return "\x1b[1m";
    case Style::faint: return "\x1b[2m";
    case Style::accent: return "\x1b[36m";
    case Style::good: return "\x1b[32m";
    case Style::bad: return "\x1b[31m";
    case Style::caution: return "\x1b[33m";
  }
  return "";
}

}  // namespace

std::string styled(std::string_view text, Style style, bool colour) {
  const std::string_view code = code_of(style);
  if (!colour || code.empty() || text.empty()) return std::string(text);
  return std::string(code) + std::string(text) + "\x1b[0m";
}

void TextTable::add(std::vector<Cell> cells) {
  cells.resize(columns_.size());
  rows_.push_back({.cells = std::move(cells), .line = {}});
}

void TextTable::add_line(std::string text) { rows_.push_back({.cells = {}, .line = std::move(text)}); }

std::vector<i64> TextTable::widths() const {
  std::vector<i64> widths(columns_.size(), 0);
  for (const Row& row : rows_) {
    for (std::size_t i = 0; i < row.cells.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row.cells[i].text));
    }
  }
  for (std::size_t i = 0; i < widths.size(); ++i) {
    if (widths[i] > 0) widths[i] = std::max(widths[i], display_width(columns_[i].header));
  }
  return widths;
}

std::string TextTable::text(int width, bool colour) const {
  std::vector<i64> wide = widths();
  const auto total = [&] {
    const auto gap = static_cast<i64>(kGap.size());
    return std::accumulate(wide.begin(), wide.end(), i64{0},
                           [&](i64 sum, i64 w) { return w > 0 ? sum + w + gap : sum; });
  };
  // Every column has a gap before it, so that the table is indented under its lines.
  while (total() > width) {
    std::size_t victim = columns_.size();
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (wide[i] == 0 || columns_[i].drop == 0) continue;
      if (victim == columns_.size() || columns_[i].drop > columns_[victim].drop) victim = i;
    }
    if (victim == columns_.size()) break;
    wide[victim] = 0;
  }

  std::string out;
  const auto put = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (wide[i] == 0) continue;
      const Cell cell = cell_of(i);
      const std::string space(static_cast<std::size_t>(std::max<i64>(0, wide[i] - display_width(cell.text))), ' ');
      const std::string shown = styled(cell.text, cell.style, colour);
      line += kGap;
      line += columns_[i].right ? space + shown : shown + space;
    }
    out += without_trailing_spaces(std::move(line)) + '\n';
  };
  put([&](std::size_t i) { return Cell{columns_[i].header, Style::faint}; });
  for (const Row& row : rows_) {
    if (row.cells.empty()) {
      out += without_trailing_spaces(row.line) + '\n';
    } else {
      put([&](std::size_t i) { return row.cells[i]; });
    }
  }
  return out;
}

std::string TextTable::markdown() const {
  std::vector<i64> wide = widths();
  std::vector<std::vector<std::string>> lines;
  std::vector<std::string> header;
  for (const TableColumn& column : columns_) header.push_back(escaped_markdown(column.header));
  lines.push_back(header);
  for (const Row& row : rows_) {
    if (row.cells.empty()) continue;
    std::vector<std::string> line;
    for (const Cell& cell : row.cells) line.push_back(escaped_markdown(cell.text));
    lines.push_back(std::move(line));
  }
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (wide[i] > 0) wide[i] = std::max({wide[i], display_width(line[i]), i64{3}});
    }
  }

  std::string out;
  for (std::size_t n = 0; n < lines.size(); ++n) {
    out += '|';
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (wide[i] > 0) out += ' ' + padded(lines[n][i], wide[i], columns_[i].right) + " |";
    }
    out += '\n';
    if (n > 0) continue;
    out += '|';
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (wide[i] == 0) continue;
      const std::string dashes(static_cast<std::size_t>(wide[i] - 1), '-');
      out += columns_[i].right ? " " + dashes + ": |" : " :" + dashes + " |";
    }
    out += '\n';
  }
  return out;
}

std::string escaped_markdown(std::string_view text) {
  std::string escaped;
  for (char c : printable(text)) {
    if (std::string_view("\\`*_{}[]<>#|~&@$").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace misa
