#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/given_options.hpp"
#include "cli/indexer_options.hpp"

namespace misa::cli {

/// The options of profile that the two sides of --ab may differ in.
struct SideOptions {
  IndexerOptions indexer;
  std::string backend = "cpu";
  std::vector<std::string> kernels;
  std::optional<i64> threads;
  bool no_fusion = false, no_graph = false;

  /// Adds them, but --indexer.
  void add(CLI::App& command);
};

struct SideB {
  SideOptions options;
  std::vector<std::string> words;  ///< of --ab
  GivenOptions given;
};

/// Side A's options, changed by those that `text` gives. Error(usage) MP-E494: it gives none, one that sides cannot
/// differ in, or a value that is none.
SideB side_b(const SideOptions& a, const std::string& text);

}  // namespace misa::cli
