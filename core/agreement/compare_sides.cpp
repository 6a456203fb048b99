#include "core/agreement/compare_sides.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "core/agreement/judge.hpp"
#include "core/agreement/offer.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"

namespace misa {
namespace {

class Comparison {
 public:
  Comparison(ExactReference& reference, const IndexerSpec& spec, const Selection& side, const Selection& against)
      : reference_(reference), spec_(spec), sides_{&side, &against}, rows_(reference.problem().shape.rows) {
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
      case Choice::heads: return spec_.heads && spec_.heads->kept(reference_.problem().shape.heads) > 0;
      case Choice::linear: return spec_.heads && spec_.heads->linear_head(reference_.problem().shape.heads);
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
      const bool fits = choice == Choice::linear ? ids.shape[1] == reference_.problem().shape.head_dim + 1
                                                 : !by_k || ids.shape[1] == spec_.top_k;
      if (ids.shape[0] == rows_ && fits) continue;
      throw Error(ErrorKind::input, "MP-E601",
                  fmt::format("the {} of {} are [{}, {}], and {} rows choose {} tokens here", choice_name(choice),
                              one.name, ids.shape[0], ids.shape[1], rows_, spec_.top_k),
                  {}, "the options that the recorded side was made with");
    }
  }

  const ExactRow& exact_row(RowState& state, int s, i64 m) {
    std::optional<ExactRow>& row = state.exact[static_cast<std::size_t>(s)];
    const Selection& side = *sides_[static_cast<std::size_t>(s)];
    if (!row) row = reference_.row(spec_, side, m, side.arithmetic);
    return *row;
  }

  /// The side's choice in a row, judged on what it had chosen before.
  Verdict judged(RowState& state, int s, Choice choice, i64 m, ChoiceAgreement& into) {
    const Selection& side = *sides_[static_cast<std::size_t>(s)];
    if (side.exact) return Verdict::exact;
    const Field& field = exact_row(state, s, m)[choice];
    const Judgement judgement = choice == Choice::linear ? judge_linear(field, row_of<float>(side[Choice::linear], m),
                                                                        routed_dtype(reference_.problem().shape.dtype))
                                                         : judge(field, without_pads(row_of<i32>(side[choice], m)));
    into.mass_lost = std::max(into.mass_lost, judgement.mass_lost);
    if (judgement.verdict < Verdict::within_bound) return judgement.verdict;
    if (!side.arithmetic) return Verdict::unknown;
    for (Miss miss : judgement.misses) {
      miss.side = side.name;
      miss.row = m;
      into.add(miss);
    }
    return judgement.verdict;
  }

  bool sees_tokens(i64 m) const {
    const std::size_t at = static_cast<std::size_t>(m);
    return reference_.problem().end[at] > reference_.problem().begin[at];
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
        const ExactRow row = reference_.row(spec_, *side, m, std::nullopt);
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
      const Offer offered = offer_of(reference_, spec_, side, choice, m);
      if (s == 0 && sees_tokens(m) && offered.count == offered.wanted) ++into.trivial;
      for (const Violation& violation : violations_of(reference_.problem(), side, choice, m, offered)) {
        violated = broken[static_cast<std::size_t>(s)] = true;
        into.add(violation);
      }
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
    const Problem& problem = reference_.problem();
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
        into.add(Violation{who, m, 0, token, Fault::not_a_number});
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
      into.add(Miss{who, m, token, token, mine, other, 0, mine - other, 0, bound});
    };

    if (same_heads) {
      const bool known = sides_[0]->arithmetic && sides_[1]->arithmetic;
      for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        if (a[i] != b[j]) {
          ++(a[i] < b[j] ? i : j);
          continue;
        }
        const KeySize key = reference_.bounds().key(problem.sequence[at], problem.begin[at] + a[i]);
        double bound = 0;
        for (const Selection* side : sides_) {
          if (side->arithmetic) bound += reference_.bounds().score(*side->arithmetic, m, heads, linear, key);
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

  ExactReference& reference_;
  const IndexerSpec& spec_;
  std::array<const Selection*, 2> sides_;
  i64 rows_;
};

}  // namespace

Agreement compare_sides(ExactReference& reference, const IndexerSpec& spec, const Selection& side,
                        const Selection& against, std::span<const Choice> choices) {
  return Comparison(reference, spec, side, against).run(choices);
}

}  // namespace misa
