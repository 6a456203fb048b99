#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/report/agreement_report.hpp"
#include "core/report/agreement_writers.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

/// In the order of AgreementFormat.
constexpr std::array<std::string_view, 3> kFormats{"table", "json", "junit"};

/// As a workflow command takes the text of a message, or with `property` that of its title.
std::string github_text(std::string_view text, bool property) {
  std::string out;
  for (const char c : text) {
    if (c == '%')
      out += "%25";
    else if (c == '\r')
      out += "%0D";
    else if (c == '\n')
      out += "%0A";
    else if (c == ':' && property)
      out += "%3A";
    else if (c == ',' && property)
      out += "%2C";
    else
      out += c;
  }
  return out;
}

}  // namespace

std::optional<AgreementFormat> find_agreement_format(std::string_view name) {
  const auto found = std::find(kFormats.begin(), kFormats.end(), name);
  if (found == kFormats.end()) return std::nullopt;
  return static_cast<AgreementFormat>(found - kFormats.begin());
}

std::vector<std::string_view> agreement_format_names() { return {kFormats.begin(), kFormats.end()}; }

std::string write_agreement(const AgreementReport& report, AgreementFormat format, bool colour, int width) {
  switch (format) {
    case AgreementFormat::table: return write_agreement_table(report, colour, width);
    case AgreementFormat::json: return write_agreement_json(report);
    case AgreementFormat::junit: return write_agreement_junit(report);
  }
  return {};
}

std::string miss_text(const std::string& choice, const ReportMiss& miss) {
  if (choice == "scores") {
    return fmt::format("row {}: {} gives token {} the score {:.9g}, expected {:.9g}: {:.3g} apart, the bound is {:.3g}",
                       miss.row, printable(miss.side), miss.missed, miss.missed_score, miss.taken_score,
                       std::abs(miss.missed_score - miss.taken_score), miss.bound);
  }
  const std::string id = choice.substr(0, choice.size() - 1);  // heads -> head
  return fmt::format(
      "row {}: {} missed {} {} (exact score {:.9g}, rank {}, {:.3g} above the last that belongs) and took {} "
      "({:.9g}); the bound is {:.3g}",
      miss.row, printable(miss.side), id, miss.missed, miss.missed_score, miss.rank, miss.gap_to_last, miss.taken,
      miss.taken_score, miss.bound);
}

std::string violation_text(const ReportViolation& violation) {
  return fmt::format("row {}, column {}: {}: {} of {}", violation.row, violation.column, printable(violation.fault),
                     violation.id, printable(violation.side));
}

std::string github_annotations(const AgreementReport& report) {
  std::string out;
  for (const AgreementCase& one : report.cases) {
    if (one.verdict == CaseVerdict::passed) continue;
    out += "::error title=" + github_text("misa-prof compare " + printable(one.indexer), true) +
           "::" + github_text(repaired_utf8(one.explanation) + "\n" + repaired_utf8(one.reproduce), false) + "\n";
  }
  return out;
}

}  // namespace misa
