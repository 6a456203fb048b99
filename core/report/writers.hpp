#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/agreement_report.hpp"
#include "core/report/text_table.hpp"
#include "core/report/write.hpp"

// The writers of profiles and of agreement reports, and what those of agreement for people say in the same words. All
// have the signature of ReportFormat; only tables look at the options.
namespace misa {

struct Fact {
  std::string name;
  std::vector<std::string> parts;  ///< printable
};

/// The commit and how it was built; all parts are empty where nothing is known.
std::string build_text(const ReportBuild& build);

/// Workload, machine and backends.
std::vector<Fact> describe_run(const Report& report);
/// The keys that are stored: "8192 keys", "2048 entries of 4 tokens".
std::string keys_text(const ReportWorkload& workload);
/// What rows see: "8065 / 8128 / 8192 tokens, 2016 / 2032 / 2048 entries of 4 visible (min / median / max)".
std::string context_text(const ReportWorkload& workload);

/// The lines above a table: the program, the time, and facts, whose names take `name_width` columns.
std::string text_head(const std::string& tool_version, const ReportEnvironment& environment,
                      const std::vector<Fact>& facts, i64 name_width, const WriterOptions& options);

/// "misa (qnorm)" and, where the report has several backends, "misa (qnorm) on cuda".
std::string case_name(const Report& report, const ReportCase& one);

/// What the indexer was told.
std::vector<std::string> describe_parameters(const Report& report, const ReportCase& one);

/// Samples, first call and closure.
std::vector<Cell> describe_timing(const ReportCase& one);

/// The stages of all cases, in shared units. For a terminal: a block for each case under its title, with bars. Else one
/// row after the other, each with the name of its case.
TextTable stage_table(const Report& report, const std::optional<WriterOptions>& terminal);

/// The recorded selection of a report that has one, in the form of a case that was not timed.
ReportCase recorded_case(const Report& report);

/// Indexer, end to end, speed-up, quality; the recorded selection comes last.
TextTable summary_table(const Report& report);

/// Why a needle rate is not shown: the reference itself finds too few (Quality::shows_needles).
std::string unshown_needles(const Quality& quality);

/// Skips, needles that are not shown, warnings, interruption.
std::vector<Cell> describe_notes(const Report& report);

/// A field of CSV by RFC 4180: quotes where it holds a quote, a comma, a line break or an edge of space.
std::string csv_field(std::string_view text);

std::string write_json(const Report& report, const WriterOptions& options = {});
std::string write_json_lines(const Report& report, const WriterOptions& options = {});
std::string write_csv(const Report& report, const WriterOptions& options = {});
/// CSV of the quality of each row that has a token to find, indexer by indexer.
std::string write_rows(const Report& report, const WriterOptions& options = {});
std::string write_markdown(const Report& report, const WriterOptions& options = {});
/// The page of the JSON document (html_page).
std::string write_html(const Report& report, const WriterOptions& options = {});
std::string write_agreement_html(const AgreementReport& report, const WriterOptions& options = {});
std::string write_table(const Report& report, const WriterOptions& options);

std::string write_agreement_table(const AgreementReport& report, const WriterOptions& options);
std::string write_agreement_json(const AgreementReport& report, const WriterOptions& options = {});
/// write_rows of the cases that have quality: of --against-indexer, and of judged ids.
std::string write_agreement_rows(const AgreementReport& report, const WriterOptions& options = {});
std::string write_agreement_junit(const AgreementReport& report, const WriterOptions& options = {});

std::string write_niah_table(const NiahReport& report, const WriterOptions& options);
std::string write_niah_json(const NiahReport& report, const WriterOptions& options = {});
/// A line for each cell.
std::string write_niah_csv(const NiahReport& report, const WriterOptions& options = {});
/// The maps beside one another.
std::string write_niah_svg(const NiahReport& report, const WriterOptions& options = {});
std::string write_niah_markdown(const NiahReport& report, const WriterOptions& options = {});
std::string write_niah_html(const NiahReport& report, const WriterOptions& options = {});

std::string write_sweep_table(const SweepReport& report, const WriterOptions& options);
std::string write_sweep_json(const SweepReport& report, const WriterOptions& options = {});
std::string write_sweep_lines(const SweepReport& report, const WriterOptions& options = {});
/// A line for each case.
std::string write_sweep_csv(const SweepReport& report, const WriterOptions& options = {});
std::string write_sweep_markdown(const SweepReport& report, const WriterOptions& options = {});
std::string write_sweep_html(const SweepReport& report, const WriterOptions& options = {});

/// kVerdictNames for people.
constexpr std::array<std::string_view, kVerdictNames.size()> kVerdictWords{
    "exact", "tie-swap", "within bound", "follows", "unbounded", "unknown", "miss", "violation", "unjudged", "empty"};

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
