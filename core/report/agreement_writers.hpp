#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/report/agreement_report.hpp"
#include "core/report/describe.hpp"

// The writers of agreement reports, and what those for people say in the same words.
namespace misa {

std::string write_agreement_table(const AgreementReport& report, const WriterOptions& options);
std::string write_agreement_json(const AgreementReport& report, const WriterOptions& options = {});
std::string write_agreement_junit(const AgreementReport& report, const WriterOptions& options = {});

/// "misa (qnorm)". Printable, as all below.
std::string case_name(const AgreementCase& one);

/// "cpu (f32-dot)".
std::string side_name(const ReportSide& side);

/// The explanation; without one, the verdict's name.
std::string case_reason(const AgreementCase& one);

/// The misses of `choices`, then their violations, at most `limit` of each; last how many there are more. Facts are
/// named "miss", "violation", "more".
std::vector<Fact> describe_findings(std::span<const ChoiceAgreement> choices, i64 limit);

/// The rows of `choices` that differ from the exact selection though rounding may explain it, at most `limit`; last how
/// many more there are. Facts are named "differs" and "more".
std::vector<Fact> describe_differences(std::span<const ChoiceAgreement> choices, i64 limit);

/// Recall, IoU, attention mass, needles, and what was asked for.
Fact describe_quality(const Quality& quality, std::optional<double> minimum_recall);

}  // namespace misa
