#pragma once

#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/experiment/explain.hpp"

namespace misa::cli {

/// An explanation with what only the command knows.
struct ExplainedRow {
  Explanation explanation;
  std::string workload;
  bool chosen = false;  ///< nobody named the row: it is the one of lowest recall
  std::vector<Warning> warnings = {};
};

/// For people: one screen.
std::string explain_text(const ExplainedRow& row, int width, bool colour);
/// For programs, with all heads and all missed tokens.
std::string explain_json(const ExplainedRow& row);

}  // namespace misa::cli
