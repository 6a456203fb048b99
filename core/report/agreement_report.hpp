#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/report.hpp"

namespace misa {

/// What `misa-prof compare` found, as plain data (docs/agreement.md has the meaning of every word).
constexpr std::string_view kAgreementSchemaVersion = "1.1.0";

/// How many rows got each verdict.
struct ReportVerdicts {
  i64 exact = 0, tie_swap = 0, within_bound = 0, follows = 0, unbounded = 0, unknown = 0, miss = 0, violation = 0,
      unjudged = 0, empty = 0;
};

struct ReportMiss {
  std::string side;
  i64 row = 0;
  i64 missed = 0, taken = 0;  ///< ids; of scores: both the token
  double missed_score = 0, taken_score = 0;
  i64 rank = 0;            ///< of the missed id by exact score, from 0
  double gap_to_last = 0;  ///< above the last id that belongs to the selection
  double mass_lost = 0;    ///< of the missed score, as a share of the sum of |exact scores| that belong
  double bound = 0;        ///< how far apart rounding could have brought the two scores
  bool forced = false;     ///< the missed id belongs to every selection, whatever it scores
};

struct ReportViolation {
  std::string side;
  i64 row = 0, column = 0, id = 0;
  std::string fault;  ///< "duplicate", "out-of-window", ...
};

/// A row of a recorded selection that holds tokens which exact scores leave out.
struct ReportDifference {
  i64 row = 0;
  i64 tokens = 0;             ///< so many of them
  i64 token = 0;              ///< the one of the lowest exact score
  double score = 0;           ///< its exact score
  double gap = 0, bound = 0;  ///< how far it lies below the last that belongs, and what rounding explains of that
};

/// One of heads, blocks, candidates, tokens, scores.
struct ReportChoice {
  std::string name;
  i64 rows = 0;
  i64 trivial = 0;  ///< rows in which everything on offer had to be taken
  ReportVerdicts verdicts;
  i64 missed = 0, violated = 0;    ///< all of them; the lists below hold the first hundred
  double worst_mass_lost = 0;      ///< share of the sum of |exact scores| of the right selection
  double largest_bound_share = 0;  ///< largest score difference in proportion to its bound
  std::vector<ReportMiss> misses;
  std::vector<ReportViolation> violations;
  std::vector<ReportDifference> differences = {};  ///< of a recorded selection: the first hundred
  i64 differing = 0;                               ///< all rows that differ
  std::string reason;                              ///< why no row was compared; empty: some were
};

enum class CaseVerdict { passed, failed, inconclusive, nothing };
constexpr std::string_view case_verdict_name(CaseVerdict verdict) {
  constexpr std::string_view kNames[] = {"passed", "failed", "inconclusive", "nothing"};
  return kNames[static_cast<int>(verdict)];
}

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
  CaseVerdict verdict = CaseVerdict::passed;
  std::string explanation;  ///< why, in a line; may be empty when passed
  std::vector<ReportChoice> choices;
  std::vector<ReportCheck> checks;
  std::optional<ReportQuality> quality;  ///< of --against-indexer, and of a recorded selection
  std::optional<double> minimum_recall;  ///< --min-recall
  std::string reproduce;                 ///< the command that runs this case alone
  double seconds = 0;
};

struct ReportSide {
  std::string name;         ///< "cpu", "oracle", or the golden's path
  std::string description;  ///< device and library
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
/// as GitHub wants it.
std::string github_annotations(const AgreementReport& report);

}  // namespace misa
