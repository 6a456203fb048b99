#pragma once

#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"

namespace misa {

/// The same indexer with each number cut to what the problem has room for: it selects the same.
///
///   active heads   the heads there are; of a linear indexer, none is left to the linear head then
///   block size     the tokens of the longest stretch that is divided into blocks: a larger block is the same block
///   samples, candidates, top_k    the tokens of the longest window
///   group          the rows there are
///   blocks         the most that a row sees
///
/// A problem whose rows see nothing has room for 1 of each.
IndexerSpec effective(IndexerSpec spec, const Problem& problem);

}  // namespace misa
