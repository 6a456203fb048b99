#pragma once

#include <string>

#include "core/report/agreement_report.hpp"

// What write_agreement.cpp chooses from, one file each, and the words they share.
namespace misa {

std::string write_agreement_table(const AgreementReport& report, bool colour, int width);
std::string write_agreement_json(const AgreementReport& report);
std::string write_agreement_junit(const AgreementReport& report);

/// One line, printable.
std::string miss_text(const std::string& choice, const ReportMiss& miss);
std::string violation_text(const ReportViolation& violation);

}  // namespace misa
