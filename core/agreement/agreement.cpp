#include "core/agreement/agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/indexer/linear_head.hpp"

namespace misa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// NaN ranks below every number.
double rank_of(double score) { return std::isnan(score) ? -kInfinity : score; }

/// What one row of one side could choose from.
struct Offer {
  i64 limit = 0;              ///< ids lie in [0, limit)
  i64 count = 0;              ///< how many of them are on offer
  i64 wanted = 0;             ///< how many must be chosen
  i64 run = 1;                ///< ids of `from` stand for so many ids each
  i64 shift = 0;              ///< of the first id of run 0
  std::span<const i32> from;  ///< ascending; empty: all are on offer
  bool limited = false;       ///< only what `from` names is on offer

  bool holds(i64 id) const {
    if (!limited) return true;
    const i64 at = id - shift;
    return at >= 0 && std::binary_search(from.begin(), from.end(), static_cast<i32>(at / run));
  }
};

/// The largest error of rounding a number of magnitude `size` to f32 and then to what a linear query is stored in.
double linear_rounding(double size, Dtype dtype, double scale) {
  const double single = 0x1p-24 * size + 0x1p-149;
  if (dtype == Dtype::bf16) return single + 0x1p-8 * size * (1 + 0x1p-20) + 0x1p-133;
  if (dtype == Dtype::e4m3) return single + std::max(0x1p-4 * size * (1 + 0x1p-20), 0x1p-10 * scale);
  return single;
}

class Comparison {
 public:
  Comparison(Arbiter& arbiter, const IndexerSpec& spec, const Selection& side, const Selection& against)
      : arbiter_(arbiter), spec_(spec), sides_{&side, &against}, rows_(arbiter.problem().shape.rows) {
    for (const Selection* one : sides_) check_shapes(*one);
  }

  Agreement run(std::span<const Choice> choices) {
    Agreement agreement{.indexer = spec_.name, .side = sides_[0]->name, .against = sides_[1]->name, .choices = {}};
    for (const Choice choice : choices) {
      if (!made(choice)) continue;
      ChoiceAgreement& one = agreement.choices.emplace_back();
      one.choice = choice;
      for (const Selection* side : sides_) {
        if ((*side)[choice].empty()) one.reason = fmt::format("{} has none", side->name);
      }
    }
    for (i64 m = 0; m < rows_; ++m) {
      stop_if_interrupted();
      compare_row(m, agreement);
    }
    agreement.all_zero = agreement.violated() == 0 && offers_only_zeros(agreement);
    return agreement;
  }

 private:
  /// What both sides chose in a row before and at a point.
  struct RowState {
    bool differs = false;                          ///< an earlier choice was not the same
    std::array<bool, 2> broken{};                  ///< ... or was no selection, by side
    std::array<std::optional<ExactRow>, 2> exact;  ///< the row as each side went through it, once it is asked for
  };

  bool made(Choice choice) const {
    switch (choice) {
      case Choice::heads: return spec_.heads && spec_.heads->kept(arbiter_.problem().shape.heads) > 0;
      case Choice::linear: return spec_.heads && spec_.heads->linear_head(arbiter_.problem().shape.heads);
      case Choice::blocks: return spec_.blocks.has_value();
      case Choice::candidates: return spec_.rerank.has_value();
      case Choice::tokens:
      case Choice::scores: break;
    }
    return true;
  }

  void check_shapes(const Selection& one) const {
    for (const Choice choice : kChoices) {
      const HostTensor& ids = one[choice];
      if (ids.empty()) continue;
      const bool by_k = choice == Choice::tokens || choice == Choice::scores;
      const bool fits = choice == Choice::linear ? ids.shape[1] == arbiter_.problem().shape.head_dim + 1
                                                 : !by_k || ids.shape[1] == spec_.top_k;
      if (ids.shape[0] == rows_ && fits) continue;
      throw Error(ErrorKind::input, "MP-E601",
                  fmt::format("the {} of {} are [{}, {}], and {} rows choose {} tokens here", choice_name(choice),
                              one.name, ids.shape[0], ids.shape[1], rows_, spec_.top_k),
                  {}, "the options that the recorded side was made with");
    }
  }

  Offer offer(const Selection& side, Choice choice, i64 m) {
    const std::size_t at = static_cast<std::size_t>(m);
    const Problem& problem = arbiter_.problem();
    const i64 window = std::max<i64>(0, problem.end[at] - problem.begin[at]);
    Offer found{.limit = window, .count = window, .from = {}};
    switch (choice) {
      case Choice::heads:
        found.limit = found.count = problem.shape.heads;
        found.wanted = spec_.heads->kept(found.count);
        return found;
      case Choice::blocks: {
        const BlockLayout& layout = arbiter_.blocks(spec_.blocks->block_size, spec_.block_window);
        found.limit = found.count = layout.last[at] - layout.first[at];
        found.wanted = std::min(spec_.blocks->blocks, found.count);
        return found;
      }
      case Choice::tokens:
        if (spec_.rerank) {
          found.from = without_pads(row_of<i32>(side[Choice::candidates], m));
          found.limited = !side[Choice::candidates].empty();
          if (found.limited) found.count = static_cast<i64>(found.from.size());
          break;
        }
        [[fallthrough]];
      default:
        if (spec_.blocks && !side[Choice::blocks].empty()) limit_to_blocks(side, m, window, found);
        break;
    }
    found.wanted = std::min(choice == Choice::candidates ? spec_.rerank->candidates : spec_.top_k, found.count);
    return found;
  }

  void limit_to_blocks(const Selection& side, i64 m, i64 window, Offer& found) {
    const std::size_t at = static_cast<std::size_t>(m);
    const BlockLayout& layout = arbiter_.blocks(spec_.blocks->block_size, spec_.block_window);
    found.limited = true;
    found.from = without_pads(row_of<i32>(side[Choice::blocks], m));
    found.run = spec_.blocks->block_size;
    found.shift = layout.origin[at] - arbiter_.problem().begin[at];
    found.count = 0;
    for (const i32 block : found.from) {
      const i64 begin = found.shift + block * found.run;
      found.count += std::max<i64>(0, std::min(begin + found.run, window) - std::max<i64>(begin, 0));
    }
  }

  bool reachable(i64 m, i64 token) const {
    const KeyCache& keys = arbiter_.problem().keys;
    if (keys.block_table.data == nullptr) return true;
    const auto [pages, size] = std::visit(
        [](const auto& values) {
          return std::pair{values.shape[0], values.shape[1]};
        },
        keys.values);
    const i64 column = token / size;
    if (column >= keys.block_table.shape[1]) return false;
    const i64 page = keys.block_table(arbiter_.problem().sequence[static_cast<std::size_t>(m)], column);
    return page >= 0 && page < pages;
  }

  /// Adds what is wrong with a row as a selection; true when something is.
  bool violates(const Selection& side, Choice choice, i64 m, const Offer& offered, ChoiceAgreement& into) const {
    const std::span<const i32> ids = row_of<i32>(side[choice], m);
    bool found = false;
    const auto add = [&](i64 column, i64 id, Fault fault) {
      found = true;
      ++into.violated;
      if (static_cast<i64>(into.violations.size()) < kListed) {
        into.violations.push_back({side.name, m, column, id, fault});
      }
    };
    const bool token = choice == Choice::candidates || choice == Choice::tokens;
    const i64 stored = token ? arbiter_.problem().shape.keys : offered.limit;
    i64 count = 0, last = -1;
    for (std::size_t c = 0; c < ids.size(); ++c) {
      const i64 id = ids[c], column = static_cast<i64>(c);
      if (id == -1) continue;
      if (id < 0 || id >= stored) {
        add(column, id, id < 0 ? Fault::padding : Fault::out_of_range);
        continue;
      }
      if (count < column) add(column, id, Fault::padding);
      ++count;
      if (id <= last) {
        const auto before = ids.begin() + column;
        add(column, id, std::find(ids.begin(), before, ids[c]) != before ? Fault::duplicate : Fault::order);
      } else if (id >= offered.limit) {
        add(column, id, Fault::out_of_window);
      } else if (!offered.holds(id)) {
        add(column, id, Fault::not_offered);
      } else if (token && !reachable(m, id)) {
        add(column, id, Fault::unreachable);
      }
      last = std::max(last, id);
    }
    if (!found && count < offered.wanted) add(count, -1, Fault::truncated);
    return found;
  }

  const ExactRow& exact_row(RowState& state, int s, i64 m) {
    std::optional<ExactRow>& row = state.exact[static_cast<std::size_t>(s)];
    const Selection& side = *sides_[static_cast<std::size_t>(s)];
    if (!row) row = arbiter_.row(spec_, side, m, side.arithmetic);
    return *row;
  }

  /// The side's choice in a row, judged on what it had chosen before.
  Verdict judged(RowState& state, int s, Choice choice, i64 m, ChoiceAgreement& into) {
    const Selection& side = *sides_[static_cast<std::size_t>(s)];
    if (side.exact) return Verdict::exact;
    const Field& field = exact_row(state, s, m)[choice];
    const Judgement judgement = choice == Choice::linear ? judge_linear(field, row_of<float>(side[Choice::linear], m),
                                                                        arbiter_.problem().shape.dtype)
                                                         : judge(field, without_pads(row_of<i32>(side[choice], m)));
    into.mass_lost = std::max(into.mass_lost, judgement.mass_lost);
    if (judgement.verdict < Verdict::within_bound) return judgement.verdict;
    if (!side.arithmetic) return Verdict::unknown;
    for (Miss miss : judgement.misses) {
      miss.side = side.name;
      miss.row = m;
      ++into.missed;
      if (static_cast<i64>(into.misses.size()) < kListed) into.misses.push_back(miss);
    }
    return judgement.verdict;
  }

  bool sees_tokens(i64 m) const {
    const std::size_t at = static_cast<std::size_t>(m);
    return arbiter_.problem().end[at] > arbiter_.problem().begin[at];
  }

  /// True when everything that the compared rows could choose from scores exactly 0. Heads count where nothing else was
  /// compared: which of them score zeros does not matter.
  bool offers_only_zeros(const Agreement& agreement) {
    for (const Selection* side : sides_) {
      for (i64 i = 0; i < (*side)[Choice::scores].size(); ++i) {
        if (score_at((*side)[Choice::scores], i) != 0) return false;
      }
    }
    std::vector<Choice> compared;
    for (const ChoiceAgreement& one : agreement.choices) {
      if (one.rows > one.count(Verdict::empty)) compared.push_back(one.choice);
    }
    const auto ranks_heads = [](Choice choice) { return choice == Choice::heads || choice == Choice::linear; };
    if (!std::all_of(compared.begin(), compared.end(), ranks_heads)) std::erase_if(compared, ranks_heads);
    for (i64 m = 0; m < rows_ && !compared.empty(); ++m) {
      if (!sees_tokens(m)) continue;
      for (const Selection* side : sides_) {
        const ExactRow row = arbiter_.row(spec_, *side, m, std::nullopt);
        for (const Choice choice : compared) {
          const std::vector<double>& scores = row[choice].scores;
          if (std::any_of(scores.begin(), scores.end(), [](double score) { return score != 0; })) return false;
        }
      }
    }
    return !compared.empty();
  }

  void compare_row(i64 m, Agreement& agreement) {
    RowState state;
    std::size_t next = 0;
    for (const Choice choice : kChoices) {
      if (!made(choice)) continue;
      // A choice that was not asked for still decides what comes after it.
      ChoiceAgreement silent;
      const bool asked = next < agreement.choices.size() && agreement.choices[next].choice == choice;
      ChoiceAgreement& into = asked ? agreement.choices[next++] : silent;
      if (asked && !into.reason.empty()) {
        state.differs = state.differs || choice != Choice::scores;
        continue;
      }
      if ((*sides_[0])[choice].empty() || (*sides_[1])[choice].empty()) continue;
      const Verdict verdict = choice == Choice::scores   ? compare_scores(state, m, into)
                              : choice == Choice::linear ? compare_linear(state, m, asked, into)
                                                         : compare_choice(state, choice, m, asked, into);
      if (!asked) continue;
      ++into.rows;
      ++into.verdicts[static_cast<std::size_t>(verdict)];
      into.row_verdicts.push_back(verdict);
    }
  }

  Verdict compare_choice(RowState& state, Choice choice, i64 m, bool asked, ChoiceAgreement& into) {
    std::array<bool, 2> broken = state.broken;
    bool violated = false;
    for (int s = 0; s < 2; ++s) {
      if (broken[static_cast<std::size_t>(s)]) continue;
      const Selection& side = *sides_[static_cast<std::size_t>(s)];
      const Offer offered = offer(side, choice, m);
      if (s == 0 && sees_tokens(m) && offered.count == offered.wanted) ++into.trivial;
      if (violates(side, choice, m, offered, into)) violated = broken[static_cast<std::size_t>(s)] = true;
    }
    const bool earlier = state.broken[0] || state.broken[1];
    state.broken = broken;
    if (violated) return Verdict::violation;
    if (earlier) return Verdict::unjudged;
    if (!sees_tokens(m)) return Verdict::empty;

    const auto a = without_pads(row_of<i32>((*sides_[0])[choice], m));
    const auto b = without_pads(row_of<i32>((*sides_[1])[choice], m));
    if (std::equal(a.begin(), a.end(), b.begin(), b.end())) return Verdict::exact;
    return judged_both(state, choice, m, asked, into);
  }

  /// The linear queries of a row, number by number.
  Verdict compare_linear(RowState& state, i64 m, bool asked, ChoiceAgreement& into) {
    if (state.broken[0] || state.broken[1]) return Verdict::unjudged;
    if (!sees_tokens(m)) return Verdict::empty;
    if (same_linear(m)) return Verdict::exact;
    return judged_both(state, Choice::linear, m, asked, into);
  }

  /// A choice that is not the same on both sides.
  Verdict judged_both(RowState& state, Choice choice, i64 m, bool asked, ChoiceAgreement& into) {
    const bool differed = state.differs;
    state.differs = true;
    if (!asked) return Verdict::follows;
    const Verdict first = judged(state, 0, choice, m, into), second = judged(state, 1, choice, m, into);
    const Verdict worst = std::max(first, second);
    // Each is right on its own grounds, and the grounds differ.
    return differed && worst < Verdict::unbounded ? Verdict::follows : worst;
  }

  Verdict compare_scores(RowState& state, i64 m, ChoiceAgreement& into) {
    const i64 k = spec_.top_k;
    const bool same_heads = spec_.rerank || !spec_.heads || (heads_agree(m) && same_linear(m));
    if (state.broken[0] || state.broken[1]) return Verdict::unjudged;
    const std::size_t at = static_cast<std::size_t>(m);
    const Problem& problem = arbiter_.problem();
    const auto a = without_pads(row_of<i32>((*sides_[0])[Choice::tokens], m)),
               b = without_pads(row_of<i32>((*sides_[1])[Choice::tokens], m));
    const std::span<const i32> heads =
        spec_.rerank ? std::span<const i32>() : row_of<i32>((*sides_[0])[Choice::heads], m);
    const auto linear = spec_.rerank ? std::span<const float>() : row_of<float>((*sides_[0])[Choice::linear], m);

    Verdict worst = same_heads ? Verdict::exact : Verdict::follows;
    bool compared = false;
    const auto check = [&](i64 token, double mine, double other, double bound, bool known, const std::string& who) {
      compared = true;
      if (mine == other || (std::isnan(mine) && std::isnan(other))) return;
      if (std::isnan(mine) != std::isnan(other) && std::isfinite(bound)) {
        worst = Verdict::violation;
        ++into.violated;
        if (static_cast<i64>(into.violations.size()) < kListed) {
          into.violations.push_back({who, m, 0, token, Fault::not_a_number});
        }
        return;
      }
      if (!known || !std::isfinite(bound)) {
        worst = std::max(worst, known ? Verdict::unbounded : Verdict::unknown);
        return;
      }
      const double gap = std::abs(mine - other);
      if (bound > 0 && std::isfinite(gap)) into.largest_share = std::max(into.largest_share, gap / bound);
      if (gap <= bound) {
        worst = std::max(worst, Verdict::within_bound);
        return;
      }
      worst = std::max(worst, Verdict::miss);
      ++into.missed;
      if (static_cast<i64>(into.misses.size()) < kListed) {
        into.misses.push_back({who, m, token, token, mine, other, 0, mine - other, 0, bound});
      }
    };

    if (same_heads) {
      const bool known = sides_[0]->arithmetic && sides_[1]->arithmetic;
      for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        if (a[i] != b[j]) {
          ++(a[i] < b[j] ? i : j);
          continue;
        }
        const KeySize key = arbiter_.bounds().key(problem.sequence[at], problem.begin[at] + a[i]);
        double bound = 0;
        for (const Selection* side : sides_) {
          if (side->arithmetic) bound += arbiter_.bounds().score(*side->arithmetic, m, heads, linear, key);
        }
        check(a[i], score_at((*sides_[0])[Choice::scores], m * k + static_cast<i64>(i)),
              score_at((*sides_[1])[Choice::scores], m * k + static_cast<i64>(j)), bound, known, sides_[0]->name);
        ++i;
        ++j;
      }
      return compared ? worst : Verdict::empty;
    }
    for (int s = 0; s < 2; ++s) {
      const Selection& side = *sides_[static_cast<std::size_t>(s)];
      if (side.exact) continue;
      const Field& field = exact_row(state, s, m).tokens;
      const auto chosen = s == 0 ? a : b;
      for (std::size_t i = 0, f = 0; i < chosen.size(); ++i) {
        while (f < field.ids.size() && field.ids[f] < chosen[i]) ++f;
        if (f == field.ids.size() || field.ids[f] != chosen[i]) continue;
        check(chosen[i], score_at(side[Choice::scores], m * k + static_cast<i64>(i)), field.scores[f], field.bounds[f],
              side.arithmetic.has_value(), side.name);
      }
    }
    return compared ? worst : Verdict::empty;
  }

  bool heads_agree(i64 m) const {
    const auto a = row_of<i32>((*sides_[0])[Choice::heads], m), b = row_of<i32>((*sides_[1])[Choice::heads], m);
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

  /// NaN equals itself.
  bool same_linear(i64 m) const {
    const auto a = row_of<float>((*sides_[0])[Choice::linear], m), b = row_of<float>((*sides_[1])[Choice::linear], m);
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
  }

  Arbiter& arbiter_;
  const IndexerSpec& spec_;
  std::array<const Selection*, 2> sides_;
  i64 rows_;
};

/// judge() of a field with forced ids: each that was passed over is a miss, for the least of what was chosen; the other
/// ids are judged among themselves.
Judgement judge_forced(const Field& field, std::span<const i32> chosen) {
  Field rest;
  std::vector<std::size_t> inside, missing;
  for (std::size_t i = 0; i < field.ids.size(); ++i) {
    const i32 id = field.ids[i];
    const bool forced = std::find(field.forced.begin(), field.forced.end(), id) != field.forced.end();
    const bool taken = std::binary_search(chosen.begin(), chosen.end(), id);
    if (forced && !taken) missing.push_back(i);
    if (forced) continue;
    if (taken) inside.push_back(i);
    rest.ids.push_back(id);
    rest.scores.push_back(field.scores[i]);
    rest.bounds.push_back(field.bounds[i]);
  }
  std::stable_sort(inside.begin(), inside.end(),
                   [&](std::size_t a, std::size_t b) { return rank_of(field.scores[a]) > rank_of(field.scores[b]); });
  std::vector<Miss> misses;
  for (const std::size_t out : missing) {
    if (inside.empty()) break;
    const std::size_t in = inside.back();
    inside.pop_back();
    Miss& miss = misses.emplace_back();
    miss.missed = field.ids[out];
    miss.taken = field.ids[in];
    miss.missed_score = field.scores[out];
    miss.taken_score = field.scores[in];
    miss.rank = std::find(field.forced.begin(), field.forced.end(), field.ids[out]) - field.forced.begin();
    miss.forced = true;
  }
  std::vector<i32> others;
  for (const std::size_t i : inside) others.push_back(field.ids[i]);
  std::sort(others.begin(), others.end());
  Judgement judgement = judge(rest, others);
  for (Miss& miss : judgement.misses) miss.rank += static_cast<i64>(field.forced.size());
  if (!misses.empty()) judgement.verdict = Verdict::miss;
  judgement.misses.insert(judgement.misses.begin(), misses.begin(), misses.end());
  return judgement;
}

}  // namespace

i64 Agreement::missed() const {
  i64 sum = 0;
  for (const ChoiceAgreement& one : choices) sum += one.missed;
  return sum;
}

i64 Agreement::violated() const {
  i64 sum = 0;
  for (const ChoiceAgreement& one : choices) sum += one.violated;
  return sum;
}

i64 Agreement::count(Verdict verdict) const {
  i64 sum = 0;
  for (const ChoiceAgreement& one : choices) sum += one.count(verdict);
  return sum;
}

i64 Agreement::rows() const {
  i64 sum = 0;
  for (const ChoiceAgreement& one : choices) sum += one.rows;
  return sum;
}

Judgement judge(const Field& field, std::span<const i32> chosen) {
  if (!field.forced.empty()) return judge_forced(field, chosen);
  const std::size_t count = field.ids.size();
  std::vector<std::size_t> inside, outside;
  for (std::size_t i = 0, c = 0; i < count; ++i) {
    if (c < chosen.size() && chosen[c] == field.ids[i]) {
      inside.push_back(i);
      ++c;
    } else {
      outside.push_back(i);
    }
  }
  Judgement judgement;
  if (inside.empty() || outside.empty()) return judgement;

  std::vector<double> rank(count);
  std::transform(field.scores.begin(), field.scores.end(), rank.begin(), rank_of);
  const auto by_rank = [&](std::size_t a, std::size_t b) { return rank[a] < rank[b]; };
  const double least_inside = rank[*std::min_element(inside.begin(), inside.end(), by_rank)];
  const double most_outside = rank[*std::max_element(outside.begin(), outside.end(), by_rank)];
  if (most_outside < least_inside) return judgement;
  if (most_outside == least_inside) {
    i32 last_inside = -1, first_outside = std::numeric_limits<i32>::max();
    for (const std::size_t i : inside) {
      if (rank[i] == least_inside) last_inside = std::max(last_inside, field.ids[i]);
    }
    for (const std::size_t i : outside) {
      if (rank[i] == least_inside) first_outside = std::min(first_outside, field.ids[i]);
    }
    judgement.verdict = last_inside < first_outside ? Verdict::exact : Verdict::tie_swap;
    return judgement;
  }

  // Only ids in the band where the two sets cross can violate the condition.
  const auto unbounded = [&](std::size_t i) { return !std::isfinite(field.bounds[i]); };
  const auto low = [&](std::size_t i) { return unbounded(i) ? -kInfinity : rank[i] - field.bounds[i]; };
  const auto high = [&](std::size_t i) { return unbounded(i) ? kInfinity : rank[i] + field.bounds[i]; };
  std::erase_if(outside, [&](std::size_t i) { return rank[i] <= least_inside; });
  std::vector<std::size_t> band = inside;
  std::erase_if(band, [&](std::size_t i) { return rank[i] >= most_outside; });
  std::stable_sort(outside.begin(), outside.end(), [&](std::size_t a, std::size_t b) { return low(a) > low(b); });
  std::stable_sort(band.begin(), band.end(), [&](std::size_t a, std::size_t b) { return high(a) < high(b); });

  std::vector<double> sorted = rank;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const double last = sorted[inside.size() - 1];
  double right = 0, size = 0, taken = 0;
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (!std::isfinite(sorted[i])) continue;
    right += sorted[i];
    size += std::abs(sorted[i]);
  }
  for (const std::size_t i : inside) taken += std::isfinite(rank[i]) ? rank[i] : 0.0;
  judgement.mass_lost = size > 0 ? std::max(0.0, (right - taken) / size) : 0.0;

  const bool open =
      std::any_of(outside.begin(), outside.end(), unbounded) || std::any_of(band.begin(), band.end(), unbounded);
  judgement.verdict = open ? Verdict::unbounded : Verdict::within_bound;
  for (std::size_t i = 0; i < std::min(outside.size(), band.size()); ++i) {
    stop_if_interrupted();
    const std::size_t out = outside[i], in = band[i];
    if (low(out) <= high(in)) break;
    judgement.verdict = Verdict::miss;
    Miss miss;
    miss.missed = field.ids[out];
    miss.taken = field.ids[in];
    miss.missed_score = field.scores[out];
    miss.taken_score = field.scores[in];
    miss.to_last = rank[out] - last;
    miss.mass_lost = size > 0 ? (rank[out] - rank[in]) / size : 0.0;
    miss.bound = field.bounds[out] + field.bounds[in];
    for (std::size_t j = 0; j < count; ++j) {
      if (rank[j] > rank[out] || (rank[j] == rank[out] && field.ids[j] < field.ids[out])) ++miss.rank;
    }
    judgement.misses.push_back(miss);
  }
  return judgement;
}

Judgement judge_linear(const Field& field, std::span<const float> linear, Dtype dtype) {
  Judgement judgement;
  const std::vector<float> exact = round_linear_query(field.scores, dtype);
  if (std::equal(exact.begin(), exact.end(), linear.begin(), linear.end())) return judgement;
  double least = 0, most = 0;
  bool bounded = true;
  for (std::size_t d = 0; d < field.scores.size(); ++d) {
    least = std::max(least, std::abs(field.scores[d]) - field.bounds[d]);
    most = std::max(most, std::abs(field.scores[d]) + field.bounds[d]);
    bounded = bounded && std::isfinite(field.bounds[d]);
  }
  judgement.verdict = bounded ? Verdict::within_bound : Verdict::unbounded;
  const auto miss = [&](i64 id, double right, double found, double bound) {
    judgement.verdict = Verdict::miss;
    judgement.misses.push_back({{}, 0, id, id, right, found, 0, right - found, 0, bound});
  };
  const float scale = linear.back();
  if (dtype != Dtype::e4m3) {
    if (scale != 1) miss(static_cast<i64>(field.scores.size()), exact.back(), scale, 0);
  } else if (bounded) {
    // In f32 the largest may round to either side.
    const float low = linear_scale(static_cast<float>(least * (1 - 0x1p-22)));
    const float high = linear_scale(static_cast<float>(most * (1 + 0x1p-22)));
    if (!(low <= scale && scale <= high && linear_scale(448 * scale) == scale)) {
      miss(static_cast<i64>(field.scores.size()), exact.back(), scale, high - low);
    }
  }
  for (std::size_t d = 0; d < field.scores.size(); ++d) {
    if (!std::isfinite(field.bounds[d])) continue;
    const double largest = std::abs(field.scores[d]) + field.bounds[d];
    const double bound = field.bounds[d] + linear_rounding(largest, dtype, scale);
    const double found = static_cast<double>(linear[d]) * scale;
    if (!(std::abs(found - field.scores[d]) <= bound)) miss(static_cast<i64>(d), field.scores[d], found, bound);
  }
  return judgement;
}

Concluded conclude(const Agreement& agreement, i64 max_miss) {
  const auto counted = [](i64 count, const char* one, const char* many) {
    return fmt::format("{} {}", count, count == 1 ? one : many);
  };
  const i64 missed = agreement.missed(), violated = agreement.violated();
  if (violated > 0 || missed > max_miss) {
    std::string why;
    if (missed > 0) why = counted(missed, "miss", "misses");
    if (violated > 0) why += (why.empty() ? "" : " and ") + counted(violated, "violation", "violations");
    for (const ChoiceAgreement& one : agreement.choices) {
      if (one.missed + one.violated == 0) continue;
      return {Conclusion::failed, why + ", first in the " + std::string(choice_name(one.choice))};
    }
  }
  if (agreement.rows() == 0) {
    std::string why = "nothing was compared";
    if (agreement.choices.empty()) why += fmt::format(": {} makes none of the choices asked for", agreement.indexer);
    for (const ChoiceAgreement& one : agreement.choices) {
      why += fmt::format("; {}: {}", choice_name(one.choice), one.reason.empty() ? "no rows" : one.reason);
    }
    return {Conclusion::nothing, why, "--stages that both sides have"};
  }
  if (agreement.rows() == agreement.count(Verdict::empty))
    return {Conclusion::nothing, "no row sees a token", "rows that see tokens"};
  if (agreement.all_zero)
    return {Conclusion::nothing, "every score on offer is 0: agreement says nothing",
            "a workload whose scores are not all 0"};
  if (const i64 unknown = agreement.count(Verdict::unknown); unknown > 0) {
    return {Conclusion::inconclusive,
            fmt::format("{} of {} rows differ, and the arithmetic of a side is not known", unknown, agreement.rows()),
            "a golden that names its arithmetic"};
  }
  for (const ChoiceAgreement& one : agreement.choices) {
    const i64 unbounded = one.count(Verdict::unbounded);
    if (unbounded == 0 || unbounded < one.rows - one.count(Verdict::empty) - one.trivial) continue;
    return {Conclusion::inconclusive,
            fmt::format("the {} of {} differ, and the bound is infinite: an intermediate may have exceeded the largest "
                        "number of the arithmetic",
                        choice_name(one.choice), counted(unbounded, "row", "rows")),
            "inputs of which no product overflows"};
  }
  return {};
}

Agreement compare_sides(Arbiter& arbiter, const IndexerSpec& spec, const Selection& side, const Selection& against,
                        std::span<const Choice> choices) {
  return Comparison(arbiter, spec, side, against).run(choices);
}

}  // namespace misa
