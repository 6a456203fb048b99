#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "core/indexer/backend.hpp"

namespace misa {

/// A workload on a backend: device views, and what the host must know of it to plan.
struct Problem {
  Queries queries;
  KeyCache keys;
  Windows windows;
  View<const float, 2> norms;       ///< [M, H] query norms before quantisation; empty: not recorded
  std::optional<Candidates> given;  ///< what the workload brings to be scored in place of whole windows

  std::vector<i32> sequence, begin, end;  ///< [M] host copies of `windows`
  std::vector<i32> lengths;               ///< [sequences] keys of each, of paged keys; else empty
  std::vector<i32> given_keys;            ///< [M] keys that a row sees among what is given; empty: nothing is given
  i64 given_runs = 0, given_length = 1;   ///< runs of a row, and keys of a run
  Shape shape;

  i64 bytes = 0;  ///< placed on the backend
};

/// `count` rows from `first` on, over the same keys: a problem of its own.
inline Problem slice(const Problem& problem, i64 first, i64 count) {
  const auto part = [&](const std::vector<i32>& values) {
    return std::vector<i32>(values.begin() + first, values.begin() + first + count);
  };
  Problem rows = problem;
  rows.queries = slice(problem.queries, first, count);
  rows.windows = slice(problem.windows, first, count);
  if (!problem.norms.empty()) rows.norms = problem.norms.slice(first, count);
  if (problem.given) {
    rows.given = {problem.given->runs.slice(first, count), problem.given->origin.slice(first, count),
                  problem.given->length};
  }
  rows.sequence = part(problem.sequence);
  rows.begin = part(problem.begin);
  rows.end = part(problem.end);
  if (!problem.given_keys.empty()) rows.given_keys = part(problem.given_keys);
  rows.shape.rows = count;
  return rows;
}

/// Rows [first, last) of a problem.
struct RowRange {
  i64 first = 0, last = 0;
};

/// The rows that keep the same heads as row m where heads are routed for `group` rows at once: those of
/// [i * group, (i + 1) * group) that are of row m's sequence.
inline RowRange group_of(const Problem& problem, i64 group, i64 m) {
  const i64 begin = m / group * group, end = std::min(problem.shape.rows, begin + group);
  const auto sequence = [&](i64 row) { return problem.sequence[static_cast<std::size_t>(row)]; };
  RowRange range{m, m + 1};
  while (range.first > begin && sequence(range.first - 1) == sequence(m)) --range.first;
  while (range.last < end && sequence(range.last) == sequence(m)) ++range.last;
  return range;
}

}  // namespace misa
