// Every primitive of every present backend against the oracle, over dtypes, layouts and adversarial numbers.

#include <doctest/doctest.h>

#include "core/agreement/compare_sides.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

CaseOptions draw_case(u64 seed) {
  Draw draw(seed * 2654435761u + 3);
  CaseOptions options;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 2, 5, 8, 16, 32, 64, 100, 128});
  options.dim = draw.one_of<i64>({32, 64, 128, 256});
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::few_keys, Numbers::zeros, Numbers::negative_gates,
                                          Numbers::nan, Numbers::infinite, Numbers::denormal});
  options.paged = draw.whole(0, 1) == 1;
  options.page_size = draw.one_of<i64>({1, 16, 64});
  options.next_n = draw.whole(1, 4);
  options.rows = draw.one_of<i64>({1, 2, 3, 5, 9, 17, 40, 70});
  options.contexts.clear();
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(options.paged ? 0 : 1, 700));
  if (options.paged) options.contexts.push_back(1);
  return options;
}

/// What kernels for tensor cores take: many rows of a sequence, head_dim 128, up to 64 heads, narrow elements.
CaseOptions draw_wide_case(u64 seed) {
  Draw draw(seed * 2654435761u + 5);
  CaseOptions options = draw_case(seed);
  options.heads = draw.one_of<i64>({1, 3, 8, 13, 16, 32, 48, 64});
  options.dim = 128;
  options.dtype = draw.one_of<Dtype>({Dtype::bf16, Dtype::e4m3});
  options.rows = draw.whole(16, 40);
  options.page_size = draw.one_of<i64>({8, 24, 64, 128});
  options.next_n = draw.whole(8, 16);
  options.contexts.resize(std::min<std::size_t>(2, options.contexts.size()));
  return options;
}

/// |a - b| within what rounding the sum of |terms| to f32 explains; NaN and infinities must agree.
bool close(double a, double b, double size) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) == std::isnan(b);
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return std::abs(a - b) <= size;
}

/// The whole backend problem with values replaced by magnitudes: its scores bound the rounding of the real ones.
Workload magnitudes(const CaseOptions& options) {
  Workload workload = draw_workload(options);
  for (float& weight : workload.weights.span<float>()) weight = std::abs(weight);
  const auto positive = [&](HostTensor& tensor) {
    for (i64 i = 0; i < tensor.size(); ++i) store(tensor, i, static_cast<float>(std::abs(value_at(tensor, i))));
  };
  positive(workload.q);
  if (!workload.paged()) {
    positive(workload.k);
  } else if (workload.k_pages.dtype != Dtype::uint8) {
    positive(workload.k_pages);
  } else {
    const i64 size = workload.page_size(), dim = workload.head_dim(), page_bytes = size * (dim + 4);
    u8* bytes = workload.k_pages.storage.as<u8>();
    for (i64 page = 0; page < workload.k_pages.shape[0]; ++page) {
      for (i64 i = 0; i < size * dim; ++i) bytes[page * page_bytes + i] &= 0x7F;
    }
  }
  return workload;
}

std::vector<double> score_all(Backend& backend, const Workload& workload, const std::vector<i32>& runs, i64 run_count,
                              i64 length) {
  On on(backend);
  const Placement placement(backend, workload);
  const Problem& problem = placement.problem();
  ScoreTask task{problem.queries, problem.keys, problem.windows, {}, {}};
  i64 columns = std::max<i64>(1, problem.shape.max_window);
  if (run_count > 0) {
    task.candidates =
        Candidates{on.place<i32, 2>(runs, {problem.shape.rows, run_count}), problem.windows.begin, length};
    columns = task.candidates->columns();
  }
  task.logits = on.logits(problem.shape.rows, columns);
  backend.score(task);
  return on.fetch_logits(task.logits);
}

struct Ranges {
  std::vector<i32> sequence, begin, end;
};

/// A few of each row's window, some of which share their begin.
Ranges draw_ranges(const Workload& workload, Draw& draw) {
  Ranges ranges;
  for (i64 m = 0; m < workload.rows(); ++m) {
    const std::size_t row = static_cast<std::size_t>(m);
    i64 first = draw.whole(workload.ks[row], workload.ke[row]), last = first;
    for (i64 i = draw.whole(1, 3); i > 0; --i) {
      last = draw.whole(last, workload.ke[row]);
      ranges.sequence.push_back(workload.sequence[row]);
      ranges.begin.push_back(static_cast<i32>(first));
      ranges.end.push_back(static_cast<i32>(last));
    }
  }
  return ranges;
}

std::vector<float> means_of(Backend& backend, const Workload& workload, const Ranges& ranges) {
  On on(backend);
  const Placement placement(backend, workload);
  const i64 count = std::ssize(ranges.begin);
  const View<float, 2> means = on.make<float, 2>({count, workload.head_dim()});
  backend.pool({placement.problem().keys,
                {on.place<i32, 1>(ranges.sequence, {count}), on.place<i32, 1>(ranges.begin, {count}),
                 on.place<i32, 1>(ranges.end, {count})},
                means});
  return on.fetch(means);
}

}  // namespace

TEST_CASE("scores over windows and candidates are the formula's, within the rounding of the backend's arithmetic") {
  const auto oracle = make_backend("oracle", 2);
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    i64 compared = 0, scores = 0;
    for (u64 seed = 1; seed <= 190; ++seed) {
      const CaseOptions options = seed <= 150 ? draw_case(seed) : draw_wide_case(seed);
      CAPTURE(name);
      CAPTURE(options.describe());
      const Workload workload = draw_workload(options);
      Draw draw(seed);
      std::vector<i32> runs;
      i64 run_count = 0, length = 1;
      if (seed % 3 != 0) {  // candidates: ascending runs, some behind the window, -1 pads
        run_count = draw.whole(1, 40);
        length = draw.one_of<i64>({1, 1, 7, 16});
        for (i64 m = 0; m < workload.rows(); ++m) {
          i64 next = 0;
          const i64 used = draw.whole(0, run_count);
          for (i64 r = 0; r < run_count; ++r) {
            next += draw.whole(0, 5) + (r > 0 ? 1 : 0);
            runs.push_back(r < used ? static_cast<i32>(next) : -1);
          }
        }
      }
      const std::vector<double> expected = score_all(*oracle, workload, runs, run_count, length);
      const std::vector<double> found = score_all(*backend, workload, runs, run_count, length);
      const std::vector<double> size = score_all(*oracle, magnitudes(options), runs, run_count, length);
      REQUIRE(found.size() == expected.size());
      const auto arithmetic = backend->arithmetic(shape_of(workload));
      REQUIRE(arithmetic);
      double rounding = static_cast<double>(options.dim) * 0x1p-22;
      if (arithmetic->group > 0) {
        rounding +=
            static_cast<double>(ceil_div(options.dim, arithmetic->group) * (arithmetic->group + 1)) * arithmetic->cut;
      }
      i64 wrong = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double room = std::isfinite(size[i]) ? size[i] * rounding + 1e-44 : 0;
        // Key scales, 2^-4 or more, come last: before them the sum may have left the arithmetic's range.
        if (size[i] * 0x1p5 > arithmetic->overflow) continue;
        if (!close(found[i], expected[i], room)) ++wrong;
        ++compared;
      }
      scores += static_cast<i64>(found.size());
      CHECK(wrong == 0);
    }
    CHECK(compared > scores / 2);
  }
}

TEST_CASE("the same scores select the same tokens, on every kind of row") {
  const auto oracle = make_backend("oracle", 2);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 300; ++seed) {
      Draw draw(seed);
      const i64 rows = draw.whole(1, 4);
      const i64 columns = draw.one_of<i64>({1, 2, 15, 16, 17, 100, 2049, 4095, 4096, 4097, 9000, 16385, 20000});
      const i64 k =
          std::max<i64>(1, draw.one_of<i64>({1, 2, 17, columns - 1, columns, columns + 3, columns / 8, 2048}));
      const i64 kind = draw.whole(0, 9);
      CAPTURE(name);
      CAPTURE(seed);
      CAPTURE(columns);
      CAPTURE(k);
      CAPTURE(kind);
      std::vector<float> scores;
      for (i64 i = 0; i < rows * columns; ++i) {
        const float x = draw.normal();
        switch (kind) {
          case 0: scores.push_back(1.0f); break;                                  // all equal
          case 1: scores.push_back(std::max(0.0f, x - 1.5f)); break;              // plateau of exact zeros
          case 2: scores.push_back(draw.whole(0, 1) == 0 ? 0.0f : -0.0f); break;  // zeros of both signs
          case 3: scores.push_back(1.0f + static_cast<float>(draw.whole(0, 2)) * 0x1p-23f); break;  // near-equal
          case 4: scores.push_back(x * 1e-42f); break;                                              // denormal
          case 5: scores.push_back(draw.whole(0, 3) == 0 ? kInf : draw.whole(0, 3) == 0 ? -kInf : x); break;
          case 6: scores.push_back(draw.whole(0, 1) == 0 ? kNan : x); break;
          case 7: scores.push_back(static_cast<float>(i % columns)); break;        // ascending
          case 8: scores.push_back(static_cast<float>(draw.whole(-3, 3))); break;  // few values
          default: scores.push_back(x); break;
        }
      }
      SelectCase from{.rows = rows, .k = k, .scores = std::move(scores)};
      from.length = draw.one_of<i64>({0, 0, 1, 16});
      const i64 run_count = from.length == 0 ? 0 : ceil_div(columns, from.length);
      for (i64 m = 0; m < rows; ++m) {
        from.begin.push_back(static_cast<i32>(draw.whole(0, 50)));
        const i64 visible = draw.whole(0, 3) == 0 ? draw.whole(0, columns) : columns;
        from.end.push_back(from.begin.back() + static_cast<i32>(visible));
        i32 run = 0;
        const i64 used = draw.whole(0, run_count);
        for (i64 r = 0; r < run_count; ++r) {
          from.runs.push_back(r < used ? run : -1);
          run += static_cast<i32>(draw.whole(1, 2));
        }
      }
      from.columns = from.length == 0 ? columns : run_count * from.length;
      from.scores.resize(static_cast<std::size_t>(rows * from.columns), 0.0f);
      from.force_ends = draw.whole(0, 2) == 0;
      CHECK(select_on(*backend, from) == select_on(*oracle, from));
    }
  }
}

TEST_CASE("block means are the oracle's, within the rounding of the backend's arithmetic") {
  const auto oracle = make_backend("oracle", 2);
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 100; ++seed) {
      CaseOptions options = draw_case(seed);
      if (options.numbers == Numbers::nan) options.numbers = Numbers::normal;
      CAPTURE(name);
      CAPTURE(options.describe());
      const Workload workload = draw_workload(options);
      Draw draw(seed);
      const Ranges ranges = draw_ranges(workload, draw);
      const std::vector<float> expected = means_of(*oracle, workload, ranges),
                               found = means_of(*backend, workload, ranges),
                               size = means_of(*oracle, magnitudes(options), ranges);
      const auto arithmetic = backend->arithmetic(shape_of(workload));
      REQUIRE(arithmetic);
      i64 wrong = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        // Sums in double: at most one unit in the last place apart. Sums in f32: what adding magnitudes explains.
        const double room = arithmetic->pool > 0x1p-50
                                ? 2 * 700 * arithmetic->pool * std::abs(static_cast<double>(size[i]))
                                : std::abs(static_cast<double>(expected[i])) * 0x1p-22;
        if (!close(found[i], expected[i], room + 1e-40)) ++wrong;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a block mean does not depend on how many others are wanted") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 6; ++seed) {
      CaseOptions options = draw_wide_case(seed);
      options.numbers = Numbers::normal;
      options.contexts = {1500};
      CAPTURE(name);
      CAPTURE(options.describe());
      const Workload workload = draw_workload(options);
      Draw draw(seed);
      const Ranges few = draw_ranges(workload, draw);
      const std::vector<float> expected = means_of(*backend, workload, few);
      Ranges many;
      while (std::ssize(many.begin) < 5000) {
        many.sequence.insert(many.sequence.end(), few.sequence.begin(), few.sequence.end());
        many.begin.insert(many.begin.end(), few.begin.begin(), few.begin.end());
        many.end.insert(many.end.end(), few.end.begin(), few.end.end());
      }
      const std::vector<float> found = means_of(*backend, workload, many);
      i64 different = 0;
      for (std::size_t i = 0; i < found.size(); ++i) different += found[i] == expected[i % expected.size()] ? 0 : 1;
      CHECK(different == 0);
    }
  }
}

TEST_CASE("every router keeps the oracle's heads, except where two energies are equal to rounding") {
  const auto oracle = make_backend("oracle", 2);
  i64 same = 0;  // cases whose heads must be the same
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 240; ++seed) {
      CaseOptions options = seed % 4 < 3 ? draw_case(seed) : draw_wide_case(seed);
      if (options.numbers == Numbers::infinite) options.numbers = Numbers::few_keys;
      const Router router = routers()[seed % routers().size()].router;
      CAPTURE(name);
      CAPTURE(std::string(router_name(router)));
      CAPTURE(options.describe());
      const Workload workload = draw_workload(options);
      IndexerSpec spec{.name = "test",
                       .top_k = 8,
                       .block_window = seed % 2 == 0 ? BlockWindow::visible : BlockWindow::upstream,
                       .seed = seed,
                       .heads = HeadRouting{router, std::max<i64>(1, options.heads / 3), 16},
                       .blocks = {},
                       .rerank = {}};
      if (samples_keys(router)) {
        spec.heads->samples = 24;
        spec.heads->active = std::max<i64>(2, spec.heads->active);
        spec.heads->linear = seed % 3 > 0;
      }
      const i64 kept = spec.heads->kept(options.heads);
      Arbiter arbiter(*oracle, workload);
      Selection exact = run_selection(*oracle, spec, arbiter.problem());
      exact.exact = true;
      const Placement placement(*backend, workload);
      const Selection found = run_selection(*backend, spec, placement.problem());
      const Agreement agreement = compare_sides(arbiter, spec, found, exact);
      CHECK(agreement.missed() + agreement.violated() == 0);
      CHECK(agreement.count(Verdict::unknown) == 0);
      CHECK(agreement.rows() > 0);
      if (samples_keys(router)) continue;  // which samples count hangs on rounding too
      if (options.numbers != Numbers::normal && options.numbers != Numbers::negative_gates) continue;
      REQUIRE(found[Choice::heads].size() == workload.rows() * kept);
      for (i64 i = 0; i < found[Choice::heads].size(); ++i) {
        const std::size_t at = static_cast<std::size_t>(i);
        CHECK(found[Choice::heads].span<i32>()[at] == exact[Choice::heads].span<i32>()[at]);
      }
      ++same;
    }
  }
  CHECK(same > 20);
}

TEST_CASE("the score of a pair does not depend on what else is scored") {
  // A batch over windows, the same rows one by one, and as candidates.
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::e4m3}) {
      for (const i64 heads : {1, 8, 13, 32, 64}) {
        CaseOptions options;
        options.seed = 77;
        options.dtype = dtype;
        options.heads = heads;
        options.dim = 128;
        options.rows = 30;
        options.contexts = {900};
        CAPTURE(name);
        CAPTURE(options.describe());
        const Workload workload = draw_workload(options);
        const Placement placement(*backend, workload);
        const Problem& problem = placement.problem();
        On on(*backend);
        const Logits all = on.logits(options.rows, 900);
        backend->score({problem.queries, problem.keys, problem.windows, {}, all});
        const std::vector<double> together = on.fetch_logits(all);
        std::vector<i32> every_third(300 * static_cast<std::size_t>(options.rows));
        for (std::size_t i = 0; i < every_third.size(); ++i) every_third[i] = static_cast<i32>(i % 300 * 3);
        const Logits third = on.logits(options.rows, 300);
        backend->score({problem.queries, problem.keys, problem.windows,
                        Candidates{on.place<i32, 2>(every_third, {options.rows, 300}), problem.windows.begin, 1},
                        third});
        const std::vector<double> chosen = on.fetch_logits(third);
        i64 different = 0;
        for (i64 m = 0; m < options.rows; ++m) {
          const Queries one{
              std::visit([&](const auto& values) -> Values { return values.slice(m, 1); }, problem.queries.values),
              problem.queries.weights.slice(m, 1)};
          const i64 visible = problem.end[static_cast<std::size_t>(m)];
          const i64 first = visible / 3;
          const Windows window{problem.windows.sequence.slice(m, 1), on.place<i32, 1>({static_cast<i32>(first)}, {1}),
                               problem.windows.end.slice(m, 1)};
          const Logits alone = on.logits(1, visible - first);
          backend->score({one, problem.keys, window, {}, alone});
          const std::vector<double> apart = on.fetch_logits(alone);
          for (i64 c = first; c < visible; ++c) {
            if (together[static_cast<std::size_t>(m * 900 + c)] != apart[static_cast<std::size_t>(c - first)])
              ++different;
          }
          for (i64 i = 0; i < 300; ++i) {
            if (together[static_cast<std::size_t>(m * 900 + 3 * i)] != chosen[static_cast<std::size_t>(m * 300 + i)])
              ++different;
          }
        }
        CHECK(different == 0);
      }
    }
  }
}
