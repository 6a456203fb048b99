#pragma once

#include <string>
#include <vector>

#include "core/indexer/spec.hpp"

namespace misa {

/// What specs that are shown together are called: the indexer's name and, where several have it, the numbers in which
/// these differ: "misa h 4", "misa (qnorm) h 8", "misa-dagger h 8 k' 4096", "hisa B 128 m 64". h active heads, s
/// sampled keys, k' candidates, B tokens per block, m blocks, k tokens kept.
std::vector<std::string> spec_labels(const std::vector<IndexerSpec>& specs);

/// All that the spec says, as one text: equal texts are equal specs.
std::string spec_text(const IndexerSpec& spec);

}  // namespace misa
