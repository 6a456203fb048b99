#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "core/base/error.hpp"
#include "core/experiment/memory.hpp"
#include "core/experiment/origin.hpp"
#include "core/workload/profile.hpp"
#include "core/workload/workload.hpp"

namespace misa::cli {

/// Returns the directories of profiles: $MISA_PROF_PROFILES, then those beside the program (installed or in a build
/// tree).
std::vector<std::string> profile_directories();
/// Returns a path that exists as it is; "profiles/..." that does not, as in the documentation, below the profiles of
/// the program; every other path unchanged.
std::string shipped_path(const std::string& path);
/// The error for a command that needs a profile and finds none: it names the directories that were searched.
Error no_profiles();

/// The options that name a workload, and the workload they name.
struct WorkloadOptions {
  std::string trace, model, workload, preset;
  u64 seed = 1;
  std::optional<i64> rows, row, context, sequences, next_n, page_size, compress_ratio;
  std::string phase, dtype;
  std::optional<i64> layer;  ///< of a recorded workload that holds several
  i64 max_bytes = 0;         ///< of --max-memory; 0: nine tenths of the machine's memory

  void add_synthetic(CLI::App& command);
  void add_trace(CLI::App& command);
  void add_row(CLI::App& command);
  void add_memory(CLI::App& command);

  i64 memory_limit() const;
  MemoryLimits memory_limits() const;
  /// Reads or generates. Warnings of the reader go to `warnings`. Refuses what --max-memory cannot hold. `change`, if
  /// there is one, is applied to all rows, before --rows and --row leave some out.
  Workload load(std::vector<Warning>* warnings, const std::function<void(Workload&)>& change = {}) const;
  Workload synthesise() const;
  /// The workload without its numbers where it is generated (core/workload/synthetic.hpp, lay_out).
  Workload outline() const;
  /// True when the workload is a recorded one.
  bool recorded() const;
  /// What --phase, --context and the like change about the workload profile.
  WorkloadChanges changes() const;
  /// --model and --workload where they are files. Outputs must not overwrite what is read.
  std::vector<std::string> profile_files() const;
  /// The file that --trace names: a path, or a name of profiles/traces.
  std::string trace_path() const;

 private:
  /// The format that --dtype names; nothing without it. Error(usage) MP-E563.
  std::optional<ValueFormat> format() const;
  /// Returns what the generator is asked for. Error(usage) MP-E017: options name a recorded workload too.
  SyntheticRequest request() const;
};

/// "512MiB", "2G", "1000000" -> bytes.
i64 parse_bytes(const std::string& text);

/// `host`: the report names this machine; `top_k_asked`: an option said `top_k`. The command line is left empty.
Origin origin_of(const WorkloadOptions& workload, bool host, bool top_k_asked);

}  // namespace misa::cli
