#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "core/indexer/backend.hpp"
#include "core/indexer/spec.hpp"
#include "core/workload/workload.hpp"

namespace misa::cli {

/// The options that say which indexers run, and how.
struct IndexerOptions {
  std::vector<std::string> names{"dsa", "misa", "misa-dagger", "hisa"};
  std::string router, block_window = "visible";  ///< no router: each indexer's own
  std::string pooling;                           ///< none: cached at decode, else fresh
  std::optional<i64> top_k, block_size, candidates, force_first, force_last;
  i64 active_heads = IndexerSettings{}.active_heads, sampled_keys = IndexerSettings{}.samples;
  i64 blocks = IndexerSettings{}.blocks, group = IndexerSettings{}.group;

  void add(CLI::App& command);
  /// What the options mean for `workload`. Error(usage) for names that do not exist.
  IndexerSettings settings(const Workload& workload, u64 seed) const;
  /// Their names, one by one; "all" is every indexer. Error(usage) when one is named twice.
  std::vector<std::string> listed() const;
  /// The named indexers, in their order. Error(usage): unknown, or fewer candidates than are kept.
  std::vector<IndexerSpec> specs(const IndexerSettings& settings) const;
};

/// "a,b" and "c" -> a, b, c.
std::vector<std::string> split_at_commas(const std::vector<std::string>& lists);

}  // namespace misa::cli
