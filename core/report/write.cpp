#include "core/report/write.hpp"

#include <array>

#include "core/base/error.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

/// In the order in which names and endings are listed.
constexpr std::array kFormats{
    ReportFormat{"table", ".txt", write_table, write_agreement_table, write_niah_table, write_sweep_table},
    ReportFormat{"json", ".json", write_json, write_agreement_json, write_niah_json, write_sweep_json},
    ReportFormat{"jsonl", ".jsonl", write_json_lines, nullptr, nullptr, write_sweep_lines},
    ReportFormat{"csv", ".csv", write_csv, nullptr, write_niah_csv, write_sweep_csv},
    ReportFormat{"rows", "", write_rows, write_agreement_rows},
    ReportFormat{"md", ".md", write_markdown, nullptr, write_niah_markdown, write_sweep_markdown},
    ReportFormat{"html", ".html .htm", write_html, write_agreement_html, write_niah_html, write_sweep_html},
    ReportFormat{"svg", ".svg", nullptr, nullptr, write_niah_svg},
    ReportFormat{"junit", ".xml .junit", nullptr, write_agreement_junit},
};

/// The names of the formats that have a writer of this kind.
template <class Writer>
std::vector<std::string_view> names_with(Writer ReportFormat::*writer) {
  std::vector<std::string_view> names;
  for (const ReportFormat& format : kFormats) {
    if (format.*writer) names.push_back(format.name);
  }
  return names;
}

template <class Writer, class R>
std::string write(const R& report, Writer ReportFormat::*writer, std::string_view name, const WriterOptions& options) {
  for (const ReportFormat& format : kFormats) {
    if (format.name == name && format.*writer) return (format.*writer)(report, options);
  }
  throw Error(ErrorKind::internal, "MP-E904", "no writer for the format '" + std::string(name) + "'");
}

}  // namespace

std::span<const ReportFormat> report_formats() { return kFormats; }
std::vector<std::string_view> profile_format_names() { return names_with(&ReportFormat::profile); }
std::vector<std::string_view> agreement_format_names() { return names_with(&ReportFormat::agreement); }

std::vector<std::string_view> niah_format_names() { return names_with(&ReportFormat::niah); }
std::vector<std::string_view> sweep_format_names() { return names_with(&ReportFormat::sweep); }

std::string write_report(const Report& report, std::string_view format, const WriterOptions& options) {
  return write(report, &ReportFormat::profile, format, options);
}

std::string write_report(const AgreementReport& report, std::string_view format, const WriterOptions& options) {
  return write(report, &ReportFormat::agreement, format, options);
}

std::string write_report(const NiahReport& report, std::string_view format, const WriterOptions& options) {
  return write(report, &ReportFormat::niah, format, options);
}

std::string write_report(const SweepReport& report, std::string_view format, const WriterOptions& options) {
  return write(report, &ReportFormat::sweep, format, options);
}

}  // namespace misa
