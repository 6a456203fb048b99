#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/report/report.hpp"
#include "core/report/text_table.hpp"

namespace misa {

/// What the indexers of a whole model take:
///
///   a step of a decode        layers with an indexer * time of one
///   a token of a prefill      layers with an indexer * time of one / rows
///
/// A layer without an indexer reuses the selection of an earlier one and takes nothing. Times are medians end to end.
struct WholeModel {
  struct One {
    std::string name;  ///< of the case
    double seconds = 0;
  };

  i64 layers = 0, indexer_layers = 0;
  std::string per;  ///< "step" or "token"
  std::vector<One> cases;
};

/// Nothing where the workload does not say how many layers its model has, or no case was timed.
std::optional<WholeModel> whole_model(const Report& report);

/// A line for each case.
TextTable whole_model_table(const WholeModel& whole);

}  // namespace misa
