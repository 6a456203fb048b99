#include "core/workload/workload.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "core/workload/subset.hpp"

namespace misa {
namespace {

/// Three rows of one sequence of eight f32 keys; only row 0 has a recorded selection, of five columns.
Workload workload_with_topk() {
  Workload w;
  w.q = HostTensor(Dtype::f32, {3, 1, 32});
  w.weights = HostTensor(Dtype::f32, {3, 1});
  w.k = HostTensor(Dtype::f32, {8, 32});
  w.q_pos = {5, 6, 7};
  w.sequence = {0, 0, 0};
  w.ks = {0, 0, 0};
  w.ke = {6, 7, 8};
  w.topk = HostTensor(Dtype::int32, {1, 5});
  w.topk_row = {0};
  return w;
}

}  // namespace

TEST_CASE("k is index_topk, else the columns of the recorded selection, else 2048") {
  Workload w = workload_with_topk();
  CHECK(default_top_k(w).k == 5);
  CHECK(default_top_k(w).source == "recorded");
  w.metadata["index_topk"] = "7";
  CHECK(default_top_k(w).k == 7);
  CHECK(default_top_k(w).source == "index_topk");
  w.metadata["index_topk"] = "many";
  CHECK(default_top_k(w).k == 5);
  w.metadata.clear();
  w.topk = {};
  CHECK(default_top_k(w).k == 2048);
  CHECK(default_top_k(w).source == "default");
}

TEST_CASE("a part of a workload without the recorded selection keeps its k") {
  const Workload w = workload_with_topk();
  const std::vector<i64> rows{1, 2}, heads{0};
  CHECK(default_top_k(take(w, rows, heads, 8)).k == 5);
  const Workload last = keep_rows(workload_with_topk(), 1);  // the last row, which has none
  CHECK(last.topk.empty());
  CHECK(default_top_k(last).k == 5);
}

}  // namespace misa
