#pragma once

#include "tests/support/cases.hpp"

namespace misa::testing {

/// A small workload and an indexer, drawn by seed.
struct DrawnCase {
  CaseOptions workload;
  std::string indexer;
  IndexerSettings settings;

  std::string describe() const {
    return workload.describe() + "; " + indexer + ", top_k " + std::to_string(settings.top_k) + ", active_heads " +
           std::to_string(settings.active_heads) + ", candidates " + std::to_string(*settings.candidates) +
           ", blocks " + std::to_string(settings.blocks) + ", block_size " + std::to_string(*settings.block_size) +
           ", samples " + std::to_string(settings.samples) + ", router " +
           std::string(router_name(settings.router.value_or(Router::pooled))) + ", block window " +
           std::string(block_window_name(settings.block_window)) + ", pooling " +
           std::string(pooling_name(settings.pooling)) + ", forced " + std::to_string(settings.forced.first) +
           " first " + std::to_string(settings.forced.last) + " last";
  }
};

inline DrawnCase drawn_case(u64 seed) {
  Draw draw(seed * 6364136223846793005u + 11);
  DrawnCase drawn;
  CaseOptions& options = drawn.workload;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 2, 3, 4, 8, 8, 16, 32, 64, 128});
  options.dim = draw.one_of<i64>({32, 32, 64, 128, 256});
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::normal, Numbers::few_keys, Numbers::zeros,
                                          Numbers::negative_gates, Numbers::nan, Numbers::infinite, Numbers::denormal,
                                          Numbers::hostile, Numbers::hostile});
  options.rows = draw.whole(1, 5);
  options.contexts.clear();
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(1, draw.whole(1, 150)));
  options.paged = draw.whole(0, 2) == 0;
  options.page_size = draw.one_of<i64>({1, 16, 64});
  options.next_n = draw.whole(1, 4);
  if (options.paged && draw.whole(0, 1) == 1) options.contexts.push_back(draw.whole(0, 3));

  const IndexerInfo indexer = draw.one_of(std::vector<IndexerInfo>(indexers().begin(), indexers().end()));
  drawn.indexer = indexer.name;
  drawn.settings.top_k = draw.whole(1, 60);
  drawn.settings.active_heads = draw.whole(1, 10);
  drawn.settings.candidates = drawn.settings.top_k + draw.whole(0, 60);
  drawn.settings.blocks = draw.whole(1, 6);
  drawn.settings.block_size = draw.one_of<i64>({1, 8, 16, 32});
  std::vector<Router> allowed;
  for (const RouterInfo& info : routers()) {
    if (!indexer.linear || samples_keys(info.router)) allowed.push_back(info.router);
  }
  drawn.settings.router = draw.one_of(allowed);
  drawn.settings.block_window = draw.whole(0, 2) == 0 ? BlockWindow::upstream : BlockWindow::visible;
  drawn.settings.pooling = seed % 2 == 0 ? Pooling::cached : Pooling::fresh;
  drawn.settings.seed = seed;
  drawn.settings.samples = draw.one_of<i64>({1, 2, 8, 30, 128});
  if (indexer.linear) drawn.settings.active_heads = draw.whole(2, 10);
  return drawn;
}

/// The case of `seed` in INT8 or MXFP4.
inline DrawnCase narrow_case(u64 seed) {
  DrawnCase drawn = drawn_case(seed);
  drawn.workload.dtype = seed % 3 == 0 ? Dtype::int8 : Dtype::e2m1;
  return drawn;
}

/// drawn_case(seed) with keys that are entries of several tokens, so that some rows see none.
inline DrawnCase drawn_case_of_entries(u64 seed) {
  DrawnCase drawn = drawn_case(seed);
  Draw draw(seed * 2862933555777941757u + 3);
  drawn.workload.compress_ratio = draw.one_of<i64>({2, 3, 4, 8});
  return drawn;
}

/// drawn_case() with forced tokens, at times more than are kept. Blocks that are kept have room for them.
inline DrawnCase forced_case(u64 seed) {
  DrawnCase drawn = drawn_case(seed);
  IndexerSettings& settings = drawn.settings;
  Draw draw(seed * 2862933555777941757u + 3037);
  const i64 most = draw.one_of<i64>({2, settings.top_k / 2 + 1, settings.top_k + 3});
  settings.forced = {draw.whole(0, most), draw.whole(0, most)};
  const auto has_room = [&] {
    const IndexerSpec spec{.name = {},
                           .top_k = settings.top_k,
                           .forced = settings.forced,
                           .block_window = settings.block_window,
                           .blocks = BlockPruning{settings.blocks, *settings.block_size}};
    return spec.forced_blocks().count() <= settings.blocks;
  };
  while (drawn.indexer == "hisa" && settings.forced.any() && !has_room()) {
    settings.forced = {settings.forced.first / 2, settings.forced.last / 2};
  }
  return drawn;
}

}  // namespace misa::testing
