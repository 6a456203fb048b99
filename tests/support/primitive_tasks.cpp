#include "tests/support/primitive_tasks.hpp"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <stdexcept>

#include "core/agreement/compare_sides.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/select_rows.hpp"

namespace misa::testing {
namespace {

Windows place_ranges(On& on, const Ranges& ranges) {
  const i64 count = std::ssize(ranges.begin);
  return {on.place<i32, 1>(ranges.sequence, {count}), on.place<i32, 1>(ranges.begin, {count}),
          on.place<i32, 1>(ranges.end, {count})};
}

bool same_number(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

/// Compares a number with the exact one, from which it may be off by `bound`.
void compare(Judged& judged, double found, double exact, double bound, const auto& place) {
  ++judged.compared;
  if (std::isinf(bound)) {
    ++judged.unbounded;
  } else if (!same_number(found, exact) && !(std::abs(found - exact) <= bound) && judged.wrong.empty()) {
    judged.wrong = fmt::format("{} is {}, expected {} to within {}", place(), found, exact, bound);
  }
}

class Pool final : public PlacedTask {
 public:
  Pool(Backend& backend, Workload workload, const Ranges& ranges, i64 turns_)
      : PlacedTask(backend),
        workload_(std::move(workload)),
        placement_(backend, workload_),
        ranges_(place_ranges(on_, ranges)),
        each_(std::ssize(ranges.begin) / turns_),
        means_(on_.make<float, 2>({std::ssize(ranges.begin), workload_.head_dim()})) {
    turns = turns_;
    if (each_ % 2 == 0) return;
    for (i64 p = each_; p-- > 0;) places_.push_back(static_cast<i32>(p));
    placed_ = on_.place<i32, 1>(places_, {each_});
  }
  std::string_view run(i64 turn) override { return backend_.pool(task(turn)); }
  Outputs outputs() override {
    Outputs found = signed_outputs(backend_.arithmetic(placement_.problem().shape));
    const std::vector<float> means = on_.fetch(task(0).means);
    found.numbers.assign(means.begin(), means.end());
    return found;
  }
  Judged judge(const Outputs& found, const Outputs& exact) override {
    const Arithmetic a = *found.choices.arithmetic;
    const PoolTask task = this->task(0);
    Judged judged;
    for (i64 p = 0; p < each_; ++p) {
      const i64 place = places_.empty() ? p : places_[static_cast<std::size_t>(p)];
      std::size_t at = static_cast<std::size_t>(place * task.means.shape[1]);
      const i64 begin = ranges_.begin[p], end = ranges_.end[p];
      const double count = static_cast<double>(std::max<i64>(1, end - begin)), operations = count + 2;
      for (i64 d = 0; d < task.means.shape[1]; ++d, ++at) {
        double size = 0;  // the mean of magnitudes
        for (i64 token = begin; token < end; ++token) size += magnitude(task.keys, ranges_.sequence[p], token, d);
        // Both means are stored in f32.
        const double bound = size * operations * a.pool / count + std::abs(exact.numbers[at]) * 0x1p-23 +
                             operations * a.underflow + 0x1p-149;
        compare(judged, found.numbers[at], exact.numbers[at], size > a.overflow ? INFINITY : bound,
                [&] { return fmt::format("dimension {} of mean {}", d, p); });
      }
    }
    return judged;
  }

 private:
  PoolTask task(i64 turn) const {
    return {placement_.problem().keys, slice(ranges_, turn * each_, each_), means_.slice(turn * each_, each_), placed_};
  }
  static double magnitude(const KeyCache& keys, i64 sequence, i64 token, i64 d) {
    return std::visit(
        [&](const auto& values) {
          const TokenAddress at = address_of(keys, values.shape[1], sequence, token);
          const double scale = keys.scales.empty() ? 1.0 : keys.scales(at.page, at.slot);
          return std::abs(scale * to_float(values(at.page, at.slot, d)));
        },
        keys.values);
  }

  Workload workload_;
  Placement placement_;
  Windows ranges_;
  i64 each_;
  View<float, 2> means_;
  std::vector<i32> places_;  ///< an odd number of means is written backwards
  View<const i32, 1> placed_;
};

class Score final : public PlacedTask {
 public:
  Score(Backend& backend, Workload workload, const Listed& listed, i64 turns_)
      : PlacedTask(backend),
        workload_(std::move(workload)),
        placement_(backend, workload_),
        each_(workload_.rows() / turns_),
        logits_(on_.logits(each_, listed.count > 0 ? listed.count * listed.length
                                                   : std::max<i64>(1, placement_.problem().shape.max_window))) {
    turns = turns_;
    if (listed.count > 0) {
      candidates_ = Candidates{on_.place<i32, 2>(listed.runs, {workload_.rows(), listed.count}),
                               placement_.problem().windows.begin, listed.length};
    }
  }
  std::string_view run(i64 turn) override {
    const Problem& problem = placement_.problem();
    return backend_.score({slice(problem.queries, turn * each_, each_), problem.keys,
                           slice(problem.windows, turn * each_, each_), candidates_, logits_});
  }
  Outputs outputs() override {
    Outputs found = signed_outputs(backend_.arithmetic(placement_.problem().shape));
    found.numbers = on_.fetch_logits(logits_);
    return found;
  }
  Judged judge(const Outputs& found, const Outputs& exact) override {
    const Problem& problem = placement_.problem();
    const Bounds bounds(problem);
    // Means of narrow keys, each of one token.
    const bool means = workload_.k.dtype == Dtype::f32 && problem.shape.dtype != Dtype::f32 && !workload_.paged();
    Judged judged;
    const i64 columns = std::ssize(found.numbers) / std::max<i64>(1, each_);
    for (i64 m = 0; m < each_; ++m) {
      for (i64 c = 0; c < columns; ++c) {
        const std::size_t at = static_cast<std::size_t>(m * columns + c);
        const i64 token = visible_token(problem.windows, candidates_, m, c);
        double bound = 0;
        for (const Outputs* side : {&found, &exact}) {
          const Arithmetic& a = *side->choices.arithmetic;
          if (token < 0) continue;
          bound += means ? bounds.block_score(a, m, token, token + 1)
                         : bounds.score(a, m, {}, {}, bounds.key(problem.sequence[static_cast<std::size_t>(m)], token));
        }
        compare(judged, found.numbers[at], exact.numbers[at], bound,
                [&] { return fmt::format("column {} of row {} of {}", c, m, workload_.name); });
      }
    }
    return judged;
  }

 private:
  Workload workload_;
  Placement placement_;
  i64 each_;
  Logits logits_;
  std::optional<Candidates> candidates_;
};

class Select final : public PlacedTask {
 public:
  Select(Backend& backend, SelectCase from)
      : PlacedTask(backend), from_(std::move(from)), task_(place_task(on_, from_)) {}
  std::string_view run(i64 /*turn*/) override { return backend_.select(task_); }
  Outputs outputs() override {
    Outputs found = signed_outputs({});
    found.choices[Choice::tokens] = fetch_ids(backend_, task_.selected);
    return found;
  }
  Judged judge(const Outputs& found, const Outputs& exact) override {
    if (sorted_.empty()) sorted_ = sorted_selection(from_);
    Judged judged{.compared = from_.rows};
    for (const Outputs* side : {&found, &exact}) {
      const auto selected = side->choices[Choice::tokens].span<const i32>();
      const i64 at = std::mismatch(sorted_.begin(), sorted_.end(), selected.begin()).first - sorted_.begin();
      if (at == std::ssize(sorted_)) continue;
      const std::size_t place = static_cast<std::size_t>(at);
      judged.wrong = fmt::format("place {} of row {} of {} holds {}, expected {}", at % from_.k, at / from_.k,
                                 side->choices.name, selected[place], sorted_[place]);
    }
    return judged;
  }

 private:
  SelectCase from_;
  SelectTask task_;
  std::vector<i32> sorted_;  ///< what a sort selects
};

/// Queries and then weights.
std::vector<double> fetch_batch(On& on, const GatherTask& task) {
  std::vector<double> numbers;
  std::visit(
      [&](const auto& view) {
        if constexpr (!std::is_same_v<Element<decltype(view)>, Mxfp4>) {  // no batch is
          for (const auto value : on.fetch(view)) numbers.push_back(to_float(value));
        }
      },
      task.values);
  for (const float weight : on.fetch(task.weights)) numbers.push_back(weight);
  return numbers;
}

class Route final : public PlacedTask {
 public:
  Route(Backend& backend, Primitive primitive, Workload workload, const IndexerSpec& spec, bool same)
      : PlacedTask(backend),
        primitive_(primitive),
        same_(same),
        workload_(std::move(workload)),
        placement_(backend, workload_) {
    PlanOptions options;
    options.after_chunk = [&](const ChunkScores& chunk) {
      if (chunk.rows != workload_.rows()) throw std::logic_error("a case is one chunk");
      task_ = *chunk.route;
    };
    plan_.emplace(backend, spec, placement_.problem(), options);
    plan_->run(nullptr);
    task_.rank.energies = {};
  }
  std::string_view run(i64 /*turn*/) override {
    if (primitive_ == Primitive::rank) return backend_.rank(task_.rank);
    const std::string_view both = backend_.rank_gather(task_);
    if (!both.empty()) return both;
    backend_.rank(task_.rank);
    backend_.gather(task_.gather);
    return {};
  }
  Outputs outputs() override {
    if (primitive_ == Primitive::rank) backend_.gather(task_.gather);
    Outputs found = signed_outputs(backend_.arithmetic(placement_.problem().shape));
    found.numbers = fetch_batch(on_, task_.gather);
    found.choices[Choice::heads] = fetch_ids(backend_, task_.rank.heads);
    if (!task_.gather.has_linear()) return found;
    const i64 rows = workload_.rows(), batch = task_.gather.weights.shape[1], dim = workload_.head_dim();
    HostTensor linear(Dtype::f32, {rows, dim + 1});
    for (i64 m = 0; m < rows; ++m) {
      const auto first = found.numbers.begin() + (m * batch + batch - 2) * dim;
      std::copy(first, first + dim, linear.span<float>().begin() + m * (dim + 1));
      store(linear, m * (dim + 1) + dim, static_cast<float>(found.numbers[batch_weight(m, batch - 2)]));
    }
    found.choices[Choice::linear] = std::move(linear);
    return found;
  }
  Judged judge(const Outputs& found, const Outputs& exact) override {
    constexpr std::array<Choice, 2> kRouted{Choice::heads, Choice::linear};
    ExactReference reference(backend_, workload_);
    const Agreement agreement = compare_sides(reference, plan_->spec(), found.choices, exact.choices, kRouted);
    Judged judged{.compared = agreement.rows(), .unbounded = agreement.count(Verdict::unbounded)};
    const i64 wrong = agreement.missed() + agreement.violated() + agreement.count(Verdict::unknown);
    const HostTensor& heads = found.choices[Choice::heads];
    if (wrong > 0) judged.wrong = fmt::format("{} times heads or a linear query that rounding does not explain", wrong);
    if (same_ && !std::ranges::equal(heads.span<const i32>(), exact.choices[Choice::heads].span<const i32>())) {
      judged.wrong = "other heads than the oracle's";
    }
    if (!is_copied(heads, found.numbers)) judged.wrong = "a batch that is no copy of the heads kept";
    if (!judged.wrong.empty())
      judged.wrong += ": " + workload_.name + ", " + std::string(router_name(task_.rank.router));
    return judged;
  }

 private:
  std::size_t batch_weight(i64 m, i64 i) const {
    const i64 batch = task_.gather.weights.shape[1];
    return static_cast<std::size_t>(workload_.rows() * batch * workload_.head_dim() + m * batch + i);
  }
  bool is_copied(const HostTensor& heads, const std::vector<double>& numbers) const {
    const i64 all = workload_.heads(), dim = workload_.head_dim(), batch = task_.gather.weights.shape[1];
    for (i64 m = 0; m < workload_.rows(); ++m) {
      const std::span<const i32> kept = row_of<i32>(heads, m);
      for (std::size_t i = 0; i < kept.size(); ++i) {
        const i64 head = m * all + kept[i], to = m * batch + static_cast<i64>(i);
        if (!same_number(numbers[batch_weight(m, static_cast<i64>(i))], value_at(workload_.weights, head)))
          return false;
        for (i64 d = 0; d < dim; ++d) {
          const double number = numbers[static_cast<std::size_t>(to * dim + d)];
          if (!same_number(number, query_at(workload_, head * dim + d))) return false;
        }
      }
    }
    return true;
  }

  Primitive primitive_;
  bool same_;
  Workload workload_;
  Placement placement_;
  std::optional<Plan> plan_;
  RankGatherTask task_{};
};

class Gather final : public PlacedTask {
 public:
  Gather(Backend& backend, const Workload& workload, const std::vector<i32>& heads, const std::vector<float>& linear)
      : PlacedTask(backend), placement_(backend, workload) {
    const i64 rows = workload.rows(), dim = workload.head_dim(), kept = std::ssize(heads) / rows;
    const i64 batch = kept + (linear.empty() ? 0 : 2);
    task_.queries = placement_.problem().queries;
    task_.heads = on_.place<i32, 2>(heads, {rows, kept});
    if (!linear.empty()) task_.linear = on_.place<float, 2>(linear, {rows, dim + 1});
    std::visit(
        [&](const auto& view) {
          using T = Routed<Element<decltype(view)>>;
          task_.values = View<const T, 3>(on_.make<T, 3>({rows, batch, dim}));
        },
        task_.queries.values);
    task_.weights = on_.make<float, 2>({rows, batch});
  }
  std::string_view run(i64 /*turn*/) override { return backend_.gather(task_); }
  Outputs outputs() override {
    Outputs found = signed_outputs({});
    found.numbers = fetch_batch(on_, task_);
    return found;
  }
  Judged judge(const Outputs& found, const Outputs& exact) override {
    Judged judged;
    for (std::size_t i = 0; i < found.numbers.size(); ++i) {
      compare(judged, found.numbers[i], exact.numbers[i], 0, [&] { return fmt::format("number {} of the batch", i); });
    }
    return judged;
  }

 private:
  Placement placement_;
  GatherTask task_{};
};

}  // namespace

Outputs PlacedTask::signed_outputs(const std::optional<Arithmetic>& arithmetic) const {
  Outputs outputs;
  outputs.choices.name = backend_.name();
  outputs.choices.arithmetic = arithmetic;
  outputs.choices.exact = backend_.name() == "oracle";
  return outputs;
}

std::unique_ptr<PlacedTask> place_pool(Backend& backend, Workload workload, const Ranges& ranges, i64 turns) {
  return std::make_unique<Pool>(backend, std::move(workload), ranges, turns);
}
std::unique_ptr<PlacedTask> place_score(Backend& backend, Workload workload, const Listed& listed, i64 turns) {
  return std::make_unique<Score>(backend, std::move(workload), listed, turns);
}
std::unique_ptr<PlacedTask> place_select(Backend& backend, SelectCase from) {
  return std::make_unique<Select>(backend, std::move(from));
}
std::unique_ptr<PlacedTask> place_route(Backend& backend, Primitive primitive, Workload workload,
                                        const IndexerSpec& spec, bool same) {
  return std::make_unique<Route>(backend, primitive, std::move(workload), spec, same);
}
std::unique_ptr<PlacedTask> place_gather(Backend& backend, const Workload& workload, const std::vector<i32>& heads,
                                         const std::vector<float>& linear) {
  return std::make_unique<Gather>(backend, workload, heads, linear);
}

}  // namespace misa::testing
