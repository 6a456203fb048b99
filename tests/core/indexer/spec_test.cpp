#include "core/indexer/spec.hpp"

#include <doctest/doctest.h>

#include "core/base/error.hpp"

using namespace misa;

TEST_CASE("every indexer and router in the tables can be found by its name") {
  for (const IndexerInfo& info : indexers()) {
    const IndexerSpec spec = make_indexer(info.name, {});
    CHECK(spec.heads.has_value() == info.routes_heads);
    CHECK(spec.blocks.has_value() == info.prunes_blocks);
    CHECK(spec.rerank.has_value() == info.reranks);
    CHECK((spec.heads && spec.heads->linear) == info.linear);
  }
  for (const RouterInfo& info : routers()) {
    CHECK(find_router(info.name) == info.router);
    CHECK(router_name(info.router) == info.name);
  }
  CHECK_FALSE(find_router("pool").has_value());
}

TEST_CASE("an unknown indexer is an error that names the nearest one") {
  try {
    make_indexer("msia", {});
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(error.how() == "misa");
  }
}

TEST_CASE("misa pools 1024 tokens and hisa 128 unless told otherwise") {
  CHECK(make_indexer("misa", {}).heads->block_size == 1024);
  CHECK(make_indexer("misa-dagger", {}).heads->block_size == 1024);
  CHECK(make_indexer("hisa", {}).blocks->block_size == 128);
  IndexerSettings settings;
  settings.block_size = 32;
  CHECK(make_indexer("misa", settings).heads->block_size == 32);
  CHECK(make_indexer("hisa", settings).blocks->block_size == 32);
}

TEST_CASE("a dagger ranks 8192 tokens again, with a linear head fewer of a short context, and twice k at least") {
  const auto candidates = [](const char* indexer, IndexerSettings settings) {
    return make_indexer(indexer, settings).rerank->candidates;
  };
  CHECK(candidates("misa-dagger", {}) == 8192);
  CHECK(candidates("misa-dagger", {.context = 32768}) == 8192);
  CHECK(candidates("misa-lr-dagger", {}) == 8192);
  CHECK(candidates("misa-lr-dagger", {.context = 32768}) == 4096);
  CHECK(candidates("misa-lr-dagger", {.context = 32769}) == 6144);
  CHECK(candidates("misa-lr-dagger", {.context = 131072}) == 6144);
  CHECK(candidates("misa-lr-dagger", {.context = 131073}) == 8192);
  CHECK(candidates("misa-lr-dagger", {.top_k = 2049, .context = 32768}) == 8196);
  CHECK(candidates("misa-dagger", {.top_k = 4096}) == 8192);
  CHECK(candidates("misa-dagger", {.top_k = 4097}) == 16388);
  CHECK(candidates("misa-lr-dagger", {.candidates = 100, .context = 32768}) == 100);
}

TEST_CASE("counts below one are refused") {
  IndexerSettings settings;
  settings.active_heads = 0;
  CHECK_THROWS_AS(make_indexer("misa", settings), Error);
  settings = {};
  settings.samples = 0;
  CHECK_THROWS_AS(make_indexer("misa-lr", settings), Error);
}

TEST_CASE("a linear head counts as two heads, and wants a router that samples keys") {
  IndexerSettings settings;
  CHECK(make_indexer("misa", settings).heads->router == Router::pooled);
  CHECK(make_indexer("misa-lr", settings).heads->router == Router::covariance);
  settings.active_heads = 2;
  CHECK(make_indexer("misa-lr", settings).heads->kept(64) == 0);
  settings.active_heads = 8;
  const HeadRouting routing = *make_indexer("misa-lr-dagger", settings).heads;
  CHECK(routing.kept(64) == 6);
  CHECK(routing.linear_head(9));
  CHECK(routing.kept(9) == 6);
  CHECK_FALSE(routing.linear_head(8));
  CHECK(routing.kept(8) == 8);
  CHECK(routing.kept(3) == 3);

  const auto refused = [&](const char* id) {
    try {
      make_indexer("misa-lr", settings);
      return false;
    } catch (const Error& error) {
      return error.kind() == ErrorKind::usage && error.id() == id;
    }
  };
  settings.active_heads = 1;
  CHECK(refused("MP-E045"));
  settings.active_heads = 8;
  settings.router = Router::gate;
  CHECK(refused("MP-E046"));
  settings.router = Router::linear_residual;
  CHECK(make_indexer("misa-lr", settings).heads->router == Router::linear_residual);
}
