#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/agreement/agreement.hpp"
#include "core/report/report.hpp"

namespace misa {

/// What `misa-prof compare` found, as plain data (docs/agreement.md has the meaning of every word).
constexpr std::string_view kAgreementSchemaVersion = "1.3.0";

/// A check that has only an outcome: repeat-bitwise, canaries, unused memory, threads.
struct ReportCheck {
  std::string name;
  bool passed = true;
  std::string detail;  ///< what was done, or what was found
};

/// One indexer, one side against the other.
struct AgreementCase {
  std::string indexer;
  std::optional<std::string> router;
  ReportParameters parameters, used;  ///< as told, and what that amounts to
  Conclusion verdict = Conclusion::passed;
  std::string explanation;  ///< why, in a line; may be empty when passed
  std::string how;          ///< what would give another verdict, where that is known; not written
  std::vector<ChoiceAgreement> choices;
  std::vector<ReportCheck> checks;
  std::optional<Quality> quality;        ///< of --against-indexer, and of a recorded selection
  std::optional<double> minimum_recall;  ///< --min-recall
  std::string reproduce;                 ///< the command that runs this case alone
  double seconds = 0;
};

struct ReportSide {
  std::string name;         ///< "cpu", "oracle", or the path of a golden or a selection
  std::string description;  ///< device and library, or what a selection's ids count
  std::string arithmetic;   ///< "f32-dot"; empty: not known
};

struct AgreementReport {
  std::string tool_version;
  std::vector<std::string> command_line;
  ReportEnvironment environment;
  ReportWorkload workload;
  std::string input_hash;  ///< 16 hexadecimal digits
  ReportSide side, against;
  i64 max_miss = 0;
  std::vector<AgreementCase> cases;
  std::vector<Warning> warnings;
  bool interrupted = false;
};

/// One GitHub workflow command for each failed case (::error title=...::...) and each warning (::warning ...), escaped
/// in GitHub's format.
std::string github_annotations(const AgreementReport& report);

/// The command line of an agreement report that was written as JSON. Strict: not JSON, another schema or major version,
/// no command line: Error(input) MP-E62x naming `path`.
std::vector<std::string> read_agreement_command(std::string_view json, const std::string& path);

}  // namespace misa
