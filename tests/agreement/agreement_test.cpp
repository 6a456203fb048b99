#include "core/agreement/agreement.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/agreement/compare_sides.hpp"
#include "core/agreement/fault_injection.hpp"
#include "core/agreement/guarded_backend.hpp"
#include "core/agreement/judge.hpp"
#include "core/agreement/shrink.hpp"
#include "core/base/error.hpp"
#include "core/indexer/forwarding_backend.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/selection/golden.hpp"
#include "core/selection/selection_file.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/trace.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/temporary.hpp"
#include "tests/support/to_f16.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Field field_of(std::vector<double> scores, double bound) {
  Field field;
  for (std::size_t i = 0; i < scores.size(); ++i) field.ids.push_back(static_cast<i32>(i));
  field.bounds.assign(scores.size(), bound);
  field.scores = std::move(scores);
  return field;
}

Verdict verdict_of(const Field& field, std::vector<i32> chosen) { return judge(field, chosen).verdict; }

/// Contiguous FP8 rows over two sequences.
CaseOptions small_case(u64 seed) {
  CaseOptions options;
  options.seed = seed;
  options.rows = 6;
  options.heads = 8;
  options.dim = 64;
  options.dtype = Dtype::e4m3;
  options.contexts = {200, 300};
  return options;
}

CaseOptions small_paged_case(u64 seed) {
  CaseOptions options = small_case(seed);
  options.paged = true;
  options.next_n = 2;
  return options;
}

IndexerSettings small_settings() {
  IndexerSettings settings;
  settings.top_k = 20;
  settings.active_heads = 3;
  settings.candidates = 60;
  settings.blocks = 4;
  settings.block_size = 16;
  settings.samples = 128;
  return settings;
}

/// Both sides of a comparison of cpu with the oracle.
struct Sides {
  std::unique_ptr<Backend> cpu = make_backend("cpu", 2), oracle = make_backend("oracle", 2);
  Workload workload;
  IndexerSpec spec;
  ExactReference reference;
  Selection side, exact;

  Sides(const CaseOptions& options, const std::string& indexer, const IndexerSettings& settings = small_settings())
      : workload(draw_workload(options)), spec(make_indexer(indexer, settings)), reference(*oracle, workload) {
    const Placement placement(*cpu, workload);
    side = run_selection(*cpu, spec, placement.problem());
    exact = run_selection(*oracle, spec, reference.problem());
    exact.exact = true;
  }

  Agreement compare() { return compare_sides(reference, spec, side, exact); }
  std::span<i32> tokens(i64 m) {
    return side[Choice::tokens].span<i32>().subspan(static_cast<std::size_t>(m * spec.top_k),
                                                    static_cast<std::size_t>(spec.top_k));
  }
  const ChoiceAgreement& choice(const Agreement& agreement, Choice wanted) const {
    for (const ChoiceAgreement& one : agreement.choices) {
      if (one.choice == wanted) return one;
    }
    throw std::logic_error("not compared");
  }
};

/// The fault of the first violation in the tokens.
std::optional<Fault> fault_in_tokens(Sides& sides) {
  const Agreement agreement = sides.compare();
  const ChoiceAgreement& tokens = sides.choice(agreement, Choice::tokens);
  CHECK(conclude(agreement, 1000000).conclusion ==
        (tokens.violated > 0 ? Conclusion::failed : Conclusion::passed));  // no number of misses excuses a violation
  return tokens.violations.empty() ? std::nullopt : std::optional<Fault>(tokens.violations.front().fault);
}

}  // namespace

TEST_CASE("a choice is exact, a tie, within its bound or a miss") {
  const Field clear = field_of({5, 4, 3, 2, 1}, 0.1);
  CHECK(verdict_of(clear, {0, 1}) == Verdict::exact);
  CHECK(verdict_of(clear, {0, 2}) == Verdict::miss);
  CHECK(verdict_of(field_of({5, 4, 3.9, 2, 1}, 0.1), {0, 2}) == Verdict::within_bound);
  CHECK(verdict_of(field_of({5, 4, 3.79, 2, 1}, 0.1), {0, 2}) == Verdict::miss);
  const Field tied = field_of({5, 4, 4, 4, 1}, 0);
  CHECK(verdict_of(tied, {0, 1}) == Verdict::exact);
  CHECK(verdict_of(tied, {0, 3}) == Verdict::tie_swap);
  CHECK(verdict_of(tied, {0, 4}) == Verdict::miss);
  CHECK(verdict_of(field_of({0.0, -0.0, 0.0}, 0), {1}) == Verdict::tie_swap);
  CHECK(verdict_of(clear, {}) == Verdict::exact);
  CHECK(verdict_of(clear, {0, 1, 2, 3, 4}) == Verdict::exact);
}

TEST_CASE("NaN ranks below every number, and infinities are numbers") {
  CHECK(verdict_of(field_of({kNan, 1, 2}, 0), {1, 2}) == Verdict::exact);
  CHECK(verdict_of(field_of({kNan, 1, 2}, 0), {0, 2}) == Verdict::miss);
  CHECK(verdict_of(field_of({kNan, kNan, 2}, 0), {1, 2}) == Verdict::tie_swap);
  CHECK(verdict_of(field_of({kInfinity, 1, -kInfinity}, 0.5), {0, 1}) == Verdict::exact);
  CHECK(verdict_of(field_of({kInfinity, 1, -kInfinity}, 0.5), {1, 2}) == Verdict::miss);
}

TEST_CASE("a difference that only an infinite bound explains is unbounded, and others are judged beside it") {
  CHECK(verdict_of(field_of({1, 2, 3}, kInfinity), {0, 1}) == Verdict::unbounded);  // what overflows may be anything
  CHECK(verdict_of(field_of({1, 2, 3}, kNan), {0, 1}) == Verdict::unbounded);
  CHECK(verdict_of(field_of({1, 2, 3}, kInfinity), {1, 2}) == Verdict::exact);
  Field field = field_of({9, 8, 7, 6, 5}, 0.1);
  field.bounds[0] = kInfinity;
  CHECK(verdict_of(field, {1, 2}) == Verdict::unbounded);  // the first was passed over
  CHECK(verdict_of(field, {0, 3}) == Verdict::miss);       // that it belongs says nothing of the others
  CHECK(verdict_of(field, {1, 4}) == Verdict::miss);
  CHECK(judge(field, std::vector<i32>{1, 4}).misses.at(0).missed == 2);
  field = field_of({9, 8.05, 8, 6, 5}, 0.1);
  field.bounds[4] = kInfinity;
  CHECK(verdict_of(field, {0, 2}) == Verdict::within_bound);  // of the ids that differ, both bounds are finite
  CHECK(verdict_of(field, {0, 4}) == Verdict::unbounded);
  field = field_of({9, kNan, 8, 6}, 0.1);
  CHECK(verdict_of(field, {0, 1}) == Verdict::miss);  // certain
  field.bounds[1] = kInfinity;
  CHECK(verdict_of(field, {0, 1}) == Verdict::unbounded);  // a NaN of the formulas' own overflow
}

TEST_CASE("forced ids belong to a selection whatever others score, an infinity included") {
  Field field = field_of({1, kInfinity, 7, kInfinity, 6, 2}, 0.1);
  field.forced = {0, 5};
  CHECK(verdict_of(field, {0, 1, 5}) == Verdict::exact);
  CHECK(verdict_of(field, {0, 3, 5}) == Verdict::tie_swap);
  CHECK(verdict_of(field, {0, 2, 5}) == Verdict::miss);
  const Judgement dropped = judge(field, std::vector<i32>{0, 1, 3});
  REQUIRE(dropped.misses.size() == 1);
  CHECK(dropped.verdict == Verdict::miss);
  CHECK(dropped.misses[0].missed == 5);
  CHECK(dropped.misses[0].forced);
  CHECK(judge(field, std::vector<i32>{1, 2, 3}).misses.size() == 2);
  for (double& bound : field.bounds) bound = kInfinity;  // no bound excuses it
  CHECK(verdict_of(field, {0, 1, 3}) == Verdict::miss);
  CHECK(verdict_of(field, {0, 4, 5}) == Verdict::unbounded);
}

TEST_CASE("a backend that drops the last block because others score infinity is seen, and ours do not") {
  Workload workload;
  workload.q = HostTensor(Dtype::f32, {1, 1, 32});
  workload.q.span<float>()[0] = 1;
  workload.weights = HostTensor(Dtype::f32, {1, 1});
  workload.weights.span<float>()[0] = 1;
  workload.k = HostTensor(Dtype::f32, {64, 32});
  for (i64 token = 0; token < 64; ++token) {
    workload.k.span<float>()[static_cast<std::size_t>(32 * token)] =
        token / 8 % 2 == 1 && token < 56 ? std::numeric_limits<float>::infinity() : 1.0f;
  }
  workload.sequence = {0};
  workload.q_pos = {63};
  workload.ks = {0};
  workload.ke = {64};
  IndexerSettings settings = small_settings();
  settings.block_size = 8;
  settings.blocks = 3;  // of 8, of which 3 score infinity
  const IndexerSpec spec = make_indexer("hisa", settings);
  const auto cpu = make_backend("cpu", 1), oracle = make_backend("oracle", 1);
  ExactReference reference(*oracle, workload);
  Selection exact = run_selection(*oracle, spec, reference.problem());
  exact.exact = true;
  const Placement placement(*cpu, workload);
  Selection side = run_selection(*cpu, spec, placement.problem());
  const auto blocks = [](Selection& outcome) { return outcome[Choice::blocks].span<i32>(); };
  for (Selection* one : {&side, &exact}) {
    CHECK(std::vector<i32>(blocks(*one).begin(), blocks(*one).end()) == std::vector<i32>{0, 1, 7});
  }
  blocks(side)[2] = 3;
  const Agreement agreement = compare_sides(reference, spec, side, exact);
  CHECK(agreement.choices.at(0).count(Verdict::miss) == 1);
  CHECK(agreement.choices.at(0).misses.at(0).missed == 7);
  CHECK(agreement.choices.at(0).misses.at(0).forced);
}

TEST_CASE("misses are the fewest swaps that would set a choice right, each with its gap and rank") {
  const Judgement one = judge(field_of({9, 8, 7, 6, 5, 4}, 0.1), std::vector<i32>{0, 1, 5});
  REQUIRE(one.misses.size() == 1);
  CHECK(one.misses[0].missed == 2);
  CHECK(one.misses[0].taken == 5);
  CHECK(one.misses[0].rank == 2);
  CHECK(one.misses[0].to_last == 0);
  CHECK(one.misses[0].mass_lost == doctest::Approx(3.0 / 24));
  CHECK(one.misses[0].bound == doctest::Approx(0.2));
  CHECK(one.mass_lost == doctest::Approx(3.0 / 24));
  // One garbage id does not turn a swap that rounding explains into a second miss.
  const Judgement mixed = judge(field_of({9, 8.05, 8, 6, 5, -50}, 0.1), std::vector<i32>{0, 2, 5});
  CHECK(mixed.misses.size() == 1);
  CHECK(judge(field_of({9, 8, 7, 6, 5, 4}, 0.1), std::vector<i32>{3, 4, 5}).misses.size() == 3);
}

TEST_CASE("a bound that grows never makes a choice worse") {
  for (u64 seed = 1; seed <= 300; ++seed) {
    INFO("seed ", seed);
    Draw draw(seed);
    std::vector<double> scores;
    for (i64 n = draw.whole(1, 40); n > 0; --n) scores.push_back(draw.normal());
    std::vector<i32> chosen;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (draw.whole(0, 1) == 1) chosen.push_back(static_cast<i32>(i));
    }
    Verdict before = Verdict::unjudged;
    std::size_t misses = scores.size() + 1;
    for (const double bound : {0.0, 0.01, 0.1, 1.0, 10.0}) {
      const Judgement now = judge(field_of(scores, bound), chosen);
      CHECK(now.verdict <= before);
      CHECK(now.misses.size() <= misses);
      before = now.verdict;
      misses = now.misses.size();
    }
    CHECK(before <= Verdict::within_bound);
  }
}

TEST_CASE("each way of being no selection has its own name") {
  const auto with = [](bool paged, auto&& spoil) {
    Sides sides(paged ? small_paged_case(3) : small_case(3), "dsa");
    spoil(sides);
    return fault_in_tokens(sides);
  };
  CHECK(with(false, [](Sides&) {}) == std::nullopt);
  CHECK(with(false, [](Sides& s) { s.tokens(0)[1] = s.tokens(0)[0]; }) == Fault::duplicate);
  CHECK(with(false, [](Sides& s) { std::swap(s.tokens(0)[0], s.tokens(0)[1]); }) == Fault::order);
  CHECK(with(false, [](Sides& s) { s.tokens(0)[0] = -1; }) == Fault::padding);
  CHECK(with(false, [](Sides& s) { s.tokens(0)[0] = -7; }) == Fault::padding);
  CHECK(with(false, [](Sides& s) { s.tokens(0).back() = 100000; }) == Fault::out_of_range);
  CHECK(with(false, [](Sides& s) { s.tokens(0).back() = s.workload.ke[0] - s.workload.ks[0]; }) ==
        Fault::out_of_window);
  CHECK(with(false, [](Sides& s) { std::fill(s.tokens(5).begin() + 4, s.tokens(5).end(), -1); }) == Fault::truncated);
}

TEST_CASE("a token outside of the chosen blocks or candidates was never on offer") {
  for (const char* indexer : {"hisa", "misa-dagger"}) {
    Sides sides(small_case(4), indexer);
    const misa::ExactRow row = sides.reference.row(sides.spec, sides.side, 5, sides.side.arithmetic);
    const std::vector<i32>& offered = row.tokens.ids;
    const auto tokens = sides.tokens(5);
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const i32 next = tokens[i] + 1;
      if (next == tokens[i + 1] || std::binary_search(offered.begin(), offered.end(), next)) continue;
      tokens[i] = next;
      break;
    }
    CHECK(fault_in_tokens(sides) == Fault::not_offered);
  }
}

TEST_CASE("a token in a page that does not exist is unreachable") {
  Sides sides(small_paged_case(5), "dsa");
  class NoRun final : public ForwardingBackend {
   public:
    using ForwardingBackend::ForwardingBackend;
    std::string_view score(const ScoreTask&) override { return {}; }
  };
  const auto oracle = make_backend("oracle", 1);
  NoRun blind(*oracle);
  const i32 pages = static_cast<i32>(sides.workload.k_pages.shape[0]);
  // The side read a table that the workload, as it is, does not have.
  for (const i32 page : {-1, pages, pages - 1}) {
    CAPTURE(page);
    Workload broken = copy_of(sides.workload);
    const i64 column = sides.tokens(0)[0] / broken.page_size();
    broken.block_table.span<i32>()[static_cast<std::size_t>(column)] = page;
    // Norms of keys are taken by slot, so that such an entry is only met where it is looked for.
    ExactReference reference(blind, broken);
    constexpr std::array<Choice, 1> kTokens{Choice::tokens};
    const Agreement agreement = compare_sides(reference, sides.spec, sides.side, sides.side, kTokens);
    CHECK((agreement.choices.at(0).violated > 0) == (page != pages - 1));
    for (const Violation& violation : agreement.choices.at(0).violations) CHECK(violation.fault == Fault::unreachable);
  }
  // A table with too few columns: what follows in memory is another sequence's.
  const i64 sequences = sides.workload.block_table.shape[0], columns = sides.workload.block_table.shape[1];
  const i64 fewer = *std::max_element(sides.tokens(0).begin(), sides.tokens(0).end()) / sides.workload.page_size();
  REQUIRE(fewer > 0);
  Workload narrow = copy_of(sides.workload);
  narrow.block_table = HostTensor(Dtype::int32, {sequences, fewer});
  for (i64 s = 0; s < sequences; ++s) {
    std::copy_n(sides.workload.block_table.span<i32>().begin() + s * columns, fewer,
                narrow.block_table.span<i32>().begin() + s * fewer);
  }
  ExactReference reference(blind, narrow);
  constexpr std::array<Choice, 1> kTokens{Choice::tokens};
  const Agreement agreement = compare_sides(reference, sides.spec, sides.side, sides.side, kTokens);
  REQUIRE(agreement.choices.at(0).violated > 0);
  CHECK(agreement.choices.at(0).violations.at(0).row == 0);
  CHECK(agreement.choices.at(0).violations.at(0).fault == Fault::unreachable);
}

TEST_CASE("every mistake is seen in the stage that made it, on many workloads") {
  i64 seen = 0;
  for (u64 seed = 1; seed <= 12; ++seed) {
    for (const MistakeInfo& info : mistakes()) {
      CAPTURE(seed);
      CAPTURE(info.name);
      for (const std::string& indexer : indexer_names()) {
        if (!info.indexer.empty() && info.indexer != indexer) continue;
        CAPTURE(indexer);
        IndexerSettings settings = small_settings();
        if (info.mistake == Mistake::dropped_forced) settings.forced = {2, 5};
        Sides sides(info.paged || seed % 2 == 0 ? small_paged_case(seed) : small_case(seed), indexer, settings);
        const auto wrong = run_with_mistake(info.mistake, *sides.cpu, sides.spec, sides.reference);
        if (!wrong) continue;
        const Agreement agreement = compare_sides(sides.reference, sides.spec, *wrong, sides.exact);
        CHECK(conclude(agreement, 0).conclusion == Conclusion::failed);
        if (indexer != "dsa" && info.indexer.empty()) continue;  // may show in an earlier stage
        const ChoiceAgreement& choice = sides.choice(agreement, info.shows_in);
        CHECK(choice.count(info.verdict) > 0);
        if (info.fault) CHECK(choice.violations.at(0).fault == *info.fault);
        ++seen;
      }
    }
  }
  CHECK(seen > 60);
}

TEST_CASE("what heads are ranked by is the formula's, within its bound") {
  i64 infinite = 0, not_numbers = 0;
  for (u64 seed = 1; seed <= 192; ++seed) {
    CaseOptions options = seed % 2 == 0 ? small_paged_case(seed) : small_case(seed);
    options.dtype = std::vector<Dtype>{Dtype::e4m3, Dtype::bf16, Dtype::f32}[seed / 8 % 3];
    if (seed > 96) options.numbers = Numbers::hostile;
    const auto cpu = make_backend("cpu", 2), oracle = make_backend("oracle", 2);
    const Workload workload = draw_workload(options);
    IndexerSpec spec = make_indexer("misa", small_settings());
    spec.heads->router = routers()[seed % routers().size()].router;
    spec.heads->samples = 40;
    spec.heads->linear = samples_keys(spec.heads->router) && seed % 3 > 0;
    spec.block_window = seed / 24 % 2 == 0 ? BlockWindow::visible : BlockWindow::upstream;
    CAPTURE(options.describe());
    CAPTURE(router_name(spec.heads->router));

    std::vector<double> energies;
    PlanOptions plan_options;
    plan_options.after_chunk = [&](const ChunkScores& chunk) {
      const View<double, 2>& found = chunk.route->rank.energies;
      energies.insert(energies.end(), &found(0, 0), &found(0, 0) + found.size());
    };
    const Placement placement(*cpu, workload);
    const Selection outcome = run_selection(*cpu, spec, placement.problem());
    Plan plan(*cpu, spec, placement.problem(), plan_options);
    plan.run(nullptr);
    ExactReference reference(*oracle, workload);
    for (i64 m = 0; m < workload.rows(); ++m) {
      const Field heads = reference.row(spec, outcome, m, outcome.arithmetic).heads;
      for (std::size_t h = 0; h < heads.ids.size(); ++h) {
        const double found = energies[static_cast<std::size_t>(m * workload.heads()) + h];
        // What covariance ranks by is how much more a head costs than another.
        const bool two = spec.heads->router == Router::covariance;
        const double other = two ? *std::max_element(heads.bounds.begin(), heads.bounds.end()) : 0.0;
        const double bound = heads.bounds[h] + other;
        CHECK(bound >= 0);                    // not NaN
        if (two) CHECK(heads.bounds[h] > 0);  // a margin is known no better than the head that it is over
        infinite += std::isinf(bound) ? 1 : 0;
        not_numbers += std::isnan(heads.scores[h]) && std::isfinite(bound) ? 1 : 0;
        if (std::isinf(bound) || found == heads.scores[h] || (std::isnan(found) && std::isnan(heads.scores[h])))
          continue;
        CHECK(std::abs(found - heads.scores[h]) <= bound);
      }
    }
  }
  CHECK(infinite > 100);
  CHECK(not_numbers > 10);
}

TEST_CASE("one wrong head is one miss, and the tokens only follow") {
  Sides sides(small_case(7), "misa");
  const auto wrong = run_with_mistake(Mistake::wrong_head, *sides.cpu, sides.spec, sides.reference);
  REQUIRE(wrong);
  const Agreement agreement = compare_sides(sides.reference, sides.spec, *wrong, sides.exact);
  CHECK(agreement.missed() == 1);
  CHECK(sides.choice(agreement, Choice::heads).count(Verdict::miss) == 1);
  CHECK(sides.choice(agreement, Choice::tokens).count(Verdict::miss) == 0);
  CHECK(sides.choice(agreement, Choice::tokens).count(Verdict::follows) == 1);
}

TEST_CASE("tokens are judged on the candidates and blocks that their own side kept, right or wrong") {
  for (const std::string indexer : {"misa-dagger", "hisa"}) {
    CAPTURE(indexer);
    Sides sides(small_case(23), indexer);
    const i64 m = sides.workload.rows() - 1, k = sides.spec.top_k;
    const std::vector<double> scores = exact_row(sides.workload, m).score;
    const i64 visible = static_cast<i64>(scores.size()), size = indexer == "hisa" ? 16 : 1;
    HostTensor& kept = indexer == "hisa" ? sides.side[Choice::blocks] : sides.side[Choice::candidates];
    const i64 width = kept.shape[1];
    REQUIRE(visible > (width + 2) * size);

    // Without its second, and with the first that it lacks.
    const std::span<i32> ids =
        kept.span<i32>().subspan(static_cast<std::size_t>(m * width), static_cast<std::size_t>(width));
    i32 other = 0;
    while (std::binary_search(ids.begin(), ids.end(), other)) ++other;
    ids[1] = other;
    std::sort(ids.begin(), ids.end());
    std::vector<i32> tokens;
    for (i32 token = 0; token < visible; ++token) {
      if (std::binary_search(ids.begin(), ids.end(), static_cast<i32>(token / size))) tokens.push_back(token);
    }
    const auto score_of = [&](i32 token) { return scores[static_cast<std::size_t>(token)]; };
    std::stable_sort(tokens.begin(), tokens.end(), [&](i32 a, i32 b) { return score_of(a) > score_of(b); });
    tokens.resize(static_cast<std::size_t>(k));
    std::sort(tokens.begin(), tokens.end());
    CHECK(std::vector<i32>(sides.tokens(m).begin(), sides.tokens(m).end()) != tokens);
    std::copy(tokens.begin(), tokens.end(), sides.tokens(m).begin());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      sides.side[Choice::scores].span<float>()[static_cast<std::size_t>(m * k) + i] =
          static_cast<float>(score_of(tokens[i]));
    }
    const Agreement agreement = sides.compare();
    const ChoiceAgreement& chosen = sides.choice(agreement, Choice::tokens);
    CHECK(chosen.missed + chosen.violated == 0);
    CHECK(chosen.row_verdicts.back() == Verdict::follows);
    CHECK(sides.choice(agreement, Choice::scores).missed == 0);
  }
}

TEST_CASE(
    "either id's bound explains a gap, a linear query's rounding is half a step, and so many misses are excused") {
  CHECK(judge({.ids = {0, 1}, .scores = {1, 1.5}, .bounds = {0, 0.6}, .forced = {}}, std::vector<i32>{0}).verdict ==
        Verdict::within_bound);
  CHECK(judge({.ids = {0, 1}, .scores = {1, 1.5}, .bounds = {0.6, 0}, .forced = {}}, std::vector<i32>{0}).verdict ==
        Verdict::within_bound);
  const auto linear = [](std::vector<double> scores, std::vector<double> bounds, std::vector<float> found,
                         Dtype dtype) {
    Field field;
    field.scores = std::move(scores);
    field.bounds = std::move(bounds);
    return judge_linear(field, found, dtype).verdict;
  };
  CHECK(linear({448}, {403}, {288, 1.5f}, Dtype::e4m3) == Verdict::miss);  // no power of two
  CHECK(linear({448, 0.00097}, {1e-5, 1e-5}, {448, 0x1p-9f, 1}, Dtype::e4m3) == Verdict::within_bound);
  CHECK(linear({1}, {1e-6}, {1 + 0x1p-7f, 1}, Dtype::bf16) == Verdict::miss);
  Agreement agreement;
  agreement.choices.emplace_back();
  agreement.choices[0].rows = agreement.choices[0].missed = 1;
  agreement.choices[0].verdicts[static_cast<std::size_t>(Verdict::miss)] = 1;
  CHECK(conclude(agreement, 1).conclusion == Conclusion::passed);
  CHECK(conclude(agreement, 0).conclusion == Conclusion::failed);
  Sides sides(small_case(8), "dsa");
  sides.exact[Choice::scores].span<double>()[0] = kNan;
  CHECK(sides.choice(sides.compare(), Choice::scores).violated == 1);
}

TEST_CASE("what follows a violation is not judged, and a side of unknown arithmetic is not judged by bounds of 0") {
  Sides sides(small_case(29), "misa");
  const i64 kept = sides.side[Choice::heads].shape[1];
  REQUIRE(kept > 1);
  HostTensor heads = HostTensor::from(sides.side[Choice::heads].span<const i32>(), sides.side[Choice::heads].shape);
  sides.side[Choice::heads].span<i32>()[1] = sides.side[Choice::heads].span<i32>()[0];
  Agreement agreement = sides.compare();
  CHECK(sides.choice(agreement, Choice::heads).row_verdicts[0] == Verdict::violation);
  CHECK(sides.choice(agreement, Choice::tokens).row_verdicts[0] == Verdict::unjudged);
  CHECK(sides.choice(agreement, Choice::tokens).row_verdicts[1] != Verdict::unjudged);

  sides.side[Choice::heads] = std::move(heads);
  const std::span<i32> tokens = sides.tokens(sides.workload.rows() - 1);
  i32 other = 0;
  while (std::binary_search(tokens.begin(), tokens.end(), other)) ++other;
  tokens[0] = other;
  std::sort(tokens.begin(), tokens.end());
  CHECK(sides.choice(sides.compare(), Choice::tokens).row_verdicts.back() == Verdict::miss);
  sides.side.arithmetic.reset();
  agreement = sides.compare();
  CHECK(sides.choice(agreement, Choice::tokens).row_verdicts.back() == Verdict::unknown);
  CHECK(agreement.missed() == 0);
}

TEST_CASE("a linear query is judged number by number, on the heads that its own side kept") {
  for (const Dtype dtype : {Dtype::e4m3, Dtype::bf16, Dtype::f32}) {
    for (const Router router : {Router::linear_residual, Router::covariance}) {
      CaseOptions options = small_case(21);
      options.dtype = dtype;
      CAPTURE(dtype_name(dtype));
      CAPTURE(router_name(router));
      Sides sides(options, "misa-lr");
      sides.spec.heads->router = router;
      const Placement placement(*sides.cpu, sides.workload);
      sides.exact = run_selection(*sides.oracle, sides.spec, sides.reference.problem());
      sides.exact.exact = true;
      // Other heads than the router's: one difference, and the linear query of those that are left is right.
      HostTensor heads(Dtype::int32, {sides.workload.rows(), 1});
      for (i32& head : heads.span<i32>()) head = sides.exact[Choice::heads].span<i32>()[0] == 0 ? 1 : 0;
      const Follow other{View<const i32, 2>(heads.span<i32>().data(), {heads.shape[0], 1}), {}, {}};
      sides.side = run_selection(*sides.cpu, sides.spec, placement.problem(), {}, other);
      Agreement agreement = sides.compare();
      CHECK(sides.choice(agreement, Choice::heads).count(Verdict::miss) > 0);
      CHECK(sides.choice(agreement, Choice::linear).count(Verdict::follows) > 0);
      CHECK(sides.choice(agreement, Choice::linear).missed == 0);

      // A number that is off by more than its step, one that is off by less, a weight of another row.
      sides.side = run_selection(*sides.cpu, sides.spec, placement.problem());
      CHECK(conclude(sides.compare(), 0).conclusion == Conclusion::passed);
      const i64 width = sides.side[Choice::linear].shape[1];
      for (const i64 column : {i64{3}, width - 1}) {
        CAPTURE(column);
        float& number = sides.side[Choice::linear].span<float>()[static_cast<std::size_t>(2 * width + column)];
        const float right = number;
        number *= 2;
        agreement = sides.compare();
        CHECK(sides.choice(agreement, Choice::linear).count(Verdict::miss) == 1);
        CHECK(sides.choice(agreement, Choice::linear).misses.at(0).row == 2);
        CHECK(sides.choice(agreement, Choice::linear).misses.at(0).missed == column);
        number = right;
      }
    }
  }
}

TEST_CASE("sampled keys in f16 are explained by the arithmetics that allow them, and other rows' queries are not") {
  /// The cpu with pooled and sampled keys rounded to f16, as Hopper's tensor cores take them.
  class Rounded final : public ForwardingBackend {
   public:
    using ForwardingBackend::ForwardingBackend;
    std::optional<Arithmetic> arithmetic(const Shape& shape) const override {
      return find_arithmetic(shape.dtype == Dtype::e4m3 ? "fp8-mma" : "bf16-mma");
    }
    std::string_view pool(const PoolTask& task) override {
      const std::string_view kernel = inner_.pool(task);
      for (i64 p = 0; p < task.means.shape[0]; ++p) {
        for (i64 d = 0; d < task.means.shape[1]; ++d) task.means(p, d) = to_float(to_f16(task.means(p, d)));
      }
      return kernel;
    }
  };
  i64 differing = 0, seen = 0;
  for (u64 seed = 1; seed <= 60; ++seed) {
    CaseOptions options = small_case(seed);
    options.dtype = seed % 3 == 0 ? Dtype::f32 : Dtype::e4m3;
    options.heads = seed % 5 == 0 ? 32 : 8;
    CAPTURE(options.describe());
    const auto oracle = make_backend("oracle", 2), cpu = make_backend("cpu", 2);
    Rounded rounded(*cpu);
    Workload workload = draw_workload(options);
    Draw draw(seed);  // scales that are no powers of two: keys that f16 does not hold
    for (float& scale : workload.k_scale.span<float>()) scale *= 1 + 0.1f * std::abs(draw.normal());
    IndexerSettings settings = small_settings();
    settings.samples = 60;
    settings.router = seed % 4 < 2 ? Router::covariance : Router::linear_residual;
    CAPTURE(router_name(*settings.router));
    const IndexerSpec spec = make_indexer("misa-lr", settings);
    ExactReference reference(*oracle, workload);
    Selection exact = run_selection(*oracle, spec, reference.problem());
    exact.exact = true;
    const Placement placement(rounded, workload);
    const Agreement agreement =
        compare_sides(reference, spec, run_selection(rounded, spec, placement.problem()), exact);
    CHECK(conclude(agreement, 0).conclusion == Conclusion::passed);
    differing += agreement.choices.at(1).rows - agreement.choices.at(1).count(Verdict::exact);
    const auto wrong = run_with_mistake(Mistake::stale_linear, rounded, spec, reference);
    REQUIRE(wrong);
    if (conclude(compare_sides(reference, spec, *wrong, exact), 0).conclusion == Conclusion::failed) ++seen;
  }
  CHECK(differing > 20);
  CHECK(seen > 55);
}

TEST_CASE("what a backend rounds from numbers within their bounds is no miss, whatever it is stored in") {
  for (u64 seed = 1; seed <= 300; ++seed) {
    Draw draw(seed);
    const Dtype dtype = draw.one_of<Dtype>({Dtype::e4m3, Dtype::bf16, Dtype::f32});
    const double bound = std::ldexp(1.0, -static_cast<int>(draw.whole(8, 30)));
    INFO("seed ", seed, ", bound ", bound);
    std::vector<double> exact, moved;
    for (int d = 0; d < 64; ++d) {
      exact.push_back(draw.normal());
      moved.push_back(exact.back() + draw.one_of<double>({-0.99, 0, 0.99}) * bound);
    }
    CHECK(judge_linear(field_of(exact, bound), round_linear_query(moved, dtype), dtype).misses.empty());
  }
}

TEST_CASE("the bound of a linear query is far below the step of its codes") {
  Sides sides(small_case(22), "misa-lr");
  const Field field = sides.reference.row(sides.spec, sides.side, 5, sides.side.arithmetic).linear;
  REQUIRE(field.scores.size() == static_cast<std::size_t>(sides.workload.head_dim()));
  double size = 0, bound = 0;
  for (std::size_t d = 0; d < field.scores.size(); ++d) {
    size = std::max(size, std::abs(field.scores[d]));
    bound = std::max(bound, field.bounds[d]);
  }
  CHECK(bound > 0);
  CHECK(bound < 0x1p-6 * size);
}

TEST_CASE("a difference that only an unknown arithmetic could explain is not a pass") {
  Sides sides(small_case(8), "dsa");
  CHECK(conclude(sides.compare(), 0).conclusion == Conclusion::passed);
  sides.side.arithmetic.reset();
  const Agreement agreement = sides.compare();
  CHECK(sides.choice(agreement, Choice::tokens).count(Verdict::exact) == sides.workload.rows());
  CHECK(sides.choice(agreement, Choice::scores).count(Verdict::unknown) > 0);
  CHECK(conclude(agreement, 0).conclusion == Conclusion::inconclusive);
}

TEST_CASE("nothing compared never passes") {
  Sides sides(small_case(9), "dsa");
  constexpr std::array<Choice, 1> kHeads{Choice::heads};
  CHECK(conclude(compare_sides(sides.reference, sides.spec, sides.side, sides.exact, kHeads), 0).conclusion ==
        Conclusion::nothing);
  sides.exact[Choice::scores] = {};
  const Agreement agreement = sides.compare();
  CHECK(sides.choice(agreement, Choice::scores).rows == 0);
  CHECK(sides.choice(agreement, Choice::scores).reason == "oracle has none");
}

namespace {

/// cpu against the formulas on a workload.
Agreement agreement_on(const Workload& workload, const IndexerSpec& spec, bool with_scores = true,
                       std::span<const Choice> choices = kChoices) {
  const auto cpu = make_backend("cpu", 2), oracle = make_backend("oracle", 2);
  ExactReference reference(*oracle, workload);
  Selection exact = run_selection(*oracle, spec, reference.problem());
  exact.exact = true;
  const Placement placement(*cpu, workload);
  Selection side = run_selection(*cpu, spec, placement.problem());
  if (!with_scores) side[Choice::scores] = {};
  return compare_sides(reference, spec, side, exact, choices);
}

}  // namespace

TEST_CASE("agreement says nothing only when everything on offer scores 0, with and without scores to look at") {
  for (const IndexerInfo& info : indexers()) {
    CAPTURE(info.name);
    const IndexerSpec spec = make_indexer(info.name, small_settings());
    Workload workload = draw_workload(small_case(9));
    for (const bool with_scores : {true, false}) {
      CHECK_FALSE(agreement_on(workload, spec, with_scores).all_zero);
    }
    // One head of negative gate: what is selected scores 0, and most others below.
    Workload negative = copy_of(workload);
    for (float& weight : negative.weights.span<float>()) weight = -std::abs(weight);
    for (const bool with_scores : {true, false}) {
      const Agreement agreement = agreement_on(negative, spec, with_scores);
      CHECK_FALSE(agreement.all_zero);
      CHECK(conclude(agreement, 0).conclusion == Conclusion::passed);
    }
    for (float& weight : workload.weights.span<float>()) weight = 0;
    for (const bool with_scores : {true, false}) {
      const Agreement agreement = agreement_on(workload, spec, with_scores);
      CHECK(agreement.all_zero);
      CHECK(conclude(agreement, 0).conclusion == Conclusion::nothing);
    }
  }
  // One head, so that its rows keep tokens of score 0 alone: the right ones of more than there are places for.
  CaseOptions options = small_case(17);
  options.heads = 1;
  Workload one = draw_workload(options);
  for (float& weight : one.weights.span<float>()) weight = -std::abs(weight);
  const IndexerSpec spec = make_indexer("dsa", small_settings());
  const auto cpu = make_backend("cpu", 1);
  const Placement placement(*cpu, one);
  const Selection side = run_selection(*cpu, spec, placement.problem());
  i64 others = 0;
  for (i64 i = 0; i < side[Choice::scores].size(); ++i) others += score_at(side[Choice::scores], i) != 0 ? 1 : 0;
  CHECK(others < side[Choice::scores].size() / 2);
  CHECK_FALSE(agreement_on(one, spec).all_zero);
}

TEST_CASE("rows that see no token are empty, and compare nothing when there are no others") {
  for (const IndexerInfo& info : indexers()) {
    CAPTURE(info.name);
    const IndexerSpec spec = make_indexer(info.name, small_settings());
    CaseOptions options = small_paged_case(16);
    options.contexts = {0, 0};
    const Concluded nothing = conclude(agreement_on(draw_workload(options), spec), 0);
    CHECK(nothing.conclusion == Conclusion::nothing);
    CHECK(nothing.why == "no row sees a token");
    options.contexts = {0, 150};
    const Agreement some = agreement_on(draw_workload(options), spec);
    CHECK(conclude(some, 0).conclusion == Conclusion::passed);
    for (const ChoiceAgreement& choice : some.choices) {
      CHECK(choice.rows == 4);
      CHECK(choice.count(Verdict::empty) == 2);
      CHECK(choice.trivial == 0);
    }
  }
}

TEST_CASE("a row that sees no token and selects one is a violation") {
  CaseOptions options = small_paged_case(16);
  options.contexts = {0, 150};
  Sides sides(options, "dsa");
  sides.tokens(0)[0] = 3;
  CHECK(fault_in_tokens(sides) == Fault::out_of_window);
}

TEST_CASE("rows without a finite bound pass only beside rows that have one") {
  CaseOptions options = small_case(18);
  options.dtype = Dtype::f32;
  options.rows = 4;
  options.contexts = {200};
  const IndexerSpec spec = make_indexer("dsa", small_settings());
  const auto with_huge_queries = [&](i64 rows) {
    Workload workload = draw_workload(options);
    std::fill(workload.ke.begin(), workload.ke.end(), 200);
    const i64 row = workload.q.size() / workload.rows();
    for (i64 i = 0; i < rows * row; ++i) workload.q.span<float>()[static_cast<std::size_t>(i)] *= 1e38f;
    return agreement_on(workload, spec);
  };
  const Agreement some = with_huge_queries(2), all = with_huge_queries(4);
  CHECK(some.choices.at(0).count(Verdict::unbounded) == 2);
  CHECK(some.missed() == 0);
  CHECK(conclude(some, 0).conclusion == Conclusion::passed);
  CHECK(all.choices.at(0).count(Verdict::unbounded) == 4);
  CHECK(conclude(all, 0).conclusion == Conclusion::inconclusive);
  CHECK(conclude(all, 0).why.find("tokens") != std::string::npos);
}

TEST_CASE("a score may be off by the sum of both sides' bounds, and by no more") {
  Sides sides(small_case(19), "dsa");
  const Bounds& bounds = sides.reference.bounds();
  const Problem& problem = sides.reference.problem();
  const auto token = static_cast<i64>(sides.tokens(5)[0]);
  double bound = 0;
  for (const char* name : {"f32-dot", "f64"}) {
    bound += bounds.score(*find_arithmetic(name), 5, {}, {}, bounds.key(problem.sequence[5], problem.begin[5] + token));
  }
  const std::size_t at = static_cast<std::size_t>(5 * sides.spec.top_k);
  sides.side[Choice::scores] = HostTensor(Dtype::f64, {sides.workload.rows(), sides.spec.top_k});
  const auto verdict_at = [&](double distance) {
    std::copy_n(sides.exact[Choice::scores].span<double>().begin(), sides.side[Choice::scores].size(),
                sides.side[Choice::scores].span<double>().begin());
    sides.side[Choice::scores].span<double>()[at] += distance * bound;
    const ChoiceAgreement scores = sides.choice(sides.compare(), Choice::scores);
    return scores.count(Verdict::miss) == 1           ? Verdict::miss
           : scores.count(Verdict::within_bound) == 1 ? Verdict::within_bound
                                                      : Verdict::exact;
  };
  CHECK(verdict_at(0) == Verdict::exact);
  CHECK(verdict_at(0.99) == Verdict::within_bound);
  CHECK(verdict_at(1.01) == Verdict::miss);
  CHECK(verdict_at(-1.01) == Verdict::miss);
}

TEST_CASE("no row is within its bound where a product that decides it may overflow") {
  i64 unbounded = 0;
  for (u64 seed = 1; seed <= 400; ++seed) {
    CaseOptions options = small_case(seed);
    options.dtype = seed % 2 == 0 ? Dtype::f32 : Dtype::bf16;
    options.numbers = Numbers::hostile;
    options.contexts = {60};
    CAPTURE(options.describe());
    Sides sides(options, "dsa");
    const ChoiceAgreement tokens = sides.choice(sides.compare(), Choice::tokens);
    const i64 k = sides.spec.top_k, heads = options.heads, dim = options.dim;
    for (i64 m = 0; m < options.rows; ++m) {
      const auto row = [&](const Selection& one) {
        const auto ids =
            one[Choice::tokens].span<const i32>().subspan(static_cast<std::size_t>(m * k), static_cast<std::size_t>(k));
        return std::vector<i32>(ids.begin(), std::find(ids.begin(), ids.end(), -1));
      };
      const std::vector<i32> mine = row(sides.side), right = row(sides.exact);
      std::vector<i32> different;
      std::set_symmetric_difference(mine.begin(), mine.end(), right.begin(), right.end(),
                                    std::back_inserter(different));
      // The products of one head and their sum, by the numbers themselves.
      const bool overflows = std::any_of(different.begin(), different.end(), [&](i32 token) {
        for (i64 h = 0; h < heads; ++h) {
          double sum = 0;
          for (i64 d = 0; d < dim; ++d) {
            sum += std::abs(
                value_at(sides.workload.q, (m * heads + h) * dim + d) *
                value_at(sides.workload.k, (sides.workload.ks[static_cast<std::size_t>(m)] + token) * dim + d));
          }
          if (sum > std::numeric_limits<float>::max()) return true;
        }
        return false;
      });
      if (!overflows) continue;
      ++unbounded;
      CHECK(tokens.row_verdicts[static_cast<std::size_t>(m)] != Verdict::within_bound);
      CHECK(tokens.row_verdicts[static_cast<std::size_t>(m)] != Verdict::miss);
    }
  }
  CHECK(unbounded > 100);
}

TEST_CASE("numbers of a linear query whose bound is infinite are unbounded, and the others are judged") {
  for (const Dtype dtype : {Dtype::e4m3, Dtype::bf16, Dtype::f32}) {
    CAPTURE(dtype_name(dtype));
    Field field = field_of({1, 2, -3, 0.5}, 1e-6);
    std::vector<float> linear = round_linear_query(field.scores, dtype);
    CHECK(judge_linear(field, linear, dtype).verdict == Verdict::exact);
    field.bounds[2] = kInfinity;
    CHECK(judge_linear(field, linear, dtype).verdict == Verdict::exact);
    linear[2] *= 2;
    CHECK(judge_linear(field, linear, dtype).verdict == Verdict::unbounded);
    linear[0] *= 2;
    const Judgement judgement = judge_linear(field, linear, dtype);
    CHECK(judgement.verdict == Verdict::miss);
    REQUIRE(judgement.misses.size() == 1);
    CHECK(judgement.misses[0].missed == 0);
  }
}

TEST_CASE("following its own choices, a plan chooses what it chose") {
  for (const char* indexer : {"misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger"}) {
    Sides sides(small_case(10), indexer);
    const Placement placement(*sides.cpu, sides.workload);
    Plan plan(*sides.cpu, sides.spec, placement.problem());
    plan.run(nullptr);
    Follow follow{plan.heads(), plan.blocks(), plan.candidates()};
    if (!sides.side[Choice::linear].empty()) {
      follow.linear = View<const float, 2>(sides.side[Choice::linear].span<const float>().data(),
                                           {sides.side[Choice::linear].shape[0], sides.side[Choice::linear].shape[1]});
    }
    const Selection again = run_selection(*sides.cpu, sides.spec, placement.problem(), {}, follow);
    const auto same = [](const HostTensor& a, const HostTensor& b) {
      return a.bytes() == b.bytes() && (a.bytes() == 0 || std::memcmp(a.storage.data(), b.storage.data(),
                                                                      static_cast<std::size_t>(a.bytes())) == 0);
    };
    CHECK(same(again[Choice::linear], sides.side[Choice::linear]));
    CHECK(same(again[Choice::scores], sides.side[Choice::scores]));
    CHECK(same(again[Choice::tokens], sides.side[Choice::tokens]));
    CHECK(same(again[Choice::heads], sides.side[Choice::heads]));
    CHECK(same(again[Choice::candidates], sides.side[Choice::candidates]));
  }
}

TEST_CASE("a golden is read back as it was, and refused where it was not made") {
  const TemporaryPath file;
  const std::string& path = file.path;
  for (const std::string& indexer : indexer_names()) {
    Sides sides(small_case(11), indexer);
    write_golden(path, sides.workload, sides.spec, sides.side, {{"backend", "cpu"}});
    const Selection read = read_golden(path, sides.workload, sides.spec);
    CHECK(golden_metadata(path).at("indexer") == indexer);
    REQUIRE(read.arithmetic);
    CHECK(read.arithmetic->name == "f32-dot");
    const Agreement agreement = compare_sides(sides.reference, sides.spec, sides.side, read);
    CHECK(agreement.count(Verdict::exact) == agreement.rows());
    CHECK(agreement.rows() > 0);

    const auto refused = [&](const Workload& workload, const IndexerSpec& spec) {
      try {
        read_golden(path, workload, spec);
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::input);
        return error.id();
      }
      return std::string();
    };
    Workload other = copy_of(sides.workload);
    other.weights.span<float>()[0] += 1;
    CHECK(refused(other, sides.spec) == "MP-E603");
    IndexerSpec fewer = sides.spec;
    fewer.top_k = 19;
    CHECK(refused(sides.workload, fewer) == "MP-E604");
  }
  Sides sides(small_case(11), "dsa");
  Selection plain;
  plain[Choice::tokens] = sides.side[Choice::tokens].copy();
  write_selection(path, sides.workload, plain, {});
  CHECK_THROWS_WITH_AS(read_golden(path, sides.workload, sides.spec), doctest::Contains("golden"), Error);
  write_selection(path, sides.workload, plain, {{"golden", "misa-golden/9"}});
  CHECK_THROWS_WITH_AS(read_golden(path, sides.workload, sides.spec), doctest::Contains("misa-golden/9"), Error);
}

TEST_CASE("the hash of the inputs depends on every input and on no name") {
  const Workload workload = draw_workload(small_case(12));
  const std::string hash = input_hash(workload);
  Workload same = copy_of(workload);
  same.name = "another";
  same.metadata["layer"] = "7";
  CHECK(input_hash(same) == hash);
  const auto changed = [&](auto&& change) {
    Workload other = copy_of(workload);
    change(other);
    return input_hash(other) != hash;
  };
  CHECK(changed([](Workload& one) { one.q.storage.data()[17] ^= std::byte{1}; }));
  CHECK(changed([](Workload& one) { one.weights.span<float>()[3] *= 2; }));
  CHECK(changed([](Workload& one) { one.k.storage.data()[one.k.bytes() - 1] ^= std::byte{1}; }));
  CHECK(changed([](Workload& one) { one.k_scale.span<float>()[0] *= 2; }));
  CHECK(changed([](Workload& one) { ++one.ks[0]; }));
  CHECK(changed([](Workload& one) { --one.ke[1]; }));
}

TEST_CASE("memory of a device that has failed is given back in peace") {
  struct Failed final : ForwardingBackend {
    using ForwardingBackend::ForwardingBackend;
    void download(std::byte* /*to*/, const std::byte* /*from*/, i64 /*bytes*/) override {
      throw Error(ErrorKind::runtime, "MP-E510", "an illegal memory access was encountered");
    }
  };
  const auto cpu = make_backend("cpu", 1);
  Failed failed(*cpu);
  GuardedBackend guarded(failed);
  { const Buffer released(guarded, 64); }
  const Buffer kept(guarded, 64);
  CHECK_THROWS_AS(guarded.overwritten(), Error);
}

TEST_CASE("guards see a byte written beside an allocation, and memory starts out as garbage") {
  const auto cpu = make_backend("cpu", 1);
  GuardedBackend guarded(*cpu);
  {
    const Buffer buffer(guarded, 40);
    CHECK(std::isnan(buffer.as<float>()[0]));
    CHECK(std::isnan(buffer.as<float>()[9]));
    CHECK(guarded.overwritten() == 0);
    buffer.data()[40] = std::byte{0};
    buffer.data()[-1] = std::byte{0};
    CHECK(guarded.overwritten() == 2);
  }
  CHECK(guarded.overwritten() == 2);
}

TEST_CASE("runs in guarded memory write nothing beside it and choose the same") {
  for (u64 seed = 1; seed <= 6; ++seed) {
    for (const std::string& indexer : indexer_names()) {
      Sides sides(seed % 2 == 0 ? small_paged_case(seed) : small_case(seed), indexer);
      GuardedBackend guarded(*sides.cpu);
      const Placement placement(guarded, sides.workload);
      sides.side = run_selection(guarded, sides.spec, placement.problem());
      CHECK(guarded.overwritten() == 0);
      CHECK(conclude(sides.compare(), 0).conclusion == Conclusion::passed);
    }
  }
}

TEST_CASE("keys that no row sees may hold anything") {
  for (const bool paged : {false, true}) {
    for (const std::string& indexer : indexer_names()) {
      Sides sides(paged ? small_paged_case(13) : small_case(13), indexer);
      Workload poisoned = copy_of(sides.workload);
      CHECK(poison_unseen(poisoned) > 0);
      CHECK(input_hash(poisoned) != input_hash(sides.workload));
      const Placement placement(*sides.cpu, poisoned);
      sides.side = run_selection(*sides.cpu, sides.spec, placement.problem());
      const Agreement agreement = sides.compare();
      CHECK(agreement.missed() + agreement.violated() == 0);
    }
  }
}

TEST_CASE("part of a workload is a workload, and chooses what its rows chose") {
  for (const bool paged : {false, true}) {
    Sides sides(paged ? small_paged_case(14) : small_case(14), "dsa");
    const std::vector<i64> rows = paged ? std::vector<i64>{2, 3} : std::vector<i64>{1, 4, 5};
    std::vector<i64> heads(8);
    std::iota(heads.begin(), heads.end(), i64{0});
    const Workload part = take(sides.workload, rows, heads, 1000000);
    CHECK_NOTHROW(check_workload(part, "part"));
    const Chosen whole = choose(*sides.cpu, sides.workload, sides.spec), chosen = choose(*sides.cpu, part, sides.spec);
    for (std::size_t i = 0; i < rows.size(); ++i) CHECK(chosen.row(static_cast<i64>(i)) == whole.row(rows[i]));

    const Workload tiny = take(sides.workload, rows, std::vector<i64>{3}, 5);
    CHECK_NOTHROW(check_workload(tiny, "tiny"));
    CHECK(tiny.heads() == 1);
    CHECK(tiny.keys() <= (paged ? sides.workload.page_size() : 15));
  }
}

TEST_CASE("shrinking ends at the rows, heads and tokens that a failure needs") {
  for (const bool paged : {false, true}) {
    const Workload workload = draw_workload(paged ? small_paged_case(15) : small_case(15));
    const auto needs = [](const Workload& part) {
      i64 longest = 0;
      for (std::size_t m = 0; m < part.ks.size(); ++m) longest = std::max<i64>(longest, part.ke[m] - part.ks[m]);
      return longest >= 37 && part.heads() >= 2;
    };
    const Workload small = shrink(workload, needs);
    CHECK(needs(small));
    CHECK(small.rows() == (paged ? 2 : 1));
    CHECK(small.heads() == 2);
    i64 longest = 0;
    for (std::size_t m = 0; m < small.ks.size(); ++m) longest = std::max<i64>(longest, small.ke[m] - small.ks[m]);
    CHECK(longest == 37);
    CHECK_NOTHROW(check_workload(small, "small"));
  }
}
