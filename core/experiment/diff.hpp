#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/report/diff_report.hpp"
#include "core/report/result_file.hpp"

namespace misa {

/// Differences between results that a comparison of times may ignore.
struct DiffAllowed {
  bool inputs = false;  ///< model, workload, context, values
  bool host = false;    ///< processor, cores, governor, device
  bool build = false;   ///< compiler, flags, libraries
  bool run = false;     ///< threads, cold caches, graphs
};

struct DiffRequest {
  std::vector<ResultFile> a, b;  ///< of the kinds result and sweep; each file is a run of its own
  DiffAllowed allowed = {};
  double same_within = 0.05;
  double noise = 0.01;  ///< standard deviation of log times from run to run, for a side of one run
  std::optional<double> max_slowdown = {};
  std::string tool_version = {};
  std::vector<std::string> command_line = {};
};

/// Compares the cases that both sides have: same model, workload, context, indexer, router, parameters as used, backend
/// and side. TimeRatio::separate compares times, and all of them are judged together; quality is compared number by
/// number.
///
/// A difference in time is inconclusive where a side has fewer than four runs and other work shared the cores during
/// one of them: such a load may slow down all of a run.
///
/// Error(input) MP-E489: the results are not alike, with every difference and the option that allows it. Error(nothing)
/// MP-E490: no case is on both sides; MP-E497: a result is given twice.
DiffReport diff(const DiffRequest& request);

}  // namespace misa
