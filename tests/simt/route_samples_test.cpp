// The cuda backend's router over sampled keys, run on the host, against the oracle: judged as compare judges it, bit by
// bit the same in whatever order threads run.

#include <doctest/doctest.h>

#include "backends/cuda/cuda.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/oracle/oracle.hpp"
#include "core/agreement/guarded_backend.hpp"
#include "tests/simt/simt.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/primitive_tasks.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// The oracle, but heads are routed by the kernel.
class KernelOnHost final : public ForwardingBackend {
 public:
  KernelOnHost(Backend& oracle, int num_sms) : ForwardingBackend(oracle), num_sms_(num_sms) {}
  std::string_view name() const override { return "cuda on the host"; }
  std::optional<Arithmetic> arithmetic(const Shape& shape) const override { return cuda_arithmetic(shape); }

  std::string_view rank_gather(const RankGatherTask& task) override {
    const Written first = run(task, simt::Order::ascending);
    CHECK(run(task, simt::Order::descending) == first);
    CHECK(run(task, simt::Order::shuffled) == first);
    check_ranked(task.rank, first);
    return "samples";
  }

 private:
  struct Written {
    std::vector<std::byte> batch, ranking;
    friend bool operator==(const Written&, const Written&) = default;
  };

  Written run(const RankGatherTask& task, simt::Order order) {
    Written written;
    const auto outputs = [&](const auto& each) {
      std::visit(
          [&](const auto& values) {
            if constexpr (!std::is_same_v<Element<decltype(values)>, Mxfp4>) each(values, written.batch);  // none is
          },
          task.gather.values);
      each(task.gather.weights, written.batch);
      each(task.rank.heads, written.ranking);
      each(task.rank.energies, written.ranking);
    };
    outputs([](const auto& view, auto&) { clear(view); });
    simt::machine().order = order;
    const auto route = cuda::routes_samples_in_tiles(task) ? cuda::route_samples_in_tiles : cuda::route_samples;
    route(task, num_sms_, nullptr);
    outputs([](const auto& view, std::vector<std::byte>& all) { append(view, all); });
    return written;
  }

  /// Ranking alone finds the same, and slopes that are in their range.
  void check_ranked(const RankTask& task, const Written& expected) {
    clear(task.heads);
    clear(task.energies);
    clear(task.slopes);
    const auto rank = cuda::ranks_samples_in_tiles(task) ? cuda::rank_samples_in_tiles : cuda::rank_samples;
    rank(task, num_sms_, nullptr);
    std::vector<std::byte> ranking;
    append(task.heads, ranking);
    append(task.energies, ranking);
    CHECK(ranking == expected.ranking);
    i64 wrong = 0;
    for (i64 m = 0; m < task.slopes.shape[0]; ++m) {
      for (i64 h = 0; h < task.slopes.shape[1]; ++h) {
        wrong += task.slopes(m, h) >= 0 && task.slopes(m, h) <= 1 + 0x1p-10 ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }

  static void clear(const auto& view) {
    const std::span<std::byte> bytes = bytes_of(view);
    std::fill(bytes.begin(), bytes.end(), kUnwritten);
  }
  static void append(const auto& view, std::vector<std::byte>& all) {
    const std::span<std::byte> bytes = bytes_of(view);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }

  template <class T, int Rank>
  static std::span<std::byte> bytes_of(const View<T, Rank>& view) {
    return std::as_writable_bytes(
        std::span(const_cast<std::remove_const_t<T>*>(view.data), static_cast<std::size_t>(view.size())));
  }

  static constexpr std::byte kUnwritten{0xFF};
  int num_sms_;
};

struct RoutedCase {
  CaseOptions workload;
  IndexerSpec spec;
  int num_sms = 1;
  bool equal_heads = false, odd_weights = false, odd_keys = false;

  std::string describe() const {
    return workload.describe() + ", " + std::string(router_name(spec.heads->router)) + ", active " +
           std::to_string(spec.heads->active) + ", samples " + std::to_string(spec.heads->samples) +
           (spec.heads->linear ? ", linear" : "") + ", num_sms " + std::to_string(num_sms) +
           (equal_heads ? ", equal heads" : "") + (odd_weights ? ", some weights not finite" : "") +
           (odd_keys ? ", some keys infinite" : "");
  }
};

RoutedCase draw_case(u64 seed) {
  struct Of {
    i64 heads, dim;
  };
  Draw draw(seed * 2654435761u + 7);
  RoutedCase drawn;
  CaseOptions& options = drawn.workload;
  options.seed = seed;
  // The first four and the last go to the tensor cores where they are narrow.
  const Of of = draw.one_of<Of>({{64, 128}, {64, 128}, {40, 128}, {8, 128}, {5, 32}, {100, 64}, {33, 128}});
  options.heads = of.heads, options.dim = of.dim;
  options.dtype = draw.one_of<Dtype>({Dtype::e4m3, Dtype::e4m3, Dtype::bf16, Dtype::bf16, Dtype::f32});
  options.numbers =
      draw.one_of<Numbers>({Numbers::normal, Numbers::normal, Numbers::normal, Numbers::few_keys, Numbers::zeros,
                            Numbers::negative_gates, Numbers::nan, Numbers::infinite, Numbers::denormal});
  const i64 samples = draw.one_of<i64>({100, 100, 40});
  if (draw.whole(0, 2) == 0) {  // rows that see the same samples but for the last ones, or others
    options.rows = 11;
    options.contexts = draw.one_of<std::vector<i64>>({{90}, {230}, {60, 14}});
  } else {  // a row each, of as many samples; of 300 every second or eighth is one
    options.paged = true;
    options.contexts = {200, 0, 31, 1, 128, 2, 300};
  }
  drawn.spec = {.name = "test",
                .top_k = 8,
                .seed = seed,
                .heads = HeadRouting{.router = seed % 2 == 0 ? Router::linear_residual : Router::covariance,
                                     .active = draw.one_of<i64>({2, 3, std::min<i64>(8, of.heads - 1), of.heads / 2}),
                                     .samples = samples,
                                     .linear = draw.whole(0, 2) > 0},
                .blocks = {},
                .rerank = {}};
  drawn.num_sms = static_cast<int>(draw.whole(1, 4));
  drawn.equal_heads = draw.whole(0, 2) == 0;
  drawn.odd_weights = draw.whole(0, 4) == 0;
  drawn.odd_keys = draw.whole(0, 9) == 0;
  return drawn;
}

/// Where heads are equal, whether this one is as head 0.
bool is_equal(i64 head) { return head % 3 != 1; }

Workload workload_of(const RoutedCase& drawn) {
  Workload workload = draw_workload(drawn.workload);
  const i64 heads = drawn.workload.heads, vector = dtype_bytes(drawn.workload.dtype, drawn.workload.dim);
  const std::span<float> weights = workload.weights.span<float>();
  for (i64 at = 0; drawn.equal_heads && at < std::ssize(weights); ++at) {
    const i64 first = at / heads * heads;
    if (!is_equal(at - first)) continue;
    weights[static_cast<std::size_t>(at)] = weights[static_cast<std::size_t>(first)];
    std::memmove(workload.q.storage.data() + at * vector, workload.q.storage.data() + first * vector,
                 static_cast<std::size_t>(vector));
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Draw draw(drawn.workload.seed);
  for (float& weight : weights) {
    if (drawn.odd_weights && draw.whole(0, 7) == 0) weight = draw.one_of<float>({std::nanf(""), kInfinity, -kInfinity});
  }
  const bool holds_infinity = drawn.workload.dtype != Dtype::e4m3;
  for (i64 i = 0; drawn.odd_keys && holds_infinity && i < workload.k_pages.size(); ++i) {
    if (draw.whole(0, 1023) == 0) store(workload.k_pages, i, draw.one_of<float>({kInfinity, -kInfinity}));
  }
  return workload;
}

/// Of heads that are equal the lower ones are kept.
bool keeps_lower_of_equal(const HostTensor& heads, i64 m) {
  i64 next = 0;
  for (const i32 h : row_of<i32>(heads, m)) {
    while (next < h) {
      if (is_equal(next++) && is_equal(h)) return false;
    }
    ++next;
  }
  return true;
}

/// What the oracle says of the kernel's heads, these, and its own.
std::tuple<Judged, HostTensor, HostTensor> routed(Backend& kernel, Backend& oracle, const RoutedCase& drawn,
                                                  bool same) {
  const auto ours = place_route(kernel, Primitive::rank_gather, workload_of(drawn), drawn.spec, same),
             theirs = place_route(oracle, Primitive::rank_gather, workload_of(drawn), drawn.spec, same);
  ours->run(0);
  theirs->run(0);
  Outputs found = ours->outputs(), formulas = theirs->outputs();
  const Judged judged = theirs->judge(found, formulas);
  return {judged, std::move(found.choices[Choice::heads]), std::move(formulas.choices[Choice::heads])};
}

}  // namespace

TEST_CASE("the router over sampled keys keeps the oracle's heads and linear query, to what rounding explains") {
  const auto oracle = make_oracle(1);
  for (u64 seed = 1; seed <= 48; ++seed) {
    const RoutedCase drawn = draw_case(seed);
    CAPTURE(drawn.describe());
    // Heads of such numbers are equal or differ by more than rounding; a line through two samples leaves rounding
    // alone.
    const bool same = drawn.workload.paged &&
                      (drawn.workload.numbers == Numbers::normal || drawn.workload.numbers == Numbers::negative_gates);
    simt::machine().seed = seed;
    KernelOnHost kernel(*oracle, drawn.num_sms);
    GuardedBackend guarded(kernel);
    const auto [judged, found, formulas] = routed(guarded, *oracle, drawn, same);
    CHECK(judged.wrong == "");
    for (i64 m = 0; !found.empty() && m < found.shape[0] && drawn.equal_heads && !drawn.odd_weights; ++m) {
      CHECK(keeps_lower_of_equal(found, m));
      CHECK(keeps_lower_of_equal(formulas, m));
    }
    CHECK(guarded.overwritten() == 0);
  }
}

TEST_CASE("numbers near the ends of f32 are routed as the bounds explain, where the largest weight hides others") {
  const auto oracle = make_oracle(1);
  for (const u64 seed : {38, 118}) {  // in which heads of small weight are ranked as if it were 0
    RoutedCase drawn = draw_case(seed);
    drawn.workload.numbers = Numbers::hostile;
    drawn.odd_weights = drawn.odd_keys = drawn.equal_heads = false;
    if (!drawn.workload.paged) drawn.workload.rows = 3;
    CAPTURE(drawn.describe());
    KernelOnHost kernel(*oracle, drawn.num_sms);
    const Judged judged = std::get<Judged>(routed(kernel, *oracle, drawn, false));
    CHECK(judged.wrong == "");
    CHECK(judged.compared > 0);
  }
}

TEST_CASE("INT8 and MXFP4 queries are routed to a batch in bf16, with or without a linear head") {
  const auto oracle = make_oracle(1);
  for (u64 seed = 1; seed <= 4; ++seed) {
    RoutedCase drawn = draw_case(seed);
    drawn.workload.dtype = seed % 2 == 0 ? Dtype::int8 : Dtype::e2m1;
    drawn.workload.numbers = Numbers::normal;
    drawn.odd_keys = drawn.equal_heads = false;
    CAPTURE(drawn.describe());
    KernelOnHost kernel(*oracle, drawn.num_sms);
    const Judged judged = std::get<Judged>(routed(kernel, *oracle, drawn, false));
    CHECK(judged.wrong == "");
    CHECK(judged.compared > 0);
  }
}
