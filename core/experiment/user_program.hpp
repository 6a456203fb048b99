#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/indexer/spec.hpp"
#include "core/report/agreement_report.hpp"
#include "core/selection/id_file.hpp"
#include "core/selection/id_kind.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// A program of the user's that reads a trace and writes what it selects.
struct UserProgram {
  std::string text;                ///< as the user wrote it, for reports
  std::vector<std::string> words;  ///< its command line; {trace}, {selection}, {indexer}, {top_k} stand in it
  IdKind ids = IdKind::token;      ///< what its ids count
  std::string arithmetic;          ///< how it rounds; empty: as its file says
  double limit_seconds = 60;       ///< of each case
};

struct ProgramRun {
  std::optional<IdFile> selected;  ///< empty: it selected nothing that can be read, and the check says why
  ReportCheck check;
};

/// Starts the program on the inputs of `workload` in a folder that goes away with it, waits for its end, and reads what
/// it selected: `max_bytes` at most. Error(unavailable) MP-E420: there is no such program. Ends by Interrupted.
ProgramRun run_program(const UserProgram& program, const Workload& workload, const IndexerSpec& spec, i64 max_bytes);

}  // namespace misa
