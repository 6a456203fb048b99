#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/measure/crossover.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/result_file.hpp"

// A sweep as plain data. It is made from its document, whether this process measured it, an earlier one did, or several
// did parts of it.

namespace misa {

constexpr std::string_view kSweepSchemaVersion = "1.0.0";

/// What tables and verdicts need of a case.
struct SweepCase {
  std::string key, name, setting, series, model, backend;
  i64 context = 0, group = 0;
  bool reference = false;                  ///< dsa
  std::vector<double> seconds = {};        ///< end to end, round by round
  std::optional<double> median, p10, p90;  ///< seconds
  std::optional<PairedRatio> speedup;      ///< over dsa; empty for dsa itself
  std::optional<double> recall, worst_recall, attention_mass;
  std::optional<i64> worst_row;
  std::optional<double> flops, bytes;  ///< of all stages; empty: one of them has no cost
  bool loaded = false;                 ///< other work shared the cores
};

/// From which length one indexer is faster than another in one setting.
struct SweepCrossover {
  std::string setting, model, backend, of, over;
  Crossover crossover;
  bool loaded = false;  ///< at one of the lengths
};

struct FrontPoint {
  std::string key, name;
  double cost = 0, quality = 0;
  bool on_front = false;
};

/// The offers of one group: quality against cost.
struct SweepFront {
  std::string setting, model, backend;
  i64 context = 0;
  std::string quality;  ///< "recall" or "attention_mass"
  std::string cost;     ///< "time" in nanoseconds, "flops" or "bytes"
  std::vector<FrontPoint> points;
};

struct SweepReport {
  Json document;  ///< with crossovers and fronts
  std::vector<SweepCase> cases;
  std::vector<SweepCrossover> crossovers;  ///< each against dsa first, in the order of the cases
  std::vector<SweepFront> fronts;
};

/// Reads the cases of a document and adds what follows from them: crossovers of each pair of indexers in each setting,
/// and fronts of each group. Cases are sorted by group. Error(input) MP-E488 for a document that lacks what it must
/// have.
SweepReport make_sweep_report(const Json& document, const std::string& path);

/// The document of a sweep: what its header has, its cases, and what is known at its end. "complete" comes last.
Json sweep_document(const Json& header, const std::vector<Json>& cases, const std::vector<Json>& skipped,
                    const Json& warnings, bool complete);

/// "from 6100 tokens (between 4096 and 8192, 95 %)" and the like: what a crossover says, in words.
std::string crossover_text(const SweepCrossover& one);
/// From which length it pays, by how much, and what is lost: a sentence for each indexer and setting, or why there is
/// none.
std::vector<std::string> answers(const SweepReport& report);

/// The footer of JSON Lines: what the document has beside its header and its cases.
std::string sweep_footer(const SweepReport& report);

}  // namespace misa
