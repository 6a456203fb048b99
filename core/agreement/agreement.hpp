#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/selection/selection.hpp"

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
  duplicate,       ///< an id is repeated
  order,           ///< ids do not ascend
  padding,         ///< a pad comes before an id, or is not -1
  truncated,       ///< fewer ids than there are to choose
  out_of_range,    ///< no such head, block or token
  out_of_window,   ///< a token that the row does not see
  not_offered,     ///< a token outside of the chosen blocks or candidates
  unreachable,     ///< no page of the key cache holds the token
  not_a_number,    ///< a NaN score where the other side has a number
  forced_missing,  ///< a token that every selection holds, whatever it scores, is not there
};

constexpr std::array<std::string_view, 10> kFaultNames{"duplicate",    "order",         "padding",     "truncated",
                                                       "out-of-range", "out-of-window", "not-offered", "unreachable",
                                                       "not-a-number", "forced-missing"};
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

/// A row whose recorded selection holds a token that exact scores leave out.
struct Difference {
  i64 row = 0;
  i64 tokens = 0;                    ///< tokens of the row that the exact selection does not hold
  i64 token = 0;                     ///< of these, the one that scores lowest
  i64 id = 0;                        ///< what the recorded selection calls it
  i64 rank = 0;                      ///< its rank in the exact order, from 0
  double score = 0, last_score = 0;  ///< its exact score, and that of the last token that belongs
  std::optional<double> bound = {};  ///< how far apart rounding could have brought the two; nothing: not known
};

/// How many misses, violations or differences are listed; the rest are counted.
constexpr i64 kListed = 100;

/// A choice, over all rows.
struct ChoiceAgreement {
  Choice choice = Choice::tokens;
  i64 rows = 0;                                      ///< compared
  i64 trivial = 0;                                   ///< of them: everything on offer had to be taken
  std::array<i64, kVerdictNames.size()> verdicts{};  ///< rows, by Verdict
  std::vector<Verdict> row_verdicts;
  std::vector<Miss> misses;  ///< the first kListed
  std::vector<Violation> violations;
  std::vector<Difference> differences;  ///< of a recorded selection: the first kListed of the rows that differ
  i64 differing = 0;                    ///< how many there are
  i64 missed = 0, violated = 0;         ///< how many there are
  double mass_lost = 0;                 ///< worst row: share of the sum of |exact scores| of the right selection
  double largest_share = 0;             ///< largest difference that was found in proportion to its bound (scores)
  std::string reason;                   ///< why no row was compared; empty: some were

  i64 count(Verdict verdict) const { return verdicts[static_cast<std::size_t>(verdict)]; }
  /// Counts it, and lists it while there is room.
  void add(const Miss& miss);
  void add(const Violation& violation);
  void add(const Difference& difference);
};

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

enum class Conclusion : u8 { passed, failed, inconclusive, nothing };
constexpr std::string_view conclusion_name(Conclusion conclusion) {
  constexpr std::array<std::string_view, 4> kNames{"passed", "failed", "inconclusive", "nothing"};
  return kNames[static_cast<std::size_t>(conclusion)];
}

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

}  // namespace misa
