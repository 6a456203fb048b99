// Keys far from the first token: numbers of bytes that 32 bits do not hold. The first tokens need no memory, for no row
// sees them: the keys' address is that far ahead of what is there.

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// Keys whose first `far` tokens, or pages, hold nothing: `keys` come after them. On a device they have memory; on the
/// host their address alone is that far ahead of what is there.
class FarKeys {
 public:
  FarKeys(Backend& backend, On& on, const KeyCache& keys, i64 far) : keys_(keys) {
    const bool paged = !keys.block_table.empty();
    std::visit([&](const auto& view) { keys_.values = moved(backend, on, view, paged ? 0 : 1, far); }, keys.values);
    if (keys.scales.data == nullptr) return;
    if (paged && backend.free_bytes()) {  // they lie in the pages
      const auto& values = std::get<View<const E4m3, 3>>(keys_.values);
      keys_.scales.data = reinterpret_cast<const float*>(values.data + values.shape[1] * values.shape[2]);
      keys_.scales.shape[0] += far;
    } else {
      keys_.scales = moved(backend, on, keys.scales, paged ? 0 : 1, far);
    }
  }
  const KeyCache& keys() const { return keys_; }
  /// Bytes that a device needs.
  static i64 bytes(const KeyCache& keys, i64 far) {
    const i64 axis = keys.block_table.empty() ? 1 : 0;
    return std::visit(
        [&](const auto& view) {
          const auto step = [&](const auto& part) {
            return part.stride[static_cast<std::size_t>(axis)] * static_cast<i64>(sizeof(*part.data));
          };
          if constexpr (std::is_same_v<Element<decltype(view)>, Mxfp4>) {
            return far * (step(view.codes) + step(view.scales));
          } else {
            return far * (step(view) + 4);
          }
        },
        keys.values);
  }

 private:
  template <class T, int Rank>
  View<const T, Rank> moved(Backend& backend, On& on, View<const T, Rank> view, std::size_t axis, i64 far) {
    const i64 step = view.stride[axis], held = view.shape[axis] * step;
    const T* there = view.data;
    view.shape[axis] += far;
    if (axis == 1) view.stride[0] = view.shape[1] * step;
    if (!backend.free_bytes()) {
      view.data -= far * step;
      return view;
    }
    std::vector<T> values(static_cast<std::size_t>(held));
    backend.download(reinterpret_cast<std::byte*>(values.data()), reinterpret_cast<const std::byte*>(there),
                     held * static_cast<i64>(sizeof(T)));
    const View<T, 1> all = on.make<T, 1>({far * step + held});
    backend.upload(reinterpret_cast<std::byte*>(all.data + far * step),
                   reinterpret_cast<const std::byte*>(values.data()), held * static_cast<i64>(sizeof(T)));
    view.data = all.data;
    return view;
  }

  /// Contiguous ones: in pages the scales are in the same memory.
  Mxfp4View moved(Backend& backend, On& on, const Mxfp4View& view, std::size_t axis, i64 far) {
    return {moved(backend, on, view.codes, axis, far), moved(backend, on, view.scales, axis, far)};
  }

  KeyCache keys_;
};

std::vector<double> scores_of(Backend& backend, const ScoreTask& task, i64 columns) {
  On on(backend);
  ScoreTask full = task;
  full.logits = on.logits(rows_of(task.queries), columns);
  backend.score(full);
  return on.fetch_logits(full.logits);
}

void check_same(const std::vector<double>& near, const std::vector<double>& far) {
  REQUIRE(near.size() == far.size());
  i64 differ = 0, finite = 0;
  for (std::size_t i = 0; i < near.size(); ++i) {
    differ += near[i] == far[i] || (std::isnan(near[i]) && std::isnan(far[i])) ? 0 : 1;
    finite += std::isfinite(near[i]) ? 1 : 0;
  }
  CHECK(differ == 0);
  CHECK(finite > 0);
}

}  // namespace

TEST_CASE("contiguous keys 2^25 and 2^29 tokens from the first have the scores and means that they have near it") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (const Dtype dtype : {Dtype::e4m3, Dtype::bf16, Dtype::f32}) {
      for (const i64 rows : {3, 40}) {
        CaseOptions options;
        options.seed = static_cast<u64>(rows);
        options.heads = 8;
        options.dim = 128;
        options.dtype = dtype;
        options.rows = rows;
        options.contexts = {300};
        const Workload workload = draw_workload(options);
        const Placement placement(*backend, workload);
        const Problem& problem = placement.problem();
        for (const i64 far : {(i64{1} << 25) + 40, (i64{1} << 29) + 40}) {
          // Only FP8 keys so far from the first fit a device.
          if (backend->free_bytes() && dtype != Dtype::e4m3 && far > 1 << 26) continue;
          INFO(name << ", " << dtype_name(dtype) << ", " << rows << " rows, token " << far);
          On on(*backend);
          std::vector<i32> begin, end, listed;
          for (std::size_t m = 0; m < problem.begin.size(); ++m) {
            begin.push_back(problem.begin[m] + static_cast<i32>(far));
            end.push_back(problem.end[m] + static_cast<i32>(far));
            for (i32 i = 0; i < 100; ++i) listed.push_back(3 * i);
          }
          const Windows windows{problem.windows.sequence, on.place<i32, 1>(begin, {rows}),
                                on.place<i32, 1>(end, {rows})};
          if (backend->free_bytes()) REQUIRE(*backend->free_bytes() > FarKeys::bytes(problem.keys, far));
          const FarKeys far_keys(*backend, on, problem.keys, far);
          const KeyCache& keys = far_keys.keys();
          const i64 columns = problem.shape.max_window;
          check_same(scores_of(*backend, {problem.queries, problem.keys, problem.windows, {}, {}}, columns),
                     scores_of(*backend, {problem.queries, keys, windows, {}, {}}, columns));
          const View<const i32, 2> runs = on.place<i32, 2>(listed, {rows, 100});
          const auto candidates = [&](const Windows& of) { return Candidates{runs, of.begin, 1}; };
          check_same(scores_of(*backend,
                               {problem.queries, problem.keys, problem.windows, candidates(problem.windows), {}}, 100),
                     scores_of(*backend, {problem.queries, keys, windows, candidates(windows), {}}, 100));
          const View<float, 2> near = on.make<float, 2>({rows, 128}), there = on.make<float, 2>({rows, 128});
          backend->pool({problem.keys, problem.windows, near});
          backend->pool({keys, windows, there});
          CHECK(on.fetch(near) == on.fetch(there));
        }
      }
    }
  }
}

TEST_CASE("pages more than 2^31 bytes from the first have the scores that they have near it") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (const i64 rows : {3, 40}) {
      CaseOptions options;
      options.seed = static_cast<u64>(rows) + 7;
      options.heads = 8;
      options.dim = 128;
      options.dtype = Dtype::e4m3;
      options.paged = true;
      options.page_size = 64;
      options.next_n = rows;
      options.rows = rows;
      options.contexts = {500};
      const Workload workload = draw_workload(options);
      const Placement placement(*backend, workload);
      const Problem& problem = placement.problem();
      constexpr i64 kFar = (i64{1} << 18) + 3;
      INFO(name << ", " << rows << " rows");
      On on(*backend);
      std::vector<i32> table = on.fetch(problem.keys.block_table);
      for (i32& page : table) page += static_cast<i32>(kFar);
      const FarKeys far_keys(*backend, on, problem.keys, kFar);
      KeyCache keys = far_keys.keys();
      keys.block_table = on.place<i32, 2>(table, problem.keys.block_table.shape);
      const i64 columns = problem.shape.max_window;
      check_same(scores_of(*backend, {problem.queries, problem.keys, problem.windows, {}, {}}, columns),
                 scores_of(*backend, {problem.queries, keys, problem.windows, {}, {}}, columns));
    }
  }
}
