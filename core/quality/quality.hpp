#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/indexer/forced.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// Selected tokens of M rows, relative to each row's begin, ascending, -1 pads last. [M, k]
struct SelectedTokens {
  std::span<const i32> tokens;
  i64 k = 0;
  std::string_view name = {};  ///< of who selected them
  Forced forced = {};          ///< tokens that were selected whatever they score

  /// Row m without its pads.
  std::span<const i32> row(i64 m) const;
};

/// Over the rows with a token to find; empty where there is none.
struct Recall {
  std::optional<double> mean, median, p1, worst;
  std::optional<i64> worst_row;
};

/// How much of the reference's selection R a row's selection S keeps.
struct RowQuality {
  i64 row = 0;                               ///< its number: rows count from first_row of the workload
  i64 wanted = 0, selected = 0, shared = 0;  ///< |R|, |S|, |S and R|
  i64 free = 0, free_selected = 0,
      free_shared = 0;                   ///< the same without what was forced, where something is; 0: nothing was free
  std::optional<double> attention_mass;  ///< main-attention probability on S over that on R; empty: not recorded

  double recall() const { return static_cast<double>(shared) / static_cast<double>(wanted); }
  double iou() const { return static_cast<double>(shared) / static_cast<double>(wanted + selected - shared); }
  double free_recall() const { return static_cast<double>(free_shared) / static_cast<double>(free); }
  double free_iou() const {
    return static_cast<double>(free_shared) / static_cast<double>(free + free_selected - free_shared);
  }
  friend bool operator==(const RowQuality&, const RowQuality&) = default;
};

/// How much of a reference's selection another selection keeps: the quality of an approximation.
struct Quality {
  std::string reference = {};            ///< its name
  std::vector<RowQuality> per_row = {};  ///< of the rows with a token to find
  i64 rows = 0;                          ///< rows with a token to find
  Recall recall;                         ///< of row m: |S and R| / |R|
  std::optional<double> iou;             ///< mean of |S and R| / |S or R|

  Forced forced = {};       ///< of the reference; without any, the numbers below are empty
  i64 free_rows = 0;        ///< rows with a token to find that was free to choose: more tokens are seen than are kept
  Recall free_recall = {};  ///< over those rows and tokens
  std::optional<double> free_iou = {};

  i64 attention_rows = 0;                         ///< rows with a token to find that record it
  std::optional<double> attention_mass;           ///< mean main-attention probability on S over that on R
  std::optional<double> attention_mass_absolute;  ///< mean over rows of the sum over S of p
  std::optional<double> reference_attention_mass;

  i64 needle_cells = 0;                   ///< (row, needle) pairs: a row that asks for a needle it can see
  i64 needle_answer_cells = 0;            ///< of them: the workload says which of the needle's tokens are the answer
  std::optional<double> needle_hit_rate;  ///< share of cells with at least 90 % of those tokens selected
  std::optional<double> reference_needle_hit_rate = {};  ///< the same of the reference's selection

  /// What people are shown: no rate that the reference itself does not reach in half of the cells.
  bool shows_needles() const { return needle_hit_rate && reference_needle_hit_rate.value_or(1) >= 0.5; }
};

/// Ids of a selection from elsewhere that its form does not allow: no token that the row sees, one that is not after
/// the one before it, one behind a pad. compare_selections takes none of these.
i64 ids_that_are_none(const Workload& workload, const SelectedTokens& selected);

/// Compares row by row. Rows in which the reference selects nothing do not count. A needle is its answer's tokens, or
/// all of its tokens where the workload does not say which are the answer. Source: ours; the needle rule of 90 % and
/// the percentiles are in docs/measurement.md.
Quality compare_selections(const Workload& workload, const SelectedTokens& reference, const SelectedTokens& selected);

/// Recall of `reference` by two selections that look at nothing: k random tokens (mean over rows of
/// min(1, k / visible)) and the last k tokens.
/// Empty where no row has a token to find.
struct Baselines {
  std::optional<double> chance, window;
};
Baselines baselines(const Workload& workload, const SelectedTokens& reference);

}  // namespace misa
