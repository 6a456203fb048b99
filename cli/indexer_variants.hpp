#pragma once

#include <string>
#include <vector>

#include "cli/indexer_options.hpp"

namespace misa::cli {

/// An indexer with options of its own: "misa:router=qnorm,active-heads=1".
struct IndexerVariant {
  std::string name;        ///< for people: "misa (qnorm, h 1)"
  std::string text;        ///< as it is written in a list
  IndexerOptions options;  ///< of this indexer alone: its name is the only one
};

/// The indexers of `options`, each with what stands behind its name: NAME[:OPTION=VALUE[,OPTION=VALUE]...]. In a list
/// with commas, what has a '=' and no name before it belongs to the indexer before. An option is one of --router,
/// --top-k, --active-heads, --sampled-keys, --group, --block-size, --candidates, --blocks, --block-window and
/// --pooling, without "--"; it wins over the same option of the command. "all" is every indexer.
///
/// Error(usage) MP-E551: no such option or value, or one is given twice; MP-E010, MP-E031 as for --indexer.
std::vector<IndexerVariant> variants_of(const IndexerOptions& options);

}  // namespace misa::cli
