#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/report.hpp"

namespace misa {

enum class Format { table, json, jsonl, csv, markdown };

/// "table", "json", "jsonl", "csv", "md".
std::optional<Format> find_format(std::string_view name);
std::string_view format_name(Format format);
/// All names, in that order.
std::vector<std::string_view> format_names();

struct WriterOptions {
  bool colour = false;  ///< ANSI, of the table only
  int width = 100;      ///< columns, of the table only; columns of low value go first
};

/// The whole report in one format, with a line break at its end. Text from outside is made safe for the format: invalid
/// UTF-8 becomes U+FFFD everywhere, control characters do so where they would reach a terminal. Locale-free.
std::string write_report(const Report& report, Format format, const WriterOptions& options = {});

/// JSON lines as the cases come: header, cases, footer, each one record and handed to `sink` whole, to be flushed. A
/// file without a footer was cut off. The footer may say "complete": false.
///
/// scripts/check_json.py puts the records together to the JSON document and checks that.
class JsonLinesWriter {
 public:
  explicit JsonLinesWriter(std::function<void(std::string_view)> sink) : sink_(std::move(sink)) {}

  /// All of the report but its cases, skips, warnings and completeness.
  void header(const Report& report);
  void add(const ReportCase& one);
  /// Skips, warnings, completeness, the workload with what was learnt of it, and how many cases went before.
  void footer(const Report& report);

 private:
  std::function<void(std::string_view)> sink_;
  i64 cases_ = 0;
};

}  // namespace misa
