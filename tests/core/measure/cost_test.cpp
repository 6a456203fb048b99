#include "core/measure/cost.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace misa {
namespace {

constexpr i64 kHeads = 4, kDim = 8;

struct Row {
  i32 sequence, begin, end;
};

Values keys_of(Dtype dtype) {
  if (dtype == Dtype::bf16) return View<const Bf16, 3>();
  if (dtype == Dtype::e4m3) return View<const E4m3, 3>();
  if (dtype == Dtype::int8) return View<const i8, 3>();
  if (dtype == Dtype::e2m1) return Mxfp4View();
  return View<const float, 3>();
}

Problem problem_of(const std::vector<Row>& rows, Dtype dtype = Dtype::f32, std::optional<Dtype> keys = {}) {
  static float scale = 1;
  Problem problem;
  for (const Row& row : rows) {
    problem.sequence.push_back(row.sequence);
    problem.begin.push_back(row.begin);
    problem.end.push_back(row.end);
    problem.shape.keys = std::max<i64>(problem.shape.keys, row.end);
    problem.shape.max_window = std::max<i64>(problem.shape.max_window, row.end - row.begin);
  }
  problem.shape.rows = static_cast<i64>(rows.size());
  problem.shape.heads = kHeads;
  problem.shape.head_dim = kDim;
  problem.shape.dtype = dtype;
  problem.keys.values = keys_of(keys.value_or(dtype));
  const Dtype of_keys = keys.value_or(dtype);
  if (of_keys == Dtype::e4m3 || of_keys == Dtype::int8) problem.keys.scales = View<const float, 2>(&scale, {1, 1});
  return problem;
}

IndexerSpec spec_of(i64 top_k) {
  return {.name = "test",
          .top_k = top_k,
          .block_window = BlockWindow::visible,
          .seed = 1,
          .heads = {},
          .blocks = {},
          .rerank = {}};
}

StageCost stage(const std::vector<StageCost>& costs, Stage which) {
  const auto found = std::find_if(costs.begin(), costs.end(), [&](const StageCost& c) { return c.stages == which; });
  REQUIRE(found != costs.end());
  return *found;
}

std::vector<std::string> names(const std::vector<StageCost>& costs) {
  std::vector<std::string> list;
  for (const StageCost& cost : costs) list.push_back(stage_set_name(cost.stages));
  return list;
}

/// Causal prefill of two sequences, laid behind one another.
std::vector<Row> two_sequences(i32 first, i32 second) {
  std::vector<Row> rows;
  for (i32 t = 0; t < first; ++t) rows.push_back({0, 0, t + 1});
  for (i32 t = 0; t < second; ++t) rows.push_back({1, first, first + t + 1});
  return rows;
}

}  // namespace

TEST_CASE("dsa scores every visible pair with every head") {
  const Problem problem = problem_of(two_sequences(5, 3));
  CHECK(visible_pairs(problem) == 15 + 6);
  const std::vector<StageCost> costs = stage_costs(spec_of(2), problem);
  CHECK(names(costs) == std::vector<std::string>{"score", "select"});
  const StageCost score = stage(costs, Stage::score);
  CHECK(score.flops == 21 * kHeads * (2 * kDim + 3));
  CHECK(score.bytes == 8 * kHeads * kDim * 4 + 8 * kHeads * 4 + 8 * kDim * 4 + 21 * 4);
  const StageCost select = stage(costs, Stage::select);
  CHECK(select.flops == 0);
  CHECK(select.bytes == 21 * 4 + 8 * 2 * 4);
}

TEST_CASE("FP8 keys cost one byte per value and a scale of four") {
  const Problem problem = problem_of({{0, 0, 100}}, Dtype::e4m3);
  const StageCost score = stage(stage_costs(spec_of(2), problem), Stage::score);
  CHECK(score.bytes == kHeads * kDim + kHeads * 4 + 100 * (kDim + 4) + 100 * 4);
}

TEST_CASE("queries and keys of different dtypes are each counted by their own") {
  // Two rows that see 100 FP8 keys of 64 numbers, asked for by four f32 heads.
  Problem issue = problem_of({{0, 0, 100}, {0, 0, 100}}, Dtype::f32, Dtype::e4m3);
  issue.shape.head_dim = 64;
  CHECK(stage(stage_costs(spec_of(10), issue), Stage::score).bytes == 9680);

  // Every stage that reads keys reads so many of them, and only their bytes follow the keys' dtype.
  const std::vector<Row> rows = two_sequences(5, 3);  // 8 tokens, each seen by some row
  std::vector<std::pair<IndexerSpec, std::map<Stage, i64>>> cases;
  cases.push_back({spec_of(2), {{Stage::score, 8}}});
  const auto with_router = [&](Router router, std::map<Stage, i64> keys) {
    IndexerSpec spec = spec_of(2);
    spec.heads = HeadRouting{.router = router, .active = 2, .block_size = 2, .samples = 100};
    keys[Stage::score] = 8;
    cases.push_back({spec, keys});
  };
  with_router(Router::pooled, {{Stage::pool, 8}});
  with_router(Router::linear_residual, {{Stage::pool, 8}});
  with_router(Router::covariance, {{Stage::pool, 8}});
  with_router(Router::oracle, {{Stage::route, 8}});
  with_router(Router::selfk, {{Stage::route, 8}});
  with_router(Router::gate, {});
  with_router(Router::qnorm, {});
  with_router(Router::random, {});
  IndexerSpec hisa = spec_of(2);
  hisa.blocks = BlockPruning{.blocks = 100, .block_size = 2};
  cases.push_back({hisa, {{Stage::pool, 8}, {Stage::score, 8}}});
  IndexerSpec dagger = spec_of(2);
  dagger.rerank = Rerank{.candidates = 3};
  cases.push_back({dagger, {{Stage::score, 8}, {Stage::rerank, 3 + 3}}});

  const auto key_bytes = [](Dtype dtype) { return dtype_bytes(dtype, kDim) + (dtype == Dtype::e4m3 ? 4 : 0); };
  constexpr std::array kDtypes{Dtype::f32, Dtype::bf16, Dtype::e4m3};
  for (const auto& [spec, keys] : cases) {
    for (const Dtype queries : kDtypes) {
      const std::vector<StageCost> same = stage_costs(spec, problem_of(rows, queries));
      for (const Dtype dtype : kDtypes) {
        const std::vector<StageCost> mixed = stage_costs(spec, problem_of(rows, queries, dtype));
        REQUIRE(names(mixed) == names(same));
        for (std::size_t i = 0; i < mixed.size(); ++i) {
          CAPTURE(stage_set_name(mixed[i].stages));
          CAPTURE(dtype_name(queries));
          CAPTURE(dtype_name(dtype));
          i64 read = 0;
          for (const auto& [which, count] : keys) read += mixed[i].stages == which ? count : 0;
          CHECK(mixed[i].bytes - same[i].bytes == read * (key_bytes(dtype) - key_bytes(queries)));
        }
      }
    }
  }
}

TEST_CASE("INT8 and MXFP4 cost their packed bytes, and a batch routed from them those of bf16") {
  constexpr i64 kWide = 64, kTokens = 100, kRows = 3;
  const auto costs_of = [&](const IndexerSpec& spec, Dtype dtype) {
    Problem problem = problem_of({{0, 0, 98}, {0, 0, 99}, {0, 0, 100}}, dtype);
    problem.shape.head_dim = kWide;
    return stage_costs(spec, problem);
  };
  const auto saved = [&](const IndexerSpec& spec, Stage which, Dtype dtype) {
    return stage(costs_of(spec, Dtype::bf16), which).bytes - stage(costs_of(spec, dtype), which).bytes;
  };
  // 16 bits a number against 8, and 4 with a 32nd of a scale.
  constexpr i64 kOfInt8 = kWide, kOfMxfp4 = kWide * 16 / 8 - kWide * 4 / 8 - kWide / 32;
  const IndexerSpec dsa = spec_of(2);
  CHECK(saved(dsa, Stage::score, Dtype::int8) == (kTokens + kRows * kHeads) * kOfInt8 - kTokens * 4);
  CHECK(saved(dsa, Stage::score, Dtype::e2m1) == (kTokens + kRows * kHeads) * kOfMxfp4);
  IndexerSpec misa = spec_of(2);
  misa.heads = HeadRouting{.router = Router::gate, .active = 2};
  CHECK(saved(misa, Stage::route, Dtype::e2m1) == kRows * 2 * kOfMxfp4);
  CHECK(saved(misa, Stage::score, Dtype::e2m1) == kTokens * kOfMxfp4);
  CHECK(saved(misa, Stage::score, Dtype::int8) == kTokens * (kOfInt8 - 4));
}

TEST_CASE("cached means cost what a step changes: a block of hisa, nothing of samples") {
  const Problem problem = problem_of({{0, 0, 100}});
  IndexerSpec hisa = spec_of(2);
  hisa.blocks = BlockPruning{.blocks = 4, .block_size = 8};
  hisa.pooling = Pooling::cached;
  const StageCost pool = stage(stage_costs(hisa, problem), Stage::pool);
  CHECK(pool.flops == 4 * kDim + kDim);  // tokens 96 to 99
  CHECK(pool.bytes == 4 * kDim * 4 + kDim * 4);

  IndexerSpec lines = spec_of(2);
  lines.heads = HeadRouting{.router = Router::covariance, .active = 2, .samples = 4};
  CHECK(names(stage_costs(lines, problem)) == std::vector<std::string>{"pool", "route", "score", "select"});
  lines.pooling = Pooling::cached;
  CHECK(names(stage_costs(lines, problem)) == std::vector<std::string>{"route", "score", "select"});
}

TEST_CASE("misa pools keys once, ranks heads over blocks and scores with the active ones") {
  const Problem problem = problem_of(two_sequences(5, 3));
  IndexerSpec spec = spec_of(2);
  spec.heads = HeadRouting{.router = Router::pooled, .active = 2, .block_size = 2};
  const std::vector<StageCost> costs = stage_costs(spec, problem);
  CHECK(names(costs) == std::vector<std::string>{"pool", "route", "score", "select"});

  // Sequences of 5 and 3 tokens: 3 and 2 blocks. Rows that end inside a full block have a mean of their own: those of
  // 1 and 3 tokens in the first, of 1 in the second (3 is where the second ends).
  const i64 means = 5 + 3;
  const StageCost pool = stage(costs, Stage::pool);
  CHECK(pool.flops == 8 * kDim + means * kDim);
  CHECK(pool.bytes == 8 * kDim * 4 + means * kDim * 4);

  // Cached, the blocks of 5 tokens' first 4 and of the second's first 2 are read beside a mean of each row's own, and
  // all 8 tokens are the rows'.
  spec.pooling = Pooling::cached;
  const StageCost upkeep = stage(stage_costs(spec, problem), Stage::pool);
  CHECK(upkeep.flops == 8 * kDim + (3 + 8) * kDim);
  CHECK(upkeep.bytes == 8 * kDim * 4 + (3 + 8) * kDim * 4);

  const StageCost route = stage(costs, Stage::route);
  const i64 row_blocks = (1 + 1 + 2 + 2 + 3) + (1 + 1 + 2);
  CHECK(route.flops == row_blocks * kHeads * (2 * kDim + 3));
  CHECK(route.bytes == 8 * kHeads * (kDim * 4 + 4) + means * kDim * 4 + 8 * 2 * (kDim * 4 + 4 + 4));

  const StageCost score = stage(costs, Stage::score);
  CHECK(score.flops == 21 * 2 * (2 * kDim + 3));
  CHECK(score.bytes == 8 * 2 * (kDim * 4 + 4) + 8 * kDim * 4 + 21 * 4);
}

TEST_CASE("more active heads than there are cost no more than all") {
  const Problem problem = problem_of(two_sequences(3, 2));
  IndexerSpec spec = spec_of(2);
  spec.heads = HeadRouting{.router = Router::gate, .active = 99, .block_size = 2};
  CHECK(stage(stage_costs(spec, problem), Stage::score).flops ==
        stage(stage_costs(spec_of(2), problem), Stage::score).flops);
}

TEST_CASE("routers that need no block means pool nothing") {
  const Problem problem = problem_of(two_sequences(5, 3));
  // Rows' queries are read; of each the kept ones are written, or read and written.
  const i64 query = kDim * 4, all = 8 * kHeads * (query + 4), kept = 8 * 2 * (query + 4), ids = 8 * 2 * 4;
  struct Cost {
    i64 flops, bytes;
  };
  const std::map<Router, Cost> costs_of{{Router::qnorm, {0, 2 * kept + ids + 8 * kHeads * 4}},
                                        {Router::random, {0, 2 * kept + ids}},
                                        {Router::gate, {8 * kHeads, kept + ids + 8 * 2 * query + 8 * kHeads * 4}},
                                        {Router::selfk, {8 * kHeads * (2 * kDim + 3), kept + ids + all + 8 * query}},
                                        {Router::oracle, {21 * kHeads * (2 * kDim + 3), kept + ids + all + 8 * query}}};
  for (const auto& one : costs_of) {
    const Router router = one.first;
    const Cost& expected = one.second;
    CAPTURE(router_name(router));
    IndexerSpec spec = spec_of(2);
    spec.heads = HeadRouting{.router = router, .active = 2, .block_size = 2};
    const std::vector<StageCost> costs = stage_costs(spec, problem);
    CHECK(names(costs) == std::vector<std::string>{"route", "score", "select"});
    CHECK(stage(costs, Stage::route).flops == expected.flops);
    CHECK(stage(costs, Stage::route).bytes == expected.bytes);
  }
  // One row of 100 tokens reads one key.
  IndexerSpec spec = spec_of(2);
  spec.heads = HeadRouting{.router = Router::selfk, .active = 2};
  const i64 one_row = 2 * (query + 4) + 2 * 4 + kHeads * (query + 4) + query;
  CHECK(stage(stage_costs(spec, problem_of({{0, 0, 100}})), Stage::route).bytes == one_row);
}

TEST_CASE("routers that sample keys pool them once, and a linear head adds up the queries of all others") {
  const Problem problem = problem_of(two_sequences(5, 3));
  IndexerSpec spec = spec_of(2);
  spec.heads = HeadRouting{.router = Router::linear_residual, .active = 2, .samples = 100};
  std::vector<StageCost> costs = stage_costs(spec, problem);
  CHECK(names(costs) == std::vector<std::string>{"pool", "route", "score", "select"});
  CHECK(stage(costs, Stage::pool).bytes == 2 * 8 * kDim * 4);
  // Every token is a sample: 21 in all, 8 once.
  CHECK(stage(costs, Stage::route).flops == 21 * kHeads * (2 * kDim + 1 + 4));
  const i64 read = 8 * kHeads * (kDim * 4 + 4) + 8 * kDim * 4;
  CHECK(stage(costs, Stage::route).bytes == read + 8 * 2 * (kDim * 4 + 4 + 4));
  const StageCost score = stage(costs, Stage::score);

  spec.heads->router = Router::covariance;
  costs = stage_costs(spec, problem);
  CHECK(stage(costs, Stage::route).flops == 21 * (kHeads * (2 * kDim + 1 + 4) + kHeads * (kHeads + 1)));
  Problem many = problem;  // the shortlist has 8 of 20 heads
  many.shape.heads = 20;
  const i64 more = stage(stage_costs(spec, many), Stage::route).flops - 21 * 20 * (2 * kDim + 1 + 4);
  CHECK(more == 21 * (8 * 9 + 12 + 2 * 8));

  // Half of each row's samples count, rounded up: 1 + 1 + 2 + 2 + 3 and 1 + 1 + 2.
  spec.heads->router = Router::linear_residual;
  spec.heads->linear = true;
  costs = stage_costs(spec, problem);
  CHECK(stage(costs, Stage::route).flops == 21 * kHeads * (2 * kDim + 3) + 13 * kHeads * 12 + 8 * kHeads * 2 * kDim);
  CHECK(stage(costs, Stage::route).bytes == read + 8 * 2 * (kDim * 4 + 4));
  CHECK(stage(costs, Stage::score).flops == score.flops);
  spec.heads->active = 3;  // one is kept as it is
  CHECK(stage(stage_costs(spec, problem), Stage::route).flops ==
        21 * kHeads * (2 * kDim + 3) + 13 * kHeads * 12 + 8 * (kHeads - 1) * 2 * kDim);
  spec.heads->active = kHeads;
  costs = stage_costs(spec, problem);
  CHECK(stage(costs, Stage::route).flops == 21 * kHeads * (2 * kDim + 1 + 4));
}

TEST_CASE("a re-rank scores at most the candidates again, with all heads") {
  const Problem problem = problem_of(two_sequences(5, 3));
  IndexerSpec spec = spec_of(2);
  spec.heads = HeadRouting{.router = Router::gate, .active = 1, .block_size = 2};
  spec.rerank = Rerank{.candidates = 3};
  const std::vector<StageCost> costs = stage_costs(spec, problem);
  const i64 candidates = (1 + 2 + 3 + 3 + 3) + (1 + 2 + 3);
  const StageCost rerank = stage(costs, Stage::rerank);
  CHECK(rerank.flops == candidates * kHeads * (2 * kDim + 3));
  CHECK(rerank.bytes ==
        8 * kHeads * (kDim * 4 + 4) + candidates * 4 + (3 + 3) * kDim * 4 + 2 * candidates * 4 + 8 * 2 * 4);
  CHECK(stage(costs, Stage::select).bytes == 21 * 4 + 8 * 3 * 4);
}

TEST_CASE("hisa scores exactly the tokens of its blocks: counted on every choice of blocks") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const i64 size = 1 + random() % 5, kept = 1 + random() % 4;
    const auto window = static_cast<BlockWindow>(random() % 2);
    const i32 begin = static_cast<i32>(random() % 7);
    const i32 end = begin + static_cast<i32>(random() % 30);
    const Problem problem = problem_of({{0, begin, end}});

    // Blocks lie on a grid from the window's begin, or from the buffer's.
    const i64 grid = window == BlockWindow::visible ? begin : 0;
    std::vector<i64> blocks;  // visible tokens in each
    for (i64 from = grid; from < end; from += size) {
      const i64 tokens = std::min<i64>(from + size, end) - std::max<i64>(from, begin);
      if (tokens > 0) blocks.push_back(tokens);
    }
    // First, last, and then any others: the ones between are whole.
    i64 expected = 0;
    std::set<std::size_t> chosen;
    if (!blocks.empty()) chosen.insert(0);
    if (!blocks.empty() && kept > 1) chosen.insert(blocks.size() - 1);
    while (static_cast<i64>(chosen.size()) < std::min<i64>(kept, static_cast<i64>(blocks.size()))) {
      chosen.insert(random() % blocks.size());
    }
    for (std::size_t b : chosen) expected += blocks[b];

    IndexerSpec spec = spec_of(2);
    spec.block_window = window;
    spec.blocks = BlockPruning{.blocks = kept, .block_size = size};
    const std::vector<StageCost> costs = stage_costs(spec, problem);
    CHECK(stage(costs, Stage::score).flops == expected * kHeads * (2 * kDim + 3));
    CHECK(stage(costs, Stage::route).flops == static_cast<i64>(blocks.size()) * kHeads * (2 * kDim + 3));
  }
}

TEST_CASE("hisa reads block means, writes their scores and reads them, and writes no more blocks than there are") {
  IndexerSpec spec = spec_of(2);
  spec.blocks = BlockPruning{.blocks = 64, .block_size = 2};
  const std::vector<StageCost> costs = stage_costs(spec, problem_of({{0, 0, 5}, {0, 0, 2}}));
  // Blocks of 2, 2 and 1 tokens; the second row sees the first of them, whole.
  CHECK(stage(costs, Stage::pool).flops == 5 * kDim + 3 * kDim);
  CHECK(stage(costs, Stage::route).bytes == 2 * kHeads * (kDim * 4 + 4) + 3 * kDim * 4 + 2 * (3 + 1) * 4 + 2 * 3 * 4);
  CHECK(stage(costs, Stage::score).flops == 7 * kHeads * (2 * kDim + 3));
  // A sequence's keys are read once, those of its row that scores most.
  CHECK(stage(costs, Stage::score).bytes == 2 * kHeads * (kDim * 4 + 4) + 5 * kDim * 4 + 7 * 4);
}

TEST_CASE("scaling FP8 keys before they are averaged is counted") {
  IndexerSpec spec = spec_of(2);
  spec.heads = HeadRouting{.router = Router::pooled, .active = 2, .block_size = 4};
  const StageCost pool = stage(stage_costs(spec, problem_of({{0, 0, 8}}, Dtype::e4m3)), Stage::pool);
  CHECK(pool.flops == 8 * kDim * 2 + 2 * kDim);
  CHECK(pool.bytes == 8 * (kDim + 4) + 2 * kDim * 4);
}

TEST_CASE("tokens that several rows see are read once") {
  // Sliding windows that overlap, and one that stands alone.
  const Problem problem = problem_of({{0, 0, 10}, {0, 5, 15}, {0, 20, 24}, {1, 30, 33}, {1, 33, 33}});
  const StageCost score = stage(stage_costs(spec_of(1), problem), Stage::score);
  CHECK(score.bytes == 5 * kHeads * (kDim * 4 + 4) + (15 + 4 + 3) * kDim * 4 + (10 + 10 + 4 + 3) * 4);
  // Windows within another one.
  const Problem nested = problem_of({{0, 0, 10}, {0, 2, 4}, {0, 5, 9}});
  CHECK(stage(stage_costs(spec_of(1), nested), Stage::score).bytes ==
        3 * kHeads * (kDim * 4 + 4) + 10 * kDim * 4 + (10 + 2 + 4) * 4);
}

TEST_CASE("empty windows and empty problems cost nothing that scales with tokens") {
  for (const std::vector<Row>& rows : {std::vector<Row>{}, std::vector<Row>{{0, 5, 5}, {0, 5, 3}}}) {
    IndexerSpec spec = spec_of(2);
    spec.heads = HeadRouting{};
    spec.blocks = BlockPruning{};
    spec.rerank = Rerank{};
    for (const StageCost& cost : stage_costs(spec, problem_of(rows))) {
      CHECK(cost.flops == 0);
      CHECK(cost.bytes >= 0);
    }
  }
}

TEST_CASE("a fused score and select saves the logits' way through memory") {
  const std::vector<StageCost> costs = stage_costs(spec_of(2), problem_of(two_sequences(5, 3)));
  const StageCost score = stage(costs, Stage::score), select = stage(costs, Stage::select);
  const auto fused = cost_of(StageSet(Stage::score) | Stage::select, costs);
  REQUIRE(fused.has_value());
  CHECK(fused->flops == score.flops);
  CHECK(fused->bytes == score.bytes + select.bytes - 2 * 21 * 4);
  CHECK(fused->logits_bytes == 0);
  CHECK(cost_of(Stage::select, costs)->bytes == select.bytes);
  CHECK_FALSE(cost_of(Stage::rerank, costs).has_value());
  CHECK_FALSE(cost_of(StageSet(Stage::score) | Stage::rerank, costs).has_value());
  CHECK_FALSE(cost_of({}, costs).has_value());

  // Scores of the second pass make their own way.
  IndexerSpec spec = spec_of(2);
  spec.rerank = Rerank{.candidates = 3};
  const std::vector<StageCost> dagger = stage_costs(spec, problem_of(two_sequences(5, 3)));
  const auto all = cost_of(StageSet(Stage::score) | Stage::select | Stage::rerank, dagger);
  REQUIRE(all.has_value());
  const StageCost rerank = stage(dagger, Stage::rerank);
  CHECK(all->logits_bytes == rerank.logits_bytes);
  CHECK(all->bytes ==
        stage(dagger, Stage::score).bytes + stage(dagger, Stage::select).bytes - 2 * 21 * 4 + rerank.bytes);
}

TEST_CASE("the largest floor bounds a stage") {
  const Roofs roofs{.flops_per_second = 100,
                    .bytes_per_second = 10,
                    .launch_seconds = 0.5,
                    .recorded_launch_seconds = 0.25,
                    .copy_bytes_per_second = 0,
                    .peaks = {{Dtype::e4m3, 400}}};
  const auto compute =
      roofline(4, {.stages = Stage::score, .flops = 200, .bytes = 10, .logits_bytes = 0}, roofs, Dtype::f32);
  CHECK(compute->bound == Bound::compute);
  CHECK(compute->floor_seconds == 2);
  CHECK(compute->fraction == 0.5);
  const auto memory =
      roofline(4, {.stages = Stage::score, .flops = 200, .bytes = 30, .logits_bytes = 0}, roofs, Dtype::f32);
  CHECK(memory->bound == Bound::memory);
  CHECK(memory->fraction == 0.75);
  const auto latency =
      roofline(4, {.stages = Stage::score, .flops = 2, .bytes = 1, .logits_bytes = 0}, roofs, Dtype::f32);
  CHECK(latency->bound == Bound::latency);
  CHECK(latency->fraction == 0.125);
  CHECK_FALSE(roofline(0, {}, roofs, Dtype::f32).has_value());
  CHECK_FALSE(roofline(1, {}, Roofs{}, Dtype::f32).has_value());
}

TEST_CASE("the roof is that of the elements and of the way the work was launched") {
  const Roofs roofs{.flops_per_second = 0,
                    .bytes_per_second = 10,
                    .launch_seconds = 0.5,
                    .recorded_launch_seconds = 0.25,
                    .copy_bytes_per_second = 0,
                    .peaks = {{Dtype::e4m3, 400}}};
  const StageCost work{.stages = Stage::score, .flops = 800, .bytes = 0, .logits_bytes = 0};
  CHECK(roofline(4, work, roofs, Dtype::e4m3)->floor_seconds == 2);
  CHECK_FALSE(roofline(4, work, roofs, Dtype::bf16).has_value());  // no peak was measured
  const StageCost move{.stages = Stage::select, .flops = 0, .bytes = 20, .logits_bytes = 0};
  CHECK(roofline(4, move, roofs, Dtype::bf16)->bound == Bound::memory);  // and none is needed
  CHECK(roofline(1, {}, roofs, Dtype::e4m3)->floor_seconds == 0.5);
  CHECK(roofline(1, {}, roofs, Dtype::e4m3, true)->floor_seconds == 0.25);
}

}  // namespace misa
