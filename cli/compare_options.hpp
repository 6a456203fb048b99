#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/indexer_options.hpp"
#include "cli/output.hpp"
#include "cli/planned.hpp"
#include "cli/workload_options.hpp"
#include "core/experiment/compare.hpp"

namespace misa::cli {

/// Files of a bundle.
constexpr const char* kBundledInput = "input.safetensors";
constexpr const char* kBundledReport = "report.json";

/// The backends of a comparison. `other` is null where the formulas or a golden are the other side.
struct Sides {
  std::vector<DrySide> dry;  ///< with --dry-run: what `backend` and `other` are
  std::unique_ptr<Backend> exact, backend, other;
};

/// The options of compare, and of shrink, which runs it again and again.
struct CompareOptions {
  WorkloadOptions workload;
  IndexerOptions indexer;
  OutputOptions output{agreement_format_names()};
  std::string backend = "cpu", against = "oracle";
  std::optional<i64> threads, device;
  std::vector<std::string> kernels, stages;
  i64 max_miss = 0, repeats = 0;
  bool poison = false, sweep = false, robust = false, no_fusion = false, annotate = false, force = false, dry = false;
  std::string against_indexer, golden, bundle, inject, config;
  std::string selection, arithmetic, ids{kind_name(IdKind::token)};
  std::optional<double> min_recall;
  double limit_seconds = 60;
  std::string isolated;  ///< of this program's own process for a plug-in: the folder that test_into writes to

  void add(CLI::App& command);
  /// Takes what the golden of --against was made with, unless the command line names a workload or an indexer; then
  /// settles which indexers are compared without --indexer.
  void complete(CLI::App& command);
  /// The options of workload and indexer that `command` was given, one `name=value` a line.
  static std::string made_with(const CLI::App& command);
  /// The files that no output may overwrite.
  std::vector<std::string> input_files() const;
  /// Error(usage) where they contradict each other or name what there is not.
  void check() const;
  /// --device.
  int device_number() const;
  /// --stages, in their order; all of them by default.
  std::vector<Choice> choices() const;
  /// --ids.
  IdKind id_kind() const;
  /// Puts the ids of --selection into `loaded`, as its recorded topk, and --arithmetic.
  void add_selection(Workload& loaded, std::vector<Warning>& warnings) const;
  /// --inject; empty where no mistake is to be made.
  std::optional<MistakeInfo> mistake() const;
  /// The program of --backend exec:.
  std::optional<UserProgram> program() const;
  /// Whether the tested side is a plug-in that another process loads.
  bool isolates() const;
  /// The process of `stand_in`.
  Isolation isolation(StandIn& stand_in) const;
  /// The tested side with so many threads, in this process.
  std::unique_ptr<Backend> tested(i64 thread_number) const;
  /// The backends that they name.
  Sides sides(i64 thread_number) const;
  /// The comparison that they ask for; the options, `sides` and `loaded` outlive it.
  CompareRequest request(const Sides& sides, const Workload& loaded, i64 thread_number) const;
};

/// True when the name is a backend's.
bool is_backend(const std::string& name);

}  // namespace misa::cli
