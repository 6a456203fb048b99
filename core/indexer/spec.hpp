#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/types.hpp"
#include "core/indexer/forced.hpp"

namespace misa {

/// How heads are ranked before the h best are kept. E[t, j] is what a row ranks its heads by.
enum class Router : u8 {
  pooled,  ///< mean over blocks b of |w[t,j] * relu(q[t,j] . kbar[b])|      MISA, arXiv:2605.07363
  qnorm,   ///< |q[t,j]|_2 before quantisation                               released vLLM patch, misa_use_qnorm
  selfk,   ///< w[t,j] * relu(q[t,j] . k[end-1]) * k_scale, signed           released vLLM patch, 1-stage decode
  gate,    ///< |w[t,j]|                                                     ours, ablation
  oracle,  ///< mean over visible tokens of |w[t,j] * relu(q . k) * k_scale| ours, ablation: the true energy
  random,  ///< a hash of (seed, row, head)                                  ours, ablation
  linear_residual,  ///< |w[t,j]| * deviation of what a line leaves of relu(x), over sampled tokens; ours
  covariance,       ///< heads are dropped in turns, so that their sum varies least over sampled tokens; ours
};

/// Routers that look at sampled tokens (layout_samples): they alone can rank heads beside a linear head.
constexpr bool samples_keys(Router router) { return router == Router::linear_residual || router == Router::covariance; }

struct RouterInfo {
  Router router;
  std::string_view name, what, source;
};

/// Every router, in the order of the enumeration.
std::span<const RouterInfo> routers();
std::string_view router_name(Router router);
std::optional<Router> find_router(std::string_view name);

/// Where pooling blocks lie.
enum class BlockWindow : u8 {
  visible,   ///< from the sequence's begin; a row's last block averages only the tokens it may see (ours)
  upstream,  ///< floor(ks/B) .. ceil(ke/B) of the flat key buffer, means over whole blocks (released vLLM patch)
};
std::string_view block_window_name(BlockWindow window);
std::optional<BlockWindow> find_block_window(std::string_view name);

/// When pooled and sampled keys are made.
enum class Pooling : u8 {
  fresh,   ///< in every run, from all keys
  cached,  ///< with the plan, as engines keep them from step to step: a run makes those that its rows' own tokens
           ///< change (changed_keys), and the last blocks of rows; all other keys stay as they are   (ours)
};
std::string_view pooling_name(Pooling pooling);
std::optional<Pooling> find_pooling(std::string_view name);

/// Score with `active` heads of each row, ranked by `router` over blocks of `block_size` tokens or over `samples`
/// tokens. With `linear`, the last two of them are a linear head that stands for all heads that are not kept.
struct HeadRouting {
  Router router = Router::pooled;
  i64 active = 8;
  i64 block_size = 1024;
  i64 samples = 64;
  bool linear = false;
  i64 group = 1;  ///< consecutive rows of a sequence that keep the heads of the largest sums of their energies

  /// Of `heads` heads: none is left to a linear head when all are active.
  constexpr bool linear_head(i64 heads) const { return linear && active < heads; }
  /// How many are kept as they are.
  constexpr i64 kept(i64 heads) const { return linear_head(heads) ? active - 2 : active < heads ? active : heads; }
};

/// Keep `blocks` blocks of `block_size` tokens of each row, the first and the last always among them, and those of
/// forced tokens.
struct BlockPruning {
  i64 blocks = 64;
  i64 block_size = 128;
};

/// Score the best `candidates` tokens of the first pass again with all heads.
struct Rerank {
  i64 candidates = 8192;
};

/// An indexer is data: what is handed to scoring. Any combination runs (core/indexer/plan.cpp).
struct IndexerSpec {
  std::string name;
  i64 top_k = 2048;
  Forced forced = {};  ///< tokens that every selection holds; candidates of a first pass hold them too
  BlockWindow block_window = BlockWindow::visible;
  Pooling pooling = Pooling::fresh;
  u64 seed = 1;        ///< of the random router
  bool given = false;  ///< scores what the workload brings (Problem::given), not whole windows; not with `blocks`
  std::optional<HeadRouting> heads = {};
  std::optional<BlockPruning> blocks = {};
  std::optional<Rerank> rerank = {};

  /// The tokens that are forced, within top_k: what of them is selected where not all tokens are.
  constexpr Forced forced_tokens() const { return forced.within(top_k); }
  /// The blocks that are forced where blocks are pruned: the first and the last, and all that may hold forced tokens.
  Forced forced_blocks() const;
  /// Whether it reads means of keys, or sampled ones.
  bool pools() const { return blocks || (heads && (heads->router == Router::pooled || samples_keys(heads->router))); }
};

struct IndexerInfo {
  std::string_view name, what, source;
  bool routes_heads, prunes_blocks, reranks, linear;
  bool given = false;
};

/// dsa, misa, misa-dagger, hisa, misa-lr, misa-lr-dagger: those that run on any workload.
std::span<const IndexerInfo> indexers();
/// These, and `given`, which takes a workload that brings candidates.
std::span<const IndexerInfo> all_indexers();

/// What a user may change about an indexer; unset values keep the indexer's own.
struct IndexerSettings {
  i64 top_k = 2048;
  Forced forced = {};
  i64 active_heads = 8;
  std::optional<i64> block_size = {};  ///< misa 1024 (the release's), hisa 128 (its paper's)
  std::optional<i64> candidates = {};  ///< misa-dagger 8192 (its paper's), misa-lr-dagger by `context`
  i64 blocks = 64;
  i64 samples = 64;
  i64 group = 1;
  std::optional<Router> router = {};  ///< unset: misa pooled, misa-lr covariance
  BlockWindow block_window = BlockWindow::visible;
  Pooling pooling = Pooling::fresh;
  u64 seed = 1;
  i64 context = 0;  ///< tokens that the longest row sees; 0: not known
};

/// The spec of the indexer called `name`. Throws Error(usage) when there is none, with the nearest name.
IndexerSpec make_indexer(std::string_view name, const IndexerSettings& settings);

}  // namespace misa
