#pragma once

#include <optional>
#include <string>

#include "core/indexer/spec.hpp"

namespace misa {

/// The numbers of an indexer as writers show them; empty where it has no such parameter.
struct ReportParameters {
  i64 top_k = 0;
  std::optional<i64> active_heads;
  std::optional<i64> head_block_size;  ///< tokens per block mean that heads are ranked over
  std::optional<i64> sampled_keys;     ///< keys of a row, at least, that heads are ranked over
  std::optional<i64> blocks;           ///< kept
  std::optional<i64> block_size;       ///< tokens per block that is kept or left
  std::optional<i64> candidates;       ///< that are scored again
  std::optional<std::string> block_window;
};

ReportParameters parameters_of(const IndexerSpec& spec);

/// The router's name; empty: the indexer routes no heads.
std::optional<std::string> router_of(const IndexerSpec& spec);

}  // namespace misa
