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

TEST_CASE("counts below one are refused") {
  IndexerSettings settings;
  settings.active_heads = 0;
  CHECK_THROWS_AS(make_indexer("misa", settings), Error);
}
