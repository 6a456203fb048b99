#pragma once

#include <span>
#include <vector>

#include "core/indexer/blocks.hpp"
#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"

namespace misa {

/// How far a number that was computed in some arithmetic may lie from the formula's value, whatever the order of its
/// operations: proven, never tuned. Every bound has the form
///
///   bound = c * k_scale * |k|_2 * sum over h of |w_h| |q_h|_2  +  underflow,      c from the arithmetic and the shape
///
/// because |sum of products| and every partial sum of a dot product are at most |q|_2 |k|_2 (Cauchy-Schwarz), and n
/// operations of unit roundoff u err by at most n u / (1 - n u) of that (Higham, Accuracy and Stability of Numerical
/// Algorithms, section 3.1). docs/agreement.md derives c. Infinite where an intermediate may overflow.
class Bounds {
 public:
  /// `problem` lies in host memory and outlives this object.
  explicit Bounds(const Problem& problem);

  /// |k_scale * k|_2 of a token, counted as its row's window counts.
  double key_norm(i64 sequence, i64 token) const;

  /// Of a score of row m by `heads` (empty: all) against a key of norm `key`.
  double score(const Arithmetic& arithmetic, i64 m, std::span<const i32> heads, double key) const;

  /// Of the score of a block mean over tokens [begin, end).
  double block_score(const Arithmetic& arithmetic, i64 m, i64 begin, i64 end) const;

  /// Of what `router` ranks each head of row m by. [H]. `blocks` and `block_size` are of the pooled router.
  std::vector<double> energies(const Arithmetic& arithmetic, i64 m, Router router, const BlockLayout* blocks,
                               i64 block_size) const;

 private:
  double mean_key_norm(i64 m, i64 begin, i64 end) const;
  double of(const Arithmetic& arithmetic, double coefficient, double weight_times_query, double weights,
            double key) const;

  const Problem& problem_;
  std::vector<double> query_norms_;  ///< [M, H] |q|_2
  std::vector<double> key_norms_;    ///< [pages * page_size]
};

}  // namespace misa
