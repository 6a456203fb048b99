#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/agreement/arbiter.hpp"
#include "core/selection/run_selection.hpp"

namespace misa {

/// What two sides' choices in a row are to each other, from good to bad.
enum class Verdict : u8 {
  exact,         ///< the same
  tie_swap,      ///< different ids of equal exact score
  within_bound,  ///< the difference lies within what the arithmetic of the sides explains
  follows,       ///< right on what its own side had chosen before; the difference began there
  unbounded,     ///< different, and only an infinite bound explains it: an intermediate may have overflowed
  unknown,       ///< different, and a side's arithmetic is not known: nobody can say
  miss,          ///< an id was passed over that no rounding explains
  violation,     ///< not a selection at all: Fault
  unjudged,      ///< an earlier choice of this row was a violation
  empty,         ///< nothing to compare: the row sees no token; of scores also: no token is common to both sides
};

constexpr std::array<std::string_view, 10> kVerdictNames{"exact",   "tie-swap", "within-bound", "follows",  "unbounded",
                                                         "unknown", "miss",     "violation",    "unjudged", "empty"};
constexpr std::string_view verdict_name(Verdict verdict) { return kVerdictNames[static_cast<std::size_t>(verdict)]; }

/// Ways in which a row of ids is no selection.
enum class Fault : u8 {
  duplicate,      ///< an id stands twice
  order,          ///< ids do not ascend
  padding,        ///< a pad stands before an id, or is not -1
  truncated,      ///< fewer ids than there are to choose
  out_of_range,   ///< no such head, block or token
  out_of_window,  ///< a token that the row does not see
  not_offered,    ///< a token outside of the chosen blocks or candidates
  unreachable,    ///< no page of the key cache holds the token
  not_a_number,   ///< a NaN score where the other side has a number
};

constexpr std::array<std::string_view, 9> kFaultNames{"duplicate",   "order",        "padding",
                                                      "truncated",   "out-of-range", "out-of-window",
                                                      "not-offered", "unreachable",  "not-a-number"};
constexpr std::string_view fault_name(Fault fault) { return kFaultNames[static_cast<std::size_t>(fault)]; }

struct Violation {
  std::string side;
  i64 row = 0, column = 0;
  i64 id = 0;
  Fault fault = Fault::duplicate;
};

/// An id that was passed over for another, though rounding cannot make it the lesser one.
struct Miss {
  std::string side;
  i64 row = 0;
  i64 missed = 0, taken = 0;  ///< in the scores stage: both the token
  double missed_score = 0, taken_score = 0;
  i64 rank = 0;          ///< of the missed id in the exact order, from 0
  double to_last = 0;    ///< exact score of the missed id minus that of the last id that belongs to the selection
  double mass_lost = 0;  ///< missed_score - taken_score as a share of the sum of |exact scores| that belong
  double bound = 0;      ///< what rounding could have explained of missed_score - taken_score
  bool forced = false;   ///< the missed id belongs to every selection whatever it scores (Field::forced)
};

/// A choice, over all rows.
struct ChoiceAgreement {
  Choice choice = Choice::tokens;
  i64 rows = 0;                                      ///< compared
  i64 trivial = 0;                                   ///< of them: everything on offer had to be taken
  std::array<i64, kVerdictNames.size()> verdicts{};  ///< rows, by Verdict
  std::vector<Verdict> row_verdicts;
  std::vector<Miss> misses;  ///< the first kListed
  std::vector<Violation> violations;
  i64 missed = 0, violated = 0;  ///< how many there are
  double mass_lost = 0;          ///< worst row: share of the sum of |exact scores| of the right selection
  double largest_share = 0;      ///< largest difference that was found in proportion to its bound (scores)
  std::string reason;            ///< why no row was compared; empty: some were

  i64 count(Verdict verdict) const { return verdicts[static_cast<std::size_t>(verdict)]; }
};

constexpr i64 kListed = 100;

/// Two sides, choice by choice.
struct Agreement {
  std::string indexer, side, against;
  std::vector<ChoiceAgreement> choices;
  bool all_zero = false;  ///< every score on offer is 0: agreement says nothing

  i64 missed() const;
  i64 violated() const;
  i64 count(Verdict verdict) const;
  /// Rows compared in all choices; 0: nothing was.
  i64 rows() const;
};

/// Compares `side` with `against`, row by row and choice by choice. Where they differ, both are judged against exact
/// scores on what they themselves had chosen before, so that one different head is one difference and not a thousand.
/// `spec` must be as the sides ran it. Shapes that do not fit the workload: Error(input).
Agreement compare_sides(Arbiter& arbiter, const IndexerSpec& spec, const Selection& side, const Selection& against,
                        std::span<const Choice> choices = kChoices);

enum class Conclusion : u8 { passed, failed, inconclusive, nothing };

/// What an agreement comes to, and why in a line (empty when passed). failed: a violation, or more than `max_miss`
/// misses; the line names the earliest choice that has one. nothing: no row sees a token, or every score on offer is 0.
/// inconclusive: a difference that only an unknown arithmetic could explain, or a choice in which every row that had a
/// choice is unbounded.
struct Concluded {
  Conclusion conclusion = Conclusion::passed;
  std::string why = {};
  std::string how = {};  ///< what would give an answer; of nothing and inconclusive
};
Concluded conclude(const Agreement& agreement, i64 max_miss);

/// How `chosen` (ids, ascending, without pads) relates to the best of `field`, for a backend whose scores may be off by
/// the field's bounds: exact, tie_swap, within_bound, unbounded or miss.
///
/// A choice S can come from scores within the bounds if and only if it holds all forced ids and no id outside has score
/// - bound above the score + bound of an id inside. Misses are the fewest swaps that restore this, worst first.
/// Unbounded: it can, and of the ids that are on the wrong side of S by their exact scores at least one has an infinite
/// bound.
struct Judgement {
  Verdict verdict = Verdict::exact;
  std::vector<Miss> misses;
  double mass_lost = 0;
};
Judgement judge(const Field& field, std::span<const i32> chosen);

/// How a linear query [D + 1] as a backend scored it relates to the exact numbers of `field`: exact, within_bound,
/// unbounded where a number's bound is infinite, or a miss for every number that neither its bound nor rounding it to
/// `dtype` explains, D for the weight. The weight is judged where all bounds are finite.
Judgement judge_linear(const Field& field, std::span<const float> linear, Dtype dtype);

}  // namespace misa
