#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/report.hpp"

namespace misa {

struct AgreementReport;
struct NiahReport;
struct SweepReport;

struct WriterOptions {
  bool colour = false;  ///< ANSI, of the table only
  int width = 100;      ///< columns, of the table only; columns of low value go first
};

/// A format that reports are written in.
struct ReportFormat {
  std::string_view name;     ///< "json"
  std::string_view endings;  ///< of files, with blanks between them: ".xml .junit"
  std::string (*profile)(const Report&, const WriterOptions&) = nullptr;             ///< null: not for a profile
  std::string (*agreement)(const AgreementReport&, const WriterOptions&) = nullptr;  ///< null: not for a comparison
  std::string (*niah)(const NiahReport&, const WriterOptions&) = nullptr;            ///< null: not for a needle map
  std::string (*sweep)(const SweepReport&, const WriterOptions&) = nullptr;          ///< null: not for a sweep
};

/// Every format: table, json, jsonl, csv, md, junit.
std::span<const ReportFormat> report_formats();
/// The names of those that a profile, a comparison, a needle map, or a sweep is written in.
std::vector<std::string_view> profile_format_names();
std::vector<std::string_view> agreement_format_names();
std::vector<std::string_view> niah_format_names();
std::vector<std::string_view> sweep_format_names();

/// The whole report in the format of that name, with a line break at its end. Text from outside is made safe for the
/// format: invalid UTF-8 becomes U+FFFD everywhere, control characters do so where they would reach a terminal.
/// Locale-free. Error(internal) MP-E904: the report is not written in such a format.
std::string write_report(const Report& report, std::string_view format, const WriterOptions& options = {});
/// junit: a testsuite per indexer, a testcase per choice and per check; misses and violations are failures, what could
/// not be judged is an error, what was not compared or had nothing to compare is skipped.
std::string write_report(const AgreementReport& report, std::string_view format, const WriterOptions& options = {});

std::string write_report(const NiahReport& report, std::string_view format, const WriterOptions& options = {});
std::string write_report(const SweepReport& report, std::string_view format, const WriterOptions& options = {});

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
