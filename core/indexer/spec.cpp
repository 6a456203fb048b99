#include "core/indexer/spec.hpp"

#include <algorithm>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

namespace misa {
namespace {

constexpr std::array<RouterInfo, 8> kRouters{{
    {Router::pooled, "pooled", "mean energy over block-mean keys", "MISA, arXiv:2605.07363, prefill path"},
    {Router::qnorm, "qnorm", "L2 norm of the unquantised query", "released vLLM patch, misa_use_qnorm"},
    {Router::selfk, "selfk", "signed score of the row's own token", "released vLLM patch, single-stage decode"},
    {Router::gate, "gate", "absolute weight alone", "ours, ablation"},
    {Router::oracle, "oracle", "mean energy over every visible token", "ours, ablation"},
    {Router::random, "random", "seeded random heads", "ours, ablation"},
    {Router::linear_residual, "linear-residual", "what a line leaves of ReLU over sampled tokens", "ours"},
    {Router::covariance, "covariance", "in turns, so that what is dropped varies least over sampled tokens", "ours"},
}};

constexpr std::array<IndexerInfo, 7> kIndexers{{
    {"dsa", "all heads score all tokens", "DeepSeek-V3.2-Exp inference/model.py, Indexer", false, false, false, false},
    {"misa", "the h routed heads score all tokens", "arXiv:2605.07363", true, false, false, false},
    {"misa-dagger", "misa picks k' candidates, all heads rank them again", "arXiv:2605.07363", true, false, true,
     false},
    {"hisa", "all heads score the tokens of the m best blocks", "arXiv:2603.28458", false, true, false, false},
    {"misa-lr", "h - 2 heads as they are, one linear head for all others", "ours", true, false, false, true},
    {"misa-lr-dagger", "misa-lr picks k' candidates, all heads rank them again", "ours", true, false, true, true},
    {"given", "all heads score the candidates that the workload brings", "DeepSeek-V4.1, blocks of an earlier layer",
     false, false, false, false, true},
}};

constexpr std::array<std::string_view, 2> kBlockWindows{"visible", "upstream"}, kPoolings{"fresh", "cached"};

/// The value of an enumeration that `names` lists.
template <class Value>
std::optional<Value> value_called(const std::array<std::string_view, 2>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? std::nullopt : std::optional(static_cast<Value>(found - names.begin()));
}

void require_positive(i64 value, const char* option) {
  if (value >= 1) return;
  throw Error(ErrorKind::usage, "MP-E011", std::string(option) + " is " + std::to_string(value), {},
              "a value of at least 1");
}

void require_counts(const Forced& forced) {
  if (forced.first >= 0 && forced.last >= 0) return;
  throw Error(ErrorKind::usage, "MP-E011",
              "force-first is " + std::to_string(forced.first) + " and force-last is " + std::to_string(forced.last),
              {}, "values of at least 0");
}

/// Blocks that hold forced tokens are never left out, so that there must be room for them.
void require_room(const IndexerSpec& spec) {
  const Forced needed = spec.forced_blocks();
  if (!spec.forced.any() || needed.count() <= spec.blocks->blocks) return;
  throw Error(ErrorKind::usage, "MP-E545",
              "forced tokens lie in up to " + std::to_string(needed.count()) + " blocks of " +
                  std::to_string(spec.blocks->block_size) + ", and " + spec.name + " keeps " +
                  std::to_string(spec.blocks->blocks),
              {}, "--blocks " + std::to_string(needed.count()) + " or more, or fewer forced tokens");
}

void require_linear(const HeadRouting& heads, const std::string& name) {
  if (heads.active < 2) {
    throw Error(
        ErrorKind::usage, "MP-E045",
        "active-heads is " + std::to_string(heads.active) + ", and the linear head of " + name + " counts as two", {},
        "a value of at least 2");
  }
  if (!samples_keys(heads.router)) {
    throw Error(
        ErrorKind::usage, "MP-E046",
        "router " + std::string(router_name(heads.router)) + " samples no keys, and " + name + " needs their lines", {},
        "--router covariance or linear-residual");
  }
}

/// How many tokens a dagger ranks again where nobody says it; at least twice as many as are kept. With a linear head
/// the fewest of which recall on recordings is 0.96 or more (docs/misa-lr.md, Candidates).
i64 usual_candidates(const IndexerInfo& info, const IndexerSettings& settings) {
  i64 usual = 8192;
  if (info.linear && settings.context > 0 && settings.context <= 131072)
    usual = settings.context <= 32768 ? 4096 : 6144;
  return 2 * settings.top_k <= usual ? usual : 4 * settings.top_k;
}

}  // namespace

std::span<const RouterInfo> routers() { return kRouters; }
std::span<const IndexerInfo> indexers() { return std::span(kIndexers).first(kIndexers.size() - 1); }
std::span<const IndexerInfo> all_indexers() { return kIndexers; }

std::string_view router_name(Router router) { return kRouters[static_cast<std::size_t>(router)].name; }

std::optional<Router> find_router(std::string_view name) {
  const RouterInfo* found = find_row(kRouters, name);
  return found ? std::optional(found->router) : std::nullopt;
}

std::string_view block_window_name(BlockWindow window) { return kBlockWindows[static_cast<std::size_t>(window)]; }

std::optional<BlockWindow> find_block_window(std::string_view name) {
  return value_called<BlockWindow>(kBlockWindows, name);
}

std::string_view pooling_name(Pooling pooling) { return kPoolings[static_cast<std::size_t>(pooling)]; }
std::optional<Pooling> find_pooling(std::string_view name) { return value_called<Pooling>(kPoolings, name); }

Forced IndexerSpec::forced_blocks() const {
  // Blocks that start with the row hold its first tokens from their own first on. All others lie anyhow.
  const Forced tokens = forced_tokens();
  const i64 size = blocks ? blocks->block_size : 1;
  const auto anyhow = [&](i64 count) { return count > 0 ? ceil_div(count - 1, size) + 1 : 1; };
  const i64 first = block_window == BlockWindow::visible ? ceil_div(tokens.first, size) : anyhow(tokens.first);
  return {std::max<i64>(1, first), anyhow(tokens.last)};
}

IndexerSpec make_indexer(std::string_view name, const IndexerSettings& settings) {
  const IndexerInfo* info = find_row(kIndexers, name);
  if (info == nullptr) {
    throw Error(ErrorKind::usage, "MP-E010", "there is no indexer called '" + std::string(name) + "'", {},
                suggestion(name, names_of(kIndexers), "misa-prof list"));
  }
  require_positive(settings.top_k, "top-k");
  require_counts(settings.forced);
  require_positive(settings.active_heads, "active-heads");
  if (settings.candidates) require_positive(*settings.candidates, "candidates");
  require_positive(settings.blocks, "blocks");
  require_positive(settings.samples, "samples");
  require_positive(settings.group, "group");
  if (settings.block_size) require_positive(*settings.block_size, "block-size");

  IndexerSpec spec{.name = std::string(name),
                   .top_k = settings.top_k,
                   .forced = settings.forced,
                   .block_window = settings.block_window,
                   .pooling = settings.pooling,
                   .seed = settings.seed,
                   .given = info->given};
  if (info->routes_heads) {
    spec.heads = HeadRouting{.router = settings.router.value_or(info->linear ? Router::covariance : Router::pooled),
                             .active = settings.active_heads,
                             .samples = settings.samples,
                             .linear = info->linear,
                             .group = settings.group};
    if (info->linear) require_linear(*spec.heads, spec.name);
    if (settings.group > 1 && samples_keys(spec.heads->router)) {
      throw Error(ErrorKind::usage, "MP-E569",
                  "group adds up energies, and router " + std::string(router_name(spec.heads->router)) + " of " +
                      spec.name + " ranks heads by more than energies",
                  {}, "group 1, or an indexer with another router, such as misa");
    }
    if (settings.block_size) spec.heads->block_size = *settings.block_size;
  }
  if (info->prunes_blocks) {
    spec.blocks = BlockPruning{.blocks = settings.blocks};
    if (settings.block_size) spec.blocks->block_size = *settings.block_size;
    require_room(spec);
  }
  if (info->reranks)
    spec.rerank = Rerank{.candidates = settings.candidates.value_or(usual_candidates(*info, settings))};
  return spec;
}

}  // namespace misa
