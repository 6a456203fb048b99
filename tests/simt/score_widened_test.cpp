// The cuda backend's kernel for INT8 and MXFP4 keys, run on the host, against the oracle: within the bounds of its
// arithmetic, bit by bit the same in whatever order threads run.

#include <doctest/doctest.h>

#include "backends/cuda/cuda.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/oracle/oracle.hpp"
#include "core/indexer/forwarding_backend.hpp"
#include "core/workload/subset.hpp"
#include "tests/simt/simt.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/primitive_tasks.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// The oracle, but scores are the kernel's.
class WidenedOnHost final : public ForwardingBackend {
 public:
  WidenedOnHost(Backend& oracle, int num_sms) : ForwardingBackend(oracle), num_sms_(num_sms) {}
  std::string_view name() const override { return "cuda on the host"; }
  std::optional<Arithmetic> arithmetic(const Shape& shape) const override { return cuda_arithmetic(shape); }

  std::string_view score(const ScoreTask& task) override {
    REQUIRE(cuda::scores_widened(task));
    const auto& logits = std::get<View<double, 2>>(task.logits);
    const auto run = [&](simt::Order order) {
      std::vector<float> scores(static_cast<std::size_t>(logits.size()), 12345.0f);
      ScoreTask single = task;
      single.logits = View<float, 2>(scores.data(), logits.shape);
      simt::machine().order = order;
      cuda::score_widened(single, num_sms_, nullptr);
      return scores;
    };
    const std::vector<float> scores = run(simt::Order::ascending);
    CHECK(same(run(simt::Order::descending), scores));
    CHECK(same(run(simt::Order::shuffled), scores));
    std::copy(scores.begin(), scores.end(), logits.data);
    return "widened";
  }

 private:
  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  int num_sms_;
};

}  // namespace

TEST_CASE("the kernel of INT8 and MXFP4 keys agrees with the formulas in whatever order its threads run") {
  const auto oracle = make_oracle(1, {});
  for (u64 seed = 1; seed <= 36; ++seed) {
    Draw draw(seed * 977);
    CaseOptions options;
    options.seed = seed;
    options.dtype = seed % 3 == 0 ? Dtype::int8 : Dtype::e2m1;
    options.dim = 128;
    options.heads = draw.one_of<i64>({1, 3, 8, 13, 16, 32, 48, 64});
    options.rows = draw.whole(1, 11);
    options.numbers =
        draw.one_of<Numbers>({Numbers::normal, Numbers::few_keys, Numbers::zeros, Numbers::nan, Numbers::denormal});
    options.contexts = {draw.whole(1, 230), draw.whole(1, 70)};
    options.paged = seed % 2 == 0;
    options.page_size = draw.one_of<i64>({4, 16, 64});  // vectors of pages are aligned
    options.next_n = draw.whole(1, 9);
    Workload workload = draw_workload(options);
    Listed listed;
    if (seed % 4 > 1) {
      listed.count = draw.whole(1, 20);
      listed.length = draw.one_of<i64>({1, 1, 7, 16});
      for (i64 m = 0; m < workload.rows(); ++m) {
        const i64 used = draw.whole(0, listed.count);
        for (i64 r = 0, next = 0; r < listed.count; ++r) {
          next += draw.whole(0, 3) + (r > 0 ? 1 : 0);
          listed.runs.push_back(r < used ? static_cast<i32>(next) : -1);
        }
      }
    }
    INFO(options.describe(), ", listed ", listed.count);
    WidenedOnHost tested(*oracle, static_cast<int>(draw.whole(1, 3)));
    const auto found = place_score(tested, copy_of(workload), listed),
               exact = place_score(*oracle, copy_of(workload), listed);
    found->run(0);
    exact->run(0);
    const Judged judged = found->judge(found->outputs(), exact->outputs());
    CHECK(judged.wrong == "");
    CHECK(judged.compared > 0);
  }
}
