#pragma once

#include <CLI/CLI.hpp>
#include <set>
#include <string>
#include <vector>

#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"

// What becomes of options that a user gave: docs/cli.md, "Options that do nothing".

namespace misa::cli {

/// The long names, with "--", of the options that a command line or its --config sets.
using GivenOptions = std::set<std::string, std::less<>>;
GivenOptions given_options(const CLI::App& command);

/// What decides whether an option can matter to a run.
struct RunFacts {
  std::vector<IndexerSpec> specs = {};  ///< of every indexer that runs
  bool generated = false;               ///< the workload is drawn from --seed
  bool device = false;                  ///< a side runs on a device
  bool host = false;                    ///< a side runs on the host's cores
  bool fuses = false;                   ///< a backend of the run has fused kernels
  bool once = false;                    ///< --profile-once
  bool rates = false;                   ///< compare --against-indexer
  bool mistaken = false;                ///< compare --inject
  bool selects = false;                 ///< compare judges ids: of --selection or of a program
  bool child = false;                   ///< a side is a process of its own
  bool recorded = false;                ///< the workload has a selection, its own or that of --selection
  bool format_decides = true;           ///< an output takes its format from --format
  bool colours = true;                  ///< a table goes to standard output

  /// Records the backend that a side runs on, and the files that results go to.
  void run_on(const std::string& backend);
  void write_to(const std::vector<Target>& targets);
};

/// A warning MP-W033 for each given option that cannot change anything of the run. Error(usage) MP-E056 for one that
/// asks for a check or an output which the run does not make: it would seem to have passed.
std::vector<Warning> options_without_effect(const GivenOptions& given, const RunFacts& facts);

/// A warning MP-W034 for each given number that is larger than the problem has room for (core/indexer/effective.hpp).
std::vector<Warning> options_cut(const GivenOptions& given, const std::vector<IndexerSpec>& specs,
                                 const Problem& problem);

}  // namespace misa::cli
