#include "cli/indexer_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/synthetic.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
std::vector<std::string> split_at_commas(const std::vector<std::string>& lists) {
  std::vector<std::string> names;
  for (const std::string& list : lists) {
    for (std::size_t at = 0; at <= list.size();) {
      const std::size_t end = std::min(list.find(',', at), list.size());
      names.push_back(list.substr(at, end - at));
      at = end + 1;
    }
  }
  return names;
}

void IndexerOptions::add(CLI::App& command) {
  add_list(command, "--indexer", names,
           fmt::format("all, or comma-separated: {}", fmt::join(names_of(all_indexers()), ", ")), "LIST", kIndexerGroup)
      ->default_str(fmt::format("{}", fmt::join(names, ",")));
  add_text(command, "--router", router,
           fmt::format("How heads are ranked: {} (default: misa pooled, misa-lr covariance)",
                       fmt::join(names_of(routers()), ", ")),
           "NAME", kIndexerGroup);
  add_count(command, "--top-k", top_k,
            "Tokens each row keeps (default: the workload's index_topk or recorded topk, else 2048)", kIndexerGroup);
  add_count(command, "--force-first", force_first,
            "First tokens of each row that are kept whatever they score (default: the workload's index_init_tokens)",
            kIndexerGroup, 0);
  add_count(command, "--force-last", force_last,
            "Last tokens of each row that are kept whatever they score (default: the workload's index_local_tokens)",
            kIndexerGroup, 0);
  add_count(command, "--active-heads", active_heads, "Heads that misa scores with; a linear head is two",
            kIndexerGroup);
  add_count(command, "--sampled-keys", sampled_keys, "Keys of a row, at least, that misa-lr fits lines to",
            kIndexerGroup);
  add_count(command, "--group", group, "Consecutive rows of a sequence that misa routes heads for at once",
            kIndexerGroup);
  add_count(command, "--block-size", block_size, "Tokens per block (default: misa 1024, hisa 128)", kIndexerGroup);
  add_count(
      command, "--candidates", candidates,
      "Tokens that a dagger ranks again (default: 8192; misa-lr-dagger 4096 of up to 32K, 6144 of up to 128K; 4 K "
      "where that is less than 2 K, the K of --top-k)",
      kIndexerGroup);
  add_count(command, "--blocks", blocks, "Blocks that hisa keeps", kIndexerGroup);
  add_name(command, "--block-window", block_window, "visible, or upstream as the released patch", kIndexerGroup);
  add_text(
      command, "--pooling", pooling,
      "fresh: means and sampled keys in every run, or cached: those that a step changes (default: cached at decode, "
      "else fresh)",
      "NAME", kIndexerGroup);
}

IndexerSettings IndexerOptions::settings(const Workload& workload, u64 seed) const {
  IndexerSettings settings;
  settings.top_k = top_k.value_or(default_top_k(workload).k);
  settings.forced = default_forced(workload);
  settings.forced.first = force_first.value_or(settings.forced.first);
  settings.forced.last = force_last.value_or(settings.forced.last);
  settings.active_heads = active_heads;
  settings.block_size = block_size;
  settings.samples = sampled_keys;
  settings.group = group;
  settings.candidates = candidates;
  settings.context = shape_of(workload).max_window;
  settings.blocks = blocks;
  settings.seed = seed;

  if (!router.empty()) settings.router = find_router(router);
  if (!router.empty() && !settings.router) {
    throw Error(ErrorKind::usage, "MP-E026", "there is no router called '" + router + "'", {},
                suggestion(router, names_of(routers())));
  }
  const auto window = find_block_window(block_window);
  if (!window) {
    throw Error(ErrorKind::usage, "MP-E027", "--block-window is '" + block_window + "'", {}, "visible or upstream");
  }
  settings.block_window = *window;
  const auto phase = workload.metadata.find("phase");
  const bool decodes = phase != workload.metadata.end() && phase->second == phase_name(Phase::decode);
  const auto pools =
      find_pooling(!pooling.empty() ? pooling : pooling_name(decodes ? Pooling::cached : Pooling::fresh));
  if (!pools) throw Error(ErrorKind::usage, "MP-E071", "--pooling is '" + pooling + "'", {}, "fresh or cached");
  settings.pooling = *pools;
  if (*window == BlockWindow::upstream) check_unseen_keys(workload, workload.name);
  return settings;
}

std::vector<std::string> IndexerOptions::listed() const {
  std::vector<std::string> all;
  for (const std::string& name : split_at_commas(names)) {
    if (name.empty()) {
      throw Error(ErrorKind::usage, "MP-E010", "--indexer has an empty name", {},
                  "names with one comma between them, or --indexer all");
    }
    if (name != "all") {
      all.push_back(name);
      continue;
    }
    for (const IndexerInfo& info : indexers()) all.emplace_back(info.name);
  }
  if (std::set<std::string>(all.begin(), all.end()).size() == all.size()) return all;
  throw Error(ErrorKind::usage, "MP-E031", "--indexer names an indexer twice", {}, "each once");
}

std::vector<IndexerSpec> IndexerOptions::specs(const IndexerSettings& settings) const {
  std::vector<IndexerSpec> specs;
  for (const std::string& name : listed()) {
    const IndexerSpec& spec = specs.emplace_back(make_indexer(name, settings));
    if (!spec.rerank || spec.rerank->candidates >= spec.top_k) continue;
    throw Error(ErrorKind::usage, "MP-E028",
                fmt::format("--candidates is {}, fewer than the {} to be kept", spec.rerank->candidates, spec.top_k),
                {}, "--candidates " + std::to_string(4 * spec.top_k));
  }
  return specs;
}

}  // namespace misa::cli
