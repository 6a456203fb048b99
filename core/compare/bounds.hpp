#pragma once

#include <span>
#include <vector>

#include "core/indexer/blocks.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"

namespace misa {

/// Of each, whether `bounds` of `scores` leave open if it is among the best, which `best` (ascending) are.
std::vector<bool> left_open(std::span<const double> scores, std::span<const double> bounds, std::span<const i32> best);

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

  /// Of a score of row m by `heads` against a key of norm `key`, and by a linear query and its weight [D + 1] if there
  /// is one. Neither: by all heads.
  double score(const Arithmetic& arithmetic, i64 m, std::span<const i32> heads, std::span<const float> linear,
               double key) const;

  /// Of the score of a block mean over tokens [begin, end).
  double block_score(const Arithmetic& arithmetic, i64 m, i64 begin, i64 end) const;

  /// Of what `router` ranks each head of row m by. [H]. `blocks` and `block_size` are of the pooled router; for those
  /// that sample keys: residuals, costs.
  std::vector<double> energies(const Arithmetic& arithmetic, i64 m, Router router, const BlockLayout* blocks,
                               i64 block_size) const;

  /// Of what follows from the sampled products of row m, `row` the exact ones, `samples` their layout
  /// (docs/misa-lr.md): what linear-residual ranks heads by [H], what covariance drops them by when it keeps `kept`
  /// [H], where it is not sure that the heads `unsure` contend or do not, and a linear query of the heads not kept,
  /// before it is rounded [D].
  std::vector<double> residuals(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples,
                                const SampledRow& row) const;
  std::vector<double> costs(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples, const SampledRow& row,
                            std::span<const i32> kept, const std::vector<bool>& unsure, double deviation) const;
  std::vector<double> linear_query(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples,
                                   const SampledRow& row, std::span<const i32> kept) const;

 private:
  double mean_key_norm(i64 m, i64 begin, i64 end) const;
  /// How far sampled products, and what lines make of them, may be from the exact ones.
  struct Sampled {
    double product = 0;               ///< of a product, relative to |q|_2 |k|_2
    double sums = 0;                  ///< of a sum over samples, relative to its terms
    double key = 0, largest_key = 0;  ///< norms of the keys: root of the mean square, and the largest
    std::vector<bool> unsure;         ///< [n0] may or may not be among the samples that count
  };
  struct LineBound {
    double slope = 0, residual = 0;  ///< of the line's
    double contribution = 0;         ///< root of the mean square, of relu(x) - slope * x less its mean
  };
  Sampled sampled(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples, const SampledRow& row) const;
  LineBound line(const Arithmetic& arithmetic, i64 m, const Sampled& sampled, const SampledRow& row, i64 h) const;
  double query_norm(i64 m, i64 h) const { return query_norms_[static_cast<std::size_t>(m * problem_.shape.heads + h)]; }
  double of(const Arithmetic& arithmetic, double coefficient, double weight_times_query, double weights,
            double key) const;

  const Problem& problem_;
  std::vector<double> query_norms_;  ///< [M, H] |q|_2
  std::vector<double> key_norms_;    ///< [pages * page_size]
};

}  // namespace misa
