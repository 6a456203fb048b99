#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "core/base/error.hpp"
#include "core/indexer/forwarding_backend.hpp"
#include "core/indexer/routing.hpp"
#include "core/indexer/runnable.hpp"
#include "core/workload/subset.hpp"
#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

IndexerSettings small_settings() {
  IndexerSettings settings;
  settings.top_k = 17;
  settings.active_heads = 3;
  settings.candidates = 40;
  settings.blocks = 4;
  settings.block_size = 16;
  settings.samples = 20;
  return settings;
}

/// Shapes, dtypes and numbers drawn by seed; contiguous.
CaseOptions draw_case(u64 seed) {
  Draw draw(seed * 7919 + 1);
  CaseOptions options;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 2, 3, 8, 16, 33, 64, 128});
  options.dim = draw.one_of<i64>({32, 64, 128, 256});
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::normal, Numbers::few_keys, Numbers::zeros,
                                          Numbers::negative_gates, Numbers::nan, Numbers::denormal});
  options.rows = draw.whole(1, 12);
  options.contexts.clear();
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(1, 600));
  return options;
}

CaseOptions draw_paged_case(u64 seed) {
  CaseOptions options = draw_case(seed);
  Draw draw(seed * 104729 + 5);
  options.paged = true;
  options.page_size = draw.one_of<i64>({1, 16, 64});
  options.next_n = draw.whole(1, 4);
  if (draw.whole(0, 1) == 1) options.contexts.push_back(draw.whole(0, 3));
  return options;
}

/// The same tokens behind one another instead of in pages.
Workload unpaged(const Workload& paged) {
  Workload flat;
  flat.q = HostTensor(paged.q.dtype, paged.q.shape);
  std::memcpy(flat.q.storage.data(), paged.q.storage.data(), static_cast<std::size_t>(paged.q.bytes()));
  flat.weights = HostTensor::from(paged.weights.span<const float>(), paged.weights.shape);
  flat.q_norm = HostTensor::from(paged.q_norm.span<const float>(), paged.q_norm.shape);
  flat.sequence = paged.sequence;
  flat.q_pos = paged.q_pos;
  const auto lengths = paged.seq_lens.span<const i32>();
  const auto table = paged.block_table.span<const i32>();
  const i64 size = paged.page_size(), dim = paged.head_dim(), columns = paged.block_table.shape[1];
  const bool fp8 = paged.k_pages.dtype == Dtype::uint8;
  const Dtype dtype = fp8 ? Dtype::e4m3 : paged.k_pages.dtype;
  const i64 element = dtype_bytes(dtype, 1), page_bytes = size * dim * element + (fp8 ? size * 4 : 0);
  const i64 tokens = std::accumulate(lengths.begin(), lengths.end(), i64{0});
  flat.k = HostTensor(dtype, {tokens, dim});
  if (fp8) flat.k_scale = HostTensor(Dtype::f32, {tokens});
  i64 token = 0;
  std::vector<i32> starts;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    starts.push_back(static_cast<i32>(token));
    for (i64 t = 0; t < lengths[s]; ++t, ++token) {
      const std::byte* page = paged.k_pages.storage.data() + table[s * columns + t / size] * page_bytes;
      std::memcpy(flat.k.storage.data() + token * dim * element, page + (t % size) * dim * element,
                  static_cast<std::size_t>(dim * element));
      if (fp8) std::memcpy(flat.k_scale.storage.data() + token * 4, page + size * dim + (t % size) * 4, 4);
    }
  }
  for (std::size_t m = 0; m < paged.ks.size(); ++m) {
    const i32 start = starts[static_cast<std::size_t>(paged.sequence[m])];
    flat.ks.push_back(start);
    flat.ke.push_back(start + paged.ke[m]);
  }
  return flat;
}

const std::vector<std::string> kBackends{"cpu", "oracle"};
const std::vector<std::string> kIndexers = indexer_names();

/// Whether `indexer` ranks heads by `router`: beside a linear head only by one that samples keys.
bool takes(const std::string& indexer, Router router) {
  const auto info =
      std::find_if(indexers().begin(), indexers().end(), [&](const auto& one) { return one.name == indexer; });
  return !info->linear || samples_keys(router);
}

/// Takes away the keys of the rows' own tokens, of a problem in host memory, until it is destroyed.
class WithoutOwnKeys {
 public:
  explicit WithoutOwnKeys(const Problem& problem) {
    std::visit(
        [&](const auto& values) {
          std::set<std::byte*> keys;
          for (std::size_t m = 0; m < problem.end.size(); ++m) {
            if (problem.end[m] <= problem.begin[m]) continue;
            const TokenAddress at = address_of(problem.keys, values.shape[1], problem.sequence[m], problem.end[m] - 1);
            const void* key = nullptr;
            if constexpr (std::is_same_v<Element<decltype(values)>, Mxfp4>) {
              key = values.vector(at.page, at.slot).codes;
            } else {
              key = &values(at.page, at.slot, 0);
            }
            keys.insert(static_cast<std::byte*>(const_cast<void*>(key)));
          }
          const auto bytes = static_cast<std::size_t>(dtype_bytes(problem.shape.key_dtype, values.shape[2]));
          for (std::byte* key : keys) {
            kept_.emplace_back(key, std::vector<std::byte>(key, key + bytes));
            std::memset(key, 0, bytes);
          }
        },
        problem.keys.values);
  }
  ~WithoutOwnKeys() {
    for (const auto& [key, bytes] : kept_) std::memcpy(key, bytes.data(), bytes.size());
  }
  WithoutOwnKeys(const WithoutOwnKeys&) = delete;
  WithoutOwnKeys& operator=(const WithoutOwnKeys&) = delete;

 private:
  std::vector<std::pair<std::byte*, std::vector<std::byte>>> kept_;
};

}  // namespace

TEST_CASE("misa and misa-lr with every head are dsa") {
  for (u64 seed = 1; seed <= 60; ++seed) {
    const CaseOptions options = draw_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    IndexerSettings settings = small_settings();
    settings.active_heads = options.heads;
    for (const std::string& backend : kBackends) {
      CAPTURE(backend);
      const std::vector<i32> all = choose(backend, workload, make_indexer("dsa", settings)).tokens;
      CHECK(choose(backend, workload, make_indexer("misa", settings)).tokens == all);
      settings.active_heads = std::max<i64>(2, options.heads);
      CHECK(choose(backend, workload, make_indexer("misa-lr", settings)).tokens == all);
      settings.active_heads = options.heads;
    }
  }
}

TEST_CASE("misa-dagger with every token as a candidate is dsa") {
  for (u64 seed = 101; seed <= 160; ++seed) {
    const CaseOptions options = draw_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    IndexerSettings settings = small_settings();
    settings.candidates = 600;
    for (const std::string& backend : kBackends) {
      CAPTURE(backend);
      CHECK(choose(backend, workload, make_indexer("misa-dagger", settings)).tokens ==
            choose(backend, workload, make_indexer("dsa", settings)).tokens);
    }
  }
}

TEST_CASE("hisa with every block is dsa, whatever the block window") {
  for (u64 seed = 201; seed <= 260; ++seed) {
    const CaseOptions options = draw_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    IndexerSettings settings = small_settings();
    settings.blocks = 1000;
    settings.block_window = seed % 2 == 0 ? BlockWindow::visible : BlockWindow::upstream;
    for (const std::string& backend : kBackends) {
      CAPTURE(backend);
      CHECK(choose(backend, workload, make_indexer("hisa", settings)).tokens ==
            choose(backend, workload, make_indexer("dsa", settings)).tokens);
    }
  }
}

TEST_CASE("pages select what contiguous keys select") {
  for (u64 seed = 301; seed <= 360; ++seed) {
    const CaseOptions options = draw_paged_case(seed);
    CAPTURE(options.describe());
    const Workload paged = draw_workload(options);
    const Workload flat = unpaged(paged);
    for (const std::string& backend : kBackends) {
      for (const std::string& indexer : kIndexers) {
        CAPTURE(backend);
        CAPTURE(indexer);
        const IndexerSpec spec = make_indexer(indexer, small_settings());
        CHECK(choose(backend, paged, spec) == choose(backend, flat, spec));
      }
    }
  }
}

TEST_CASE("sequences packed into one buffer select what they select alone") {
  for (u64 seed = 401; seed <= 440; ++seed) {
    CaseOptions options = draw_case(seed);
    options.rows = 6;
    options.contexts = {70, 333, 18};
    CAPTURE(options.describe());
    const Workload packed = draw_workload(options);
    for (const std::string& backend : kBackends) {
      for (const std::string& indexer : kIndexers) {
        CAPTURE(backend);
        CAPTURE(indexer);
        const IndexerSpec spec = make_indexer(indexer, small_settings());
        const Chosen together = choose(backend, packed, spec);
        std::vector<i32> apart;
        for (i64 m = 0; m < packed.rows(); ++m) {
          // Row m alone, its sequence's keys alone.
          const std::size_t row = static_cast<std::size_t>(m);
          const i64 first = packed.ks[row], count = packed.ke[row] - packed.ks[row];
          const i64 dim = packed.head_dim(), heads = packed.heads(), element = dtype_bytes(packed.q.dtype, 1);
          Workload alone;
          alone.q = HostTensor(packed.q.dtype, {1, heads, dim});
          std::memcpy(alone.q.storage.data(), packed.q.storage.data() + m * heads * dim * element,
                      static_cast<std::size_t>(heads * dim * element));
          alone.weights = HostTensor::from(packed.weights.span<const float>().subspan(row * heads, heads), {1, heads});
          alone.k = HostTensor(packed.k.dtype, {count, dim});
          std::memcpy(alone.k.storage.data(), packed.k.storage.data() + first * dim * element,
                      static_cast<std::size_t>(count * dim * element));
          if (!packed.k_scale.empty()) {
            alone.k_scale = HostTensor::from(packed.k_scale.span<const float>().subspan(first, count), {count});
          }
          alone.sequence = {0};
          alone.q_pos = {static_cast<i32>(count - 1)};
          alone.ks = {0};
          alone.ke = {static_cast<i32>(count)};
          const Chosen chosen = choose(backend, alone, spec);
          apart.insert(apart.end(), chosen.tokens.begin(), chosen.tokens.end());
        }
        CHECK(together.tokens == apart);
      }
    }
  }
}

TEST_CASE("chunks of rows select what all rows at once select") {
  for (u64 seed = 501; seed <= 540; ++seed) {
    const CaseOptions options = seed % 2 == 0 ? draw_case(seed) : draw_paged_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    for (const std::string& indexer : kIndexers) {
      for (const Router router :
           {Router::pooled, Router::random, Router::qnorm, Router::linear_residual, Router::covariance}) {
        if (!takes(indexer, router)) continue;
        CAPTURE(indexer);
        IndexerSettings settings = small_settings();
        settings.router = router;
        const IndexerSpec spec = make_indexer(indexer, settings);
        const Chosen whole = choose("cpu", workload, spec);
        CHECK(whole == choose("cpu", workload, spec, {.rows_per_chunk = 1}));
        CHECK(whole == choose("cpu", workload, spec, {.rows_per_chunk = 3}));
      }
    }
  }
}

TEST_CASE("means that are kept from a step to the next select what means of all keys select") {
  for (u64 seed = 1; seed <= 12; ++seed) {
    const CaseOptions options = seed % 3 == 0 ? draw_case(seed) : draw_paged_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    for (const std::string& indexer : kIndexers) {
      for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
        CAPTURE(indexer);
        IndexerSettings settings = small_settings();
        settings.block_window = window;
        IndexerSpec spec = make_indexer(indexer, settings);
        if (!spec.pools()) continue;
        for (const std::string& name : kBackends) {
          CAPTURE(name);
          const Chosen fresh = choose(name, workload, spec);
          spec.pooling = Pooling::cached;
          const std::unique_ptr<Backend> backend = make_backend(name, 2);
          const Placement placement(*backend, workload);
          std::optional<WithoutOwnKeys> before_the_step(placement.problem());
          Plan plan(*backend, spec, placement.problem());
          before_the_step.reset();
          plan.run(nullptr);
          CHECK(fresh == chosen_by(*backend, workload.rows(), plan));
          spec.pooling = Pooling::fresh;
        }
      }
    }
  }
}

TEST_CASE("rows may come in any order, sequences mixed") {
  for (u64 seed = 1; seed <= 40; ++seed) {
    const CaseOptions options = draw_case(seed);
    INFO(options.describe());
    const Workload workload = draw_workload(options);
    Draw draw(seed);
    std::vector<i64> order(static_cast<std::size_t>(workload.rows())), heads(static_cast<std::size_t>(options.heads));
    std::iota(order.begin(), order.end(), i64{0});
    std::iota(heads.begin(), heads.end(), i64{0});
    std::shuffle(order.begin(), order.end(), draw.engine());
    const Workload mixed = take(workload, order, heads, i64{1} << 30);
    for (const std::string& backend : kBackends) {
      for (const std::string& indexer : kIndexers) {
        const IndexerSpec spec = make_indexer(indexer, small_settings());
        const Chosen straight = choose(backend, workload, spec), shuffled = choose(backend, mixed, spec);
        for (std::size_t i = 0; i < order.size(); ++i) {
          CAPTURE(backend);
          CAPTURE(indexer);
          CHECK(shuffled.row(static_cast<i64>(i)) == straight.row(order[i]));
        }
      }
    }
  }
}

TEST_CASE("rows on their own choose what they choose among others, once their number is told") {
  for (u64 seed = 561; seed <= 566; ++seed) {
    const CaseOptions options = seed % 2 == 0 ? draw_case(seed) : draw_paged_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    const auto cpu = make_backend("cpu", 2);
    const Placement placement(*cpu, workload);
    for (const std::string& indexer : kIndexers) {
      for (const RouterInfo& info : routers()) {
        if (!takes(indexer, info.router)) continue;
        for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
          CAPTURE(indexer);
          CAPTURE(info.name);
          IndexerSettings settings = small_settings();
          settings.router = info.router;
          settings.block_window = window;
          const IndexerSpec spec = make_indexer(indexer, settings);
          const Chosen whole = choose(*cpu, workload, spec);
          for (i64 m = 0; m < workload.rows(); ++m) {
            const Problem row = slice(placement.problem(), m, 1);
            Plan plan(*cpu, spec, row, {.first_row = m});
            plan.run(nullptr);
            CHECK((Chosen{1, fetch(*cpu, plan.tokens()), {}, {}}.row(0)) == whole.row(m));
          }
        }
      }
    }
  }
}

TEST_CASE("a plan that follows other choices scores what those offer, in any chunks") {
  for (u64 seed = 581; seed <= 592; ++seed) {
    CaseOptions options = draw_case(seed);
    options.heads = 8;
    options.contexts = {300, 400};
    options.rows = 7;
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    const auto cpu = make_backend("cpu", 2);
    const Placement placement(*cpu, workload);
    IndexerSpec spec = make_indexer("misa-dagger", small_settings());
    spec.blocks = BlockPruning{4, 16};
    spec.heads->block_size = 16;
    // What another spec chooses is well formed, and not what this one would choose.
    IndexerSpec other = spec;
    other.heads->router = Router::random;
    Plan leader(*cpu, other, placement.problem());
    leader.run(nullptr);
    const Follow follow{leader.heads(), leader.blocks(), leader.candidates()};

    std::vector<i32> tokens;
    for (const i64 chunk : {0, 1, 3}) {
      Plan plan(*cpu, spec, placement.problem(), {.rows_per_chunk = chunk});
      plan.run(nullptr, follow);
      const std::vector<i32> found = fetch(*cpu, plan.tokens());
      if (chunk == 0) tokens = found;
      CHECK(found == tokens);
      // The second pass knows all heads: on the leader's candidates it is the leader's.
      CHECK(found == fetch(*cpu, leader.tokens()));
      plan.run(nullptr, {{}, {}, leader.candidates()});
      CHECK(fetch(*cpu, plan.tokens()) == fetch(*cpu, leader.tokens()));
      plan.run(nullptr, {leader.heads(), leader.blocks(), {}});
      CHECK(fetch(*cpu, plan.candidates()) == fetch(*cpu, leader.candidates()));
    }
    // Blocks alone: tokens lie in the blocks that were followed.
    IndexerSpec pruned = make_indexer("hisa", small_settings());
    Plan hisa(*cpu, pruned, placement.problem());
    hisa.run(nullptr);
    std::vector<i32> blocks = fetch(*cpu, hisa.blocks());
    const i64 width = hisa.blocks().shape[1];
    for (i64 m = 0; m < workload.rows(); ++m) {
      for (i64 i = 1; i < width; ++i) blocks[static_cast<std::size_t>(m * width + i)] = -1;  // the first block alone
    }
    hisa.run(nullptr, {{}, View<const i32, 2>(blocks.data(), {workload.rows(), width}), {}});
    for (const i32 token : fetch(*cpu, hisa.tokens())) CHECK(token < pruned.blocks->block_size);
  }
}

TEST_CASE("random heads are drawn anew for every row and seed, and each as often as another") {
  std::vector<i64> first(16, 0);
  i64 same_row = 0, same_seed = 0;
  for (u64 seed = 1; seed <= 20; ++seed) {
    for (i64 row = 0; row < 200; ++row) {
      const auto best = [](u64 of_seed, i64 of_row) {
        i64 head = 0;
        for (i64 h = 1; h < 16; ++h) {
          if (random_head_rank(of_seed, of_row, h) > random_head_rank(of_seed, of_row, head)) head = h;
        }
        return head;
      };
      const i64 head = best(seed, row);
      ++first[static_cast<std::size_t>(head)];
      same_row += head == best(seed, row + 1) ? 1 : 0;
      same_seed += head == best(seed + 1, row) ? 1 : 0;
    }
  }
  // Of 4000: 250 each, with a standard deviation of 15.
  for (const i64 count : first) CHECK(std::abs(count - 250) < 75);
  CHECK(std::abs(same_row - 250) < 75);
  CHECK(std::abs(same_seed - 250) < 75);
}

TEST_CASE("misa selects what dsa selects among the heads that were routed, for every router") {
  for (u64 seed = 601; seed <= 624; ++seed) {
    CaseOptions options = draw_case(seed);
    options.heads = 8;
    options.rows = 1;
    options.contexts = {300};
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    IndexerSettings settings = small_settings();
    settings.router = routers()[seed % routers().size()].router;
    for (const std::string& backend : kBackends) {
      const Chosen routed = choose(backend, workload, make_indexer("misa", settings));
      const std::vector<i64> heads(routed.heads.begin(), routed.heads.end());
      const Workload alone = take(workload, std::vector<i64>{0}, heads, i64{1} << 30);
      CHECK(choose(backend, alone, make_indexer("dsa", settings)).row(0) == routed.row(0));
    }
  }
}

TEST_CASE("heads of equal energy go to the lower head, and NaN ranks lowest") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto heads_of_energy = [](std::vector<double> energy, i64 kept) {
    std::vector<i32> heads(static_cast<std::size_t>(kept));
    RankTask task{};
    task.heads = View<i32, 2>(heads.data(), {1, kept});
    choose_heads(task, 0, energy);
    return heads;
  };
  CHECK(heads_of_energy({1, 1, 1, 1}, 2) == std::vector<i32>{0, 1});
  CHECK(heads_of_energy({1, 2, 1, 2}, 3) == std::vector<i32>{0, 1, 3});
  CHECK(heads_of_energy({kNan, 0, -1, 3}, 3) == std::vector<i32>{1, 2, 3});
  CHECK(heads_of_energy({kNan, kNan, kNan, -5}, 2) == std::vector<i32>{0, 3});
  CHECK(heads_of_energy({-0.0, 0.0}, 1) == std::vector<i32>{0});
}

TEST_CASE("one thread and two threads agree bit for bit") {
  for (u64 seed = 601; seed <= 640; ++seed) {
    const CaseOptions options = seed % 2 == 0 ? draw_case(seed) : draw_paged_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    std::vector<std::vector<float>> logits;
    for (const int threads : {1, 2, 3}) {
      const auto backend = make_backend("cpu", threads);
      const Placement placement(*backend, workload);
      const Problem& problem = placement.problem();
      logits.emplace_back(static_cast<std::size_t>(problem.shape.rows * std::max<i64>(1, problem.shape.max_window)));
      const View<float, 2> view(logits.back().data(), {problem.shape.rows, problem.shape.max_window});
      backend->score({problem.queries, problem.keys, problem.windows, {}, view});
    }
    CHECK(std::memcmp(logits[0].data(), logits[1].data(), logits[0].size() * 4) == 0);
    CHECK(std::memcmp(logits[0].data(), logits[2].data(), logits[0].size() * 4) == 0);
    for (const std::string& indexer : kIndexers) {
      CAPTURE(indexer);
      IndexerSettings settings = small_settings();
      if (indexer == "misa-lr-dagger") settings.router = Router::linear_residual;
      const IndexerSpec spec = make_indexer(indexer, settings);
      CHECK(choose("cpu", workload, spec, {}, 1) == choose("cpu", workload, spec, {}, 2));
    }
  }
}

TEST_CASE("the order of a routed batch's heads does not change what it selects") {
  for (u64 seed = 701; seed <= 760; ++seed) {
    const CaseOptions options = draw_case(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    const i64 heads = workload.heads(), row_bytes = dtype_bytes(workload.q.dtype, workload.head_dim());
    std::vector<i64> order(static_cast<std::size_t>(heads));
    std::iota(order.begin(), order.end(), 0);
    Draw draw(seed);
    std::shuffle(order.begin(), order.end(), draw.engine());
    Workload permuted = draw_workload(options);
    for (i64 m = 0; m < workload.rows(); ++m) {
      for (i64 h = 0; h < heads; ++h) {
        const i64 from = m * heads + order[static_cast<std::size_t>(h)];
        std::memcpy(permuted.q.storage.data() + (m * heads + h) * row_bytes,
                    workload.q.storage.data() + from * row_bytes, static_cast<std::size_t>(row_bytes));
        permuted.weights.span<float>()[static_cast<std::size_t>(m * heads + h)] =
            workload.weights.span<const float>()[static_cast<std::size_t>(from)];
      }
    }
    for (const std::string& backend : kBackends) {
      CAPTURE(backend);
      const IndexerSpec spec = make_indexer("dsa", small_settings());
      CHECK(choose(backend, permuted, spec).tokens == choose(backend, workload, spec).tokens);
    }
  }
}

TEST_CASE("every combination of routing, pruning and re-ranking runs, and cpu and oracle agree where heads do") {
  for (u64 seed = 801; seed <= 830; ++seed) {
    CaseOptions options = draw_case(seed);
    options.numbers = Numbers::normal;
    options.dtype = Dtype::e4m3;  // dots of small vectors of e4m3 are nearly exact in f32
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    for (int combination = 0; combination < 8; ++combination) {
      CAPTURE(combination);
      IndexerSpec spec = make_indexer("dsa", small_settings());
      if (combination & 1) spec.heads = HeadRouting{Router::gate, 3, 16};
      if (combination & 2) spec.blocks = BlockPruning{4, 16};
      if (combination & 4) spec.rerank = Rerank{40};
      const Chosen cpu = choose("cpu", workload, spec), oracle = choose("oracle", workload, spec);
      CHECK(cpu.heads == oracle.heads);
      i64 differing = 0;
      for (i64 m = 0; m < workload.rows(); ++m) {
        const std::vector<i32> a = cpu.row(m), b = oracle.row(m);
        REQUIRE(a.size() == b.size());
        std::vector<i32> shared;
        std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(shared));
        differing += static_cast<i64>(a.size() - shared.size());
      }
      CHECK(differing <= workload.rows() / 4);  // near-ties only
    }
  }
}

TEST_CASE("a fused kernel is used when the backend has one, and only then") {
  // The oracle with a fused span that counts how often it ran.
  class Fused final : public ForwardingBackend {
   public:
    using ForwardingBackend::ForwardingBackend;
    int fused_runs = 0;

    bool fuses(const ScoreTask& score, const SelectTask&) const override { return !score.candidates; }
    std::string_view score_select(const ScoreTask& score_task, const SelectTask& select_task) override {
      ++fused_runs;
      Backend::score_select(score_task, select_task);
      return "fused";
    }
  };
  struct Labels final : Observer {
    std::vector<std::string> seen;
    void begin(StageSet stages) override { seen.push_back(stage_set_name(stages)); }
    void end() override {}
  };

  CaseOptions options;
  options.contexts = {200};
  const Workload workload = draw_workload(options);
  const auto oracle = make_backend("oracle", 2);
  Fused backend(*oracle);
  const Placement placement(backend, workload);
  const IndexerSpec spec = make_indexer("misa", small_settings());
  Plan fused(backend, spec, placement.problem()), plain(backend, spec, placement.problem(), {.fusion = false});
  Labels with, without;
  fused.run(&with);
  CHECK(backend.fused_runs == 1);
  plain.run(&without);
  CHECK(backend.fused_runs == 1);
  CHECK(with.seen == std::vector<std::string>{"pool", "pool", "route", "score+select"});
  CHECK(without.seen == std::vector<std::string>{"pool", "pool", "route", "score", "select"});
  CHECK(fetch(backend, fused.tokens()) == fetch(backend, plain.tokens()));
}

TEST_CASE("a backend that does a whole indexer by itself is asked first, in one span of all stages") {
  // The oracle, which plans an indexer on itself where it is asked for a whole one.
  class Whole final : public ForwardingBackend {
   public:
    using ForwardingBackend::ForwardingBackend;
    std::unique_ptr<IndexRun> plan_index(const IndexerSpec& spec, const Problem& problem, i64 first_row) override {
      class Run final : public IndexRun {
       public:
        Run(Backend& backend, const IndexerSpec& spec, const Problem& problem, i64 first)
            : plan_(backend, spec, problem, {.first_row = first}) {}
        std::string_view run(const View<i32, 2>& selected) override {
          plan_.run(nullptr);
          const View<const i32, 2> tokens = plan_.tokens();
          std::copy(tokens.data, tokens.data + tokens.size(), selected.data);
          return "whole";
        }

       private:
        Plan plan_;
      };
      return std::make_unique<Run>(inner_, spec, problem, first_row);
    }
  };
  struct Seen final : Observer {
    std::vector<std::string> stages;
    void begin(StageSet set) override { stages.push_back(stage_set_name(set)); }
    void ran(Primitive primitive, std::string_view kernel) override {
      stages.back() += " " + std::string(primitive_name(primitive)) + "=" + std::string(kernel);
    }
    void end() override {}
  };

  CaseOptions options;
  options.contexts = {200};
  const Workload workload = draw_workload(options);
  const auto oracle = make_backend("oracle", 2);
  Whole backend(*oracle);
  const Placement placement(backend, workload);
  const std::vector<std::pair<std::string, std::string>> expected{
      {"dsa", "score+select index=whole"},
      {"misa", "pool+route+score+select index=whole"},
      {"misa-dagger", "pool+route+score+select+rerank index=whole"},
      {"hisa", "pool+route+score+select index=whole"},
  };
  for (const auto& [name, stages] : expected) {
    const IndexerSpec spec = make_indexer(name, small_settings());
    CAPTURE(spec.name);
    Plan whole(backend, spec, placement.problem()), plain(backend, spec, placement.problem(), {.fusion = false});
    Seen seen;
    whole.run(&seen);
    plain.run(nullptr);
    CHECK(seen.stages == std::vector<std::string>{stages});
    CHECK(fetch(backend, whole.tokens()) == fetch(backend, plain.tokens()));
    CHECK(whole.heads().empty());
    CHECK(plain.heads().empty() == !spec.heads);
    // Nothing but tokens is known of such a run.
    const Selection selection = run_selection(backend, spec, placement.problem());
    CHECK(selection[Choice::scores].empty());
    CHECK(selection[Choice::linear].empty());
    CHECK(selection[Choice::tokens].size() == workload.rows() * spec.top_k);
  }
}

TEST_CASE("scores that a kernel keeps in memory of its own are selected from and fetched there") {
  // The oracle, which scores into one buffer of its own, in rows of twice the columns.
  class Elsewhere final : public ForwardingBackend {
   public:
    using ForwardingBackend::ForwardingBackend;
    std::string_view score(const ScoreTask& task) override {
      const View<double, 2> asked = std::get<View<double, 2>>(task.logits);
      std::fill(asked.data, asked.data + asked.size(), 1e9);  // what nobody shall read
      scores_.assign(static_cast<std::size_t>(2 * asked.size()), 1e9);
      moved_ = View<double, 2>(scores_.data(), asked.shape, {2 * asked.shape[1], 1});
      ScoreTask own = task;
      own.logits = moved_;
      return inner_.score(own);
    }
    Logits written(const ScoreTask& /*task*/) const override { return moved_; }

   private:
    std::vector<double> scores_;
    View<double, 2> moved_;
  };
  CaseOptions options;
  options.contexts = {200};
  const Workload workload = draw_workload(options);
  const auto oracle = make_backend("oracle", 2);
  Elsewhere backend(*oracle);
  for (const std::string& name : indexer_names()) {
    CAPTURE(name);
    const Placement placement(*oracle, workload), moved(backend, workload);
    const IndexerSpec spec = make_indexer(name, small_settings());
    const Selection right = run_selection(*oracle, spec, placement.problem());
    const Selection found = run_selection(backend, spec, moved.problem());
    CHECK(first_difference(right, found) == std::nullopt);
    // Of several passes the last one's scores are left.
    PlanOptions seen;
    seen.after_chunk = [&](const ChunkScores& chunk) {
      CHECK(chunk.tokens.has_value() == !spec.rerank);
      CHECK_FALSE(chunk.blocks.has_value());
    };
    Plan(backend, spec, moved.problem(), seen).run(nullptr);
  }
}

TEST_CASE("tokens in any order are sorted when they are fetched, pads last") {
  // The oracle, which writes the ids of a last selection backwards.
  class Backwards final : public ForwardingBackend {
   public:
    using ForwardingBackend::ForwardingBackend;
    bool any_order() const override { return true; }
    std::string_view select(const SelectTask& task) override {
      const std::string_view kernel = inner_.select(task);
      for (i64 m = 0; m < task.selected.shape[0] && task.is_last; ++m) {
        std::reverse(task.selected[m].data, task.selected[m].data + task.selected.shape[1]);
      }
      return kernel;
    }
  };
  CaseOptions options;
  options.contexts = {9, 200};
  const Workload workload = draw_workload(options);
  const auto oracle = make_backend("oracle", 2);
  Backwards backend(*oracle);
  for (const std::string& name : indexer_names()) {
    CAPTURE(name);
    const Placement placement(*oracle, workload), other(backend, workload);
    const IndexerSpec spec = make_indexer(name, small_settings());
    const Selection right = run_selection(*oracle, spec, placement.problem());
    CHECK(first_difference(right, run_selection(backend, spec, other.problem())) == std::nullopt);
  }
}

TEST_CASE("a plan that cannot fit names what it needs before it allocates") {
  CaseOptions options;
  options.contexts = {500};
  const Workload workload = draw_workload(options);
  const auto backend = make_backend("cpu", 1);
  const Placement placement(*backend, workload);
  const IndexerSpec spec = make_indexer("dsa", small_settings());
  const i64 enough = placement.problem().bytes + Plan(*backend, spec, placement.problem()).workspace_bytes();
  const PlanOptions generous{.max_bytes = enough};
  CHECK_NOTHROW(Plan(*backend, spec, placement.problem(), generous));
  // One row at a time still fits in less.
  const Plan tight(*backend, spec, placement.problem(), {.max_bytes = enough - 1});
  CHECK(tight.rows_per_chunk() < workload.rows());
  const PlanOptions hopeless{.max_bytes = 1000};
  CHECK_THROWS_WITH_AS(Plan(*backend, spec, placement.problem(), hopeless), doctest::Contains("dsa needs at least"),
                       Error);
}

TEST_CASE("a block larger than every window takes no more columns than the longest window and selects what dsa does") {
  CaseOptions options;
  options.contexts = {500, 130};
  options.rows = 6;
  for (const bool paged : {false, true}) {
    options.paged = paged;
    const Workload workload = draw_workload(options);
    for (const char* name : {"cpu", "oracle"}) {
      const auto backend = make_backend(name, 1);
      const Placement placement(*backend, workload);
      const Problem& problem = placement.problem();
      IndexerSettings settings = small_settings();
      settings.blocks = 3;
      const std::vector<i32> dsa = choose(name, workload, make_indexer("dsa", settings)).tokens;
      for (const i64 size : {problem.shape.max_window, i64{1} << 26, i64{0x7fffffff}}) {
        CAPTURE(options.describe());
        CAPTURE(name);
        CAPTURE(size);
        settings.block_size = size;
        const IndexerSpec hisa = make_indexer("hisa", settings);
        i64 columns = 0;
        PlanOptions plan_options;
        plan_options.after_chunk = [&](const ChunkScores& seen) {
          columns = std::max(columns, std::visit([](const auto& view) { return view.shape[1]; }, *seen.tokens));
        };
        Plan plan(*backend, hisa, problem, plan_options);
        CHECK(plan.workspace_bytes() < (i64{4} << 20));
        plan.run(nullptr);
        CHECK(columns == problem.shape.max_window);
        CHECK(fetch(*backend, plan.tokens()) == dsa);
      }
    }
  }
}

TEST_CASE("what a backend lacks is refused with its reason before memory is taken") {
  struct Lacks final : ForwardingBackend {
    using ForwardingBackend::ForwardingBackend;
    std::optional<std::string> why_not(const IndexerSpec& spec, const Shape& shape) const override {
      if (spec.heads && spec.heads->router == Router::gate) return "no router gate for " + std::to_string(shape.rows);
      return std::nullopt;
    }
    std::byte* allocate(i64 bytes) override {
      ++allocations;
      return ForwardingBackend::allocate(bytes);
    }
    i64 allocations = 0;
  };
  CaseOptions options;
  options.rows = 5;
  options.contexts = {20};
  const auto cpu = make_backend("cpu", 1);
  Lacks backend(*cpu);
  const Placement placement(backend, draw_workload(options));
  backend.allocations = 0;
  IndexerSettings settings = small_settings();
  settings.router = Router::gate;
  CHECK_THROWS_WITH_AS(Plan(backend, make_indexer("misa", settings), placement.problem()),
                       doctest::Contains("cannot run misa: no router gate for 5"), Error);
  CHECK(backend.allocations == 0);
  CHECK_NOTHROW(Plan(backend, make_indexer("hisa", settings), placement.problem()));

  // Of several indexers those that it can run are left, and no run begins where there is none.
  const Shape& shape = placement.problem().shape;
  const IndexerSpec misa = make_indexer("misa", settings), dagger = make_indexer("misa-dagger", settings);
  std::vector<Refusal> refused;
  const std::vector<IndexerSpec> left = runnable_specs(
      backend, shape, {make_indexer("dsa", settings), misa, make_indexer("hisa", settings), dagger}, refused);
  REQUIRE(left.size() == 2);
  CHECK(left[0].name == "dsa");
  CHECK(left[1].name == "hisa");
  REQUIRE(refused.size() == 2);
  CHECK(refused[0].indexer == "misa");
  CHECK(refused[1].indexer == "misa-dagger");
  CHECK(refused[1].reason == "no router gate for 5");
  try {
    runnable_specs(backend, shape, {misa, dagger}, refused);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::unavailable);
    CHECK(std::string(error.what()).find("misa: no router gate for 5; misa-dagger: no router") != std::string::npos);
  }
}

TEST_CASE("chunks are even and hold whole tiles, and as many rows as were asked for") {
  struct Narrow final : ForwardingBackend {
    using ForwardingBackend::ForwardingBackend;
    i64 workspace_bytes() const override { return bytes; }
    i64 bytes = 0;
  };
  CaseOptions options;
  options.rows = 100;
  options.contexts = {200};
  const Workload workload = draw_workload(options);
  const auto cpu = make_backend("cpu", 1);
  Narrow backend(*cpu);
  const Placement placement(backend, workload);
  const IndexerSpec spec = make_indexer("dsa", small_settings());
  const i64 row_bytes = placement.problem().shape.max_window * 4;
  const auto chunk = [&](i64 rows_that_fit, i64 asked = 0) {
    backend.bytes = rows_that_fit * row_bytes;
    return Plan(backend, spec, placement.problem(), {.rows_per_chunk = asked}).rows_per_chunk();
  };
  CHECK(chunk(100) == 100);
  CHECK(chunk(99) == 64);  // two chunks, not 99 rows and 1
  CHECK(chunk(63) == 32);
  CHECK(chunk(31) == 31);  // too few for a tile
  CHECK(chunk(1) == 1);
  CHECK(chunk(0) == 1);
  CHECK(chunk(99, 50) == 50);
  CHECK(chunk(40, 50) == 40);
}
