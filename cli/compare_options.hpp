#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/indexer_options.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/agreement/agreement.hpp"
#include "core/agreement/faults.hpp"
#include "core/indexer/plan.hpp"
#include "core/report/agreement_report.hpp"

namespace misa::cli {

/// The options of compare, and of shrink, which runs it again and again.
struct CompareOptions {
  WorkloadOptions workload;
  IndexerOptions indexer;
  OutputOptions output{agreement_format_names()};
  std::string backend = "cpu", against = "oracle";
  std::optional<i64> threads, device;
  std::vector<std::string> stages;
  i64 max_miss = 0, repeats = 0;
  bool poison = false, sweep = false, robust = false, no_fusion = false, annotate = false, force = false, dry = false;
  std::string against_indexer, golden, bundle, inject, config;
  std::optional<double> min_recall;

  void add(CLI::App& command);
  /// --device.
  int device_number() const;
  /// --stages, in their order; all of them by default.
  std::vector<Choice> choices() const;
  /// --inject, which must be given.
  MistakeInfo mistake() const;
};

/// What one side chose: a run of the backend, with the mistake of --inject where one is asked for.
Selection run_side(const CompareOptions& options, Backend& backend, const IndexerSpec& spec, Arbiter& arbiter,
                   const PlanOptions& plan_options);

/// Bytes that a plan of each of `specs` may take beside the problem, on `side` and on `other` (null: there is none), or
/// when it is rated against `reference`. `copies` more of the workload are alive then. Error(runtime) with the bytes
/// needed where --max-memory, or what a device has free, cannot hold all that is alive at once. Allocates nothing.
std::vector<i64> comparison_limits(const CompareOptions& options, const Backend& exact, const Backend& side,
                                   const Backend* other, const std::vector<IndexerSpec>& specs,
                                   const std::optional<IndexerSpec>& reference, const Workload& workload, i64 copies);

/// True when the name is a backend's.
bool is_backend(const std::string& name);

}  // namespace misa::cli
