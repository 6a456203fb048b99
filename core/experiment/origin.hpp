#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/report/report.hpp"

namespace misa {

/// What only the caller of an experiment knows, and its report says.
struct Origin {
  std::string tool_version = {};
  std::vector<std::string> command_line = {};
  ReportBuild build = {};
  bool host = false;                           ///< the report names this machine
  std::optional<u64> seed = {};                ///< of a generated workload
  std::optional<std::string> trace_path = {};  ///< of a recorded one
  bool top_k_asked = false;                    ///< somebody asked for this top-k; else the workload's default holds
  std::vector<Warning> warnings = {};          ///< noticed before the experiment
  /// The command that explains a row of an indexer; empty: there is none to name.
  std::function<std::string(const std::string& indexer, i64 row)> explain_row = {};
};

}  // namespace misa
