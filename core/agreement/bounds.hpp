#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "core/indexer/blocks.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"

namespace misa {

/// For each score: true if its bound makes membership in the best, which are `best` (ascending), undecidable.
std::vector<bool> left_open(std::span<const double> scores, std::span<const double> bounds, std::span<const i32> best);

/// The size of a key in a score's bound: its vector and the scale that may be applied to it or to its products.
struct KeySize {
  double vector = 0;  ///< |k|_2 before the scale
  double scale = 1;   ///< |k_scale|

  double scaled() const { return vector * scale; }
  /// The largest of the key that any order of the operations multiplies by.
  double largest() const { return vector * std::max(1.0, scale); }
  /// A NaN in the vector or the scale: every arithmetic gives NaN for what is computed from it.
  bool is_nan() const { return std::isnan(vector) || std::isnan(scale); }
  bool is_finite() const { return std::isfinite(vector) && std::isfinite(scale); }
};

/// How far a number that was computed in some arithmetic may lie from the formula's value, whatever the order of its
/// operations: proven, never tuned. Every bound has the form
///
///   bound = c * k_scale * |k|_2 * sum over h of |w_h| |q_h|_2  +  underflow,      c from the arithmetic and the shape
///
/// because |sum of products| and every partial sum of a dot product are at most |q|_2 |k|_2 (Cauchy-Schwarz), and n
/// operations of unit roundoff u err by at most n u / (1 - n u) of that (Higham, Accuracy and Stability of Numerical
/// Algorithms, section 3.1). docs/agreement.md derives c and underflow.
///
/// A bound is infinite where an intermediate of any order may exceed Arithmetic::overflow, however small the final
/// number is, and where a vector, scale or weight that is used is infinite. It is never NaN. Where a NaN among the
/// inputs makes the number NaN in every arithmetic the bound is 0.
class Bounds {
 public:
  /// `problem` lies in host memory and outlives this object.
  explicit Bounds(const Problem& problem);

  KeySize key(i64 sequence, i64 token) const;

  /// Of a score of row m by `heads` against a key, and by a linear query and its weight [D + 1] if there is one.
  /// Neither: by all heads.
  double score(const Arithmetic& arithmetic, i64 m, std::span<const i32> heads, std::span<const float> linear,
               const KeySize& key) const;

  /// Of the score of a block mean over tokens [begin, end).
  double block_score(const Arithmetic& arithmetic, i64 m, i64 begin, i64 end) const;

  /// Of what `router` ranks each head of row m by. [H]. `blocks` and `block_size` are of the pooled router; for those
  /// that sample keys: residuals, costs.
  std::vector<double> energies(const Arithmetic& arithmetic, i64 m, Router router, const BlockLayout* blocks,
                               i64 block_size) const;

  /// The bounds below are of numbers that follow from the sampled products of row m, `row` the exact ones, `samples`
  /// their layout (docs/misa-lr.md). residuals(): what linear-residual ranks heads by [H].
  std::vector<double> residuals(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples,
                                const SampledRow& row) const;
  /// What covariance drops heads by when it keeps `kept` [H], where the heads `unsure` may or may not be on the
  /// shortlist.
  std::vector<double> costs(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples, const SampledRow& row,
                            std::span<const i32> kept, const std::vector<bool>& unsure, double deviation) const;
  /// A linear query of the heads not kept, before it is rounded [D].
  std::vector<double> linear_query(const Arithmetic& arithmetic, i64 m, const BlockLayout& samples,
                                   const SampledRow& row, std::span<const i32> kept) const;

 private:
  /// Heads that are added up.
  struct Heads {
    i64 terms = 0;
    double weights = 0, queries = 0;  ///< sums of |w| and of |q|_2
    double weighted = 0;              ///< sum of |w| |q|_2
    double largest = 0;               ///< |q|_2
    bool is_nan = false;              ///< a NaN weight or query: so is the sum

    void add(double weight, double query);
  };
  /// The mean of keys [begin, end) of a row's sequence.
  struct MeanKey {
    double norm = 0;    ///< at least the norm of the mean
    double sum = 0;     ///< at least the norm of every partial sum
    double single = 0;  ///< the largest KeySize::largest, and ...
    double scale = 0;   ///< ... the largest scale
    bool is_nan = false;
  };
  Heads heads_of_row(i64 m, std::span<const i32> heads, std::span<const float> linear) const;
  MeanKey mean_key(i64 m, i64 begin, i64 end) const;
  /// The absolute error of a score by `heads`, sized as `key`, from results that are subnormal.
  double underflow(const Arithmetic& arithmetic, const Heads& heads, const KeySize& key) const;
  /// The same from stored means, with heads whose |w| |q|_2 sum to `weighted`.
  double mean_underflow(const Arithmetic& arithmetic, double weighted) const;
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

  const Problem& problem_;
  std::vector<double> query_norms_;  ///< [M, H] |q|_2
  std::vector<KeySize> key_sizes_;   ///< [pages * page_size]
};

}  // namespace misa
