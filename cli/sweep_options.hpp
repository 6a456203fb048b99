#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/indexer_options.hpp"
#include "cli/output.hpp"
#include "cli/workload_options.hpp"
#include "core/experiment/sweep_plan.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/sweep_report.hpp"

namespace misa::cli {

/// The options of a sweep: its axes, and what all of its cases share.
struct SweepOptions {
  std::map<std::string, std::vector<std::string>, std::less<>> lists;  ///< axis -> what was given for it
  std::vector<std::string> zips, kernels;
  u64 seed = 1;
  std::string block_window = "visible", shard, config;
  i64 max_bytes = 0;
  std::optional<i64> threads, device, samples, warm_up;
  double budget_seconds = 8;
  bool no_fusion = false, no_graph = false, warm = false, dry = false, resume = false;
  OutputOptions output{sweep_format_names()};

  void add(CLI::App& command);

  /// The axes, those that have a default too. Error(usage).
  std::vector<SweepAxis> axes() const;
  std::vector<std::vector<std::string>> zip_names() const;
  /// The options of profile that a point amounts to.
  WorkloadOptions workload_of(const Coordinates& point) const;
  IndexerOptions indexer_of(const Coordinates& point) const;
  /// What all cases share and results depend on, as it was given.
  Json shared_json(i64 thread_number) const;
  /// Files that are read, which no output may overwrite.
  std::vector<std::string> input_files(const std::vector<SweepAxis>& axes) const;
};

}  // namespace misa::cli
