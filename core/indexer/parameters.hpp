#pragma once

#include "core/indexer/spec.hpp"

// Which parameters an indexer has: the others do not change what it does.

namespace misa {

inline bool routes_heads(const IndexerSpec& spec) { return spec.heads.has_value(); }
inline bool pools_blocks(const IndexerSpec& spec) { return spec.heads && spec.heads->router == Router::pooled; }
inline bool samples_keys(const IndexerSpec& spec) { return spec.heads && samples_keys(spec.heads->router); }
inline bool draws_heads(const IndexerSpec& spec) { return spec.heads && spec.heads->router == Router::random; }
inline bool prunes_blocks(const IndexerSpec& spec) { return spec.blocks.has_value(); }
inline bool has_blocks(const IndexerSpec& spec) { return pools_blocks(spec) || prunes_blocks(spec); }
inline bool pools_keys(const IndexerSpec& spec) { return spec.pools(); }
inline bool reranks(const IndexerSpec& spec) { return spec.rerank.has_value(); }

}  // namespace misa
