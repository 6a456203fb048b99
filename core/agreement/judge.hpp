#pragma once

#include <span>
#include <vector>

#include "core/agreement/agreement.hpp"
#include "core/agreement/exact_reference.hpp"

namespace misa {

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
