#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/report/report.hpp"
#include "core/report/text_table.hpp"
#include "core/report/write.hpp"

// What the writers for people (table, Markdown) say in the same words.
namespace misa {

struct Fact {
  std::string name;
  std::vector<std::string> parts;  ///< printable
};

/// The commit and how it was built; all parts are empty where nothing is known.
std::string build_text(const ReportBuild& build);

/// Workload, machine and backends.
std::vector<Fact> describe_run(const Report& report);

/// The lines above a table: the program, the time, and facts, whose names take `name_width` columns.
std::string text_head(const std::string& tool_version, const ReportEnvironment& environment,
                      const std::vector<Fact>& facts, i64 name_width, const WriterOptions& options);

/// "misa (qnorm)" and, where the report has several backends, "misa (qnorm) on cuda".
std::string case_name(const Report& report, const ReportCase& one);

/// What the indexer was told.
std::vector<std::string> describe_parameters(const ReportCase& one);

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

}  // namespace misa
