#include "core/quality/quality.hpp"

#include <algorithm>
#include <array>

#include "core/measure/statistics.hpp"
#include "core/quality/needles.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

constexpr double kFound = 0.9;  // share of a needle that counts as found

i64 shared_tokens(std::span<const i32> a, std::span<const i32> b) {
  i64 count = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i] == b[j]) ++count;
    const bool next_a = a[i] <= b[j], next_b = b[j] <= a[i];
    i += next_a ? 1 : 0;
    j += next_b ? 1 : 0;
  }
  return count;
}

/// Sum of the recorded probabilities of row `r` over the tokens.
double attention_on(const Workload& workload, i64 r, i64 begin, std::span<const i32> tokens) {
  const i64 columns = workload.attention_mass.shape.at(1);
  const auto mass = workload.attention_mass.span<const F16>();
  double sum = 0;
  for (const i32 token : tokens) sum += to_float(mass[static_cast<std::size_t>(r * columns + begin + token)]);
  return sum;
}

/// The entry of the row of number m, which has one.
RowQuality& row_of(Quality& quality, i64 m) {
  return *std::lower_bound(quality.per_row.begin(), quality.per_row.end(), m,
                           [](const RowQuality& one, i64 row) { return one.row < row; });
}

void compare_attention(const Workload& workload, const SelectedTokens& reference, const SelectedTokens& selected,
                       Quality& quality) {
  if (workload.attention_mass.empty()) return;
  double ours = 0, theirs = 0;
  i64 rows = 0;
  for (i64 r = 0; r < static_cast<i64>(workload.attention_mass_row.size()); ++r) {
    const i64 m = workload.attention_mass_row[static_cast<std::size_t>(r)];
    if (reference.row(m).empty()) continue;
    ++rows;
    const i64 begin = workload.ks[static_cast<std::size_t>(m)];
    const double on_selected = attention_on(workload, r, begin, selected.row(m));
    const double on_reference = attention_on(workload, r, begin, reference.row(m));
    ours += on_selected;
    theirs += on_reference;
    if (on_reference > 0) row_of(quality, first_row(workload) + m).attention_mass = on_selected / on_reference;
  }
  quality.attention_rows = rows;
  if (rows == 0) return;
  quality.attention_mass_absolute = ours / static_cast<double>(rows);
  quality.reference_attention_mass = theirs / static_cast<double>(rows);
  if (theirs > 0) quality.attention_mass = ours / theirs;
}

/// Looks for the needles in both selections.
void find_needles(const Workload& workload, const SelectedTokens& reference, const SelectedTokens& selected,
                  Quality& quality) {
  const std::vector<NeedleCell> cells = needle_cells(workload, selected);
  if (cells.empty()) return;
  const auto rate = [](const std::vector<NeedleCell>& of) {
    const auto hits =
        std::count_if(of.begin(), of.end(), [](const NeedleCell& cell) { return cell.share() >= kFound; });
    return static_cast<double>(hits) / static_cast<double>(of.size());
  };
  quality.needle_cells = static_cast<i64>(cells.size());
  quality.needle_answer_cells =
      std::count_if(cells.begin(), cells.end(), [](const NeedleCell& cell) { return cell.answer; });
  quality.needle_hit_rate = rate(cells);
  quality.reference_needle_hit_rate = rate(needle_cells(workload, reference));
}

/// The tokens of a row that `by` was free to choose among, [first, last): none where it sees no more than it keeps, and
/// none either, for nobody asks, where it forces none in any row.
std::array<i32, 2> free_tokens(const SelectedTokens& by, i64 visible) {
  if (visible <= by.k || !by.forced.any()) return {0, 0};
  const Forced forced = by.forced.within(by.k);
  return {static_cast<i32>(forced.first), static_cast<i32>(visible - forced.last)};
}

/// The part of ascending tokens that lies in `range`.
std::span<const i32> within(std::span<const i32> tokens, const std::array<i32, 2>& range) {
  const auto first = std::lower_bound(tokens.begin(), tokens.end(), range[0]);
  return {first, std::lower_bound(first, tokens.end(), range[1])};
}

/// Recall over rows, in order.
class Recalls {
 public:
  void add(i64 row, double recall) {
    if (all_.empty() || recall < *found_.worst) {
      found_.worst = recall;
      found_.worst_row = row;
    }
    all_.push_back(recall);
  }
  i64 rows() const { return static_cast<i64>(all_.size()); }
  Recall summary() {
    if (all_.empty()) return found_;
    found_.mean = mean(all_);
    found_.median = median(all_);
    found_.p1 = percentile(all_, 0.01);
    return found_;
  }

 private:
  std::vector<double> all_;
  Recall found_;
};

}  // namespace

std::span<const i32> SelectedTokens::row(i64 m) const {
  const std::span<const i32> padded = tokens.subspan(static_cast<std::size_t>(m * k), static_cast<std::size_t>(k));
  return padded.first(static_cast<std::size_t>(std::find(padded.begin(), padded.end(), -1) - padded.begin()));
}

i64 ids_that_are_none(const Workload& workload, const SelectedTokens& selected) {
  i64 count = 0;
  for (i64 m = 0; m < workload.rows(); ++m) {
    const std::size_t row = static_cast<std::size_t>(m);
    const i32 seen = workload.ke[row] - workload.ks[row];
    i32 last = -1;
    bool padded = false;
    for (const i32 id :
         selected.tokens.subspan(row * static_cast<std::size_t>(selected.k), static_cast<std::size_t>(selected.k))) {
      const bool pad = id == -1;
      if (!pad && (padded || id <= last || id >= seen)) ++count;
      if (!pad) last = id;
      padded = padded || pad;
    }
  }
  return count;
}

Quality compare_selections(const Workload& workload, const SelectedTokens& reference, const SelectedTokens& selected) {
  Quality quality;
  quality.reference = reference.name;
  quality.forced = reference.forced;
  Recalls recalls, free_recalls;
  std::vector<double> overlaps, free_overlaps;
  const i64 first = first_row(workload);
  for (i64 m = 0; m < workload.rows(); ++m) {
    const std::span<const i32> wanted = reference.row(m), found = selected.row(m);
    if (wanted.empty()) continue;
    const std::size_t at = static_cast<std::size_t>(m);
    const std::array<i32, 2> range = free_tokens(reference, workload.ke[at] - workload.ks[at]);
    const std::span<const i32> free = within(wanted, range), free_found = within(found, range);
    const RowQuality& row =
        quality.per_row.emplace_back(RowQuality{.row = first + m,
                                                .wanted = static_cast<i64>(wanted.size()),
                                                .selected = static_cast<i64>(found.size()),
                                                .shared = shared_tokens(wanted, found),
                                                .free = static_cast<i64>(free.size()),
                                                .free_selected = static_cast<i64>(free_found.size()),
                                                .free_shared = shared_tokens(free, free_found),
                                                .attention_mass = {}});
    recalls.add(row.row, row.recall());
    overlaps.push_back(row.iou());
    if (row.free == 0) continue;
    free_recalls.add(row.row, row.free_recall());
    free_overlaps.push_back(row.free_iou());
  }
  quality.rows = recalls.rows();
  quality.recall = recalls.summary();
  if (quality.rows > 0) quality.iou = mean(overlaps);
  quality.free_rows = free_recalls.rows();
  quality.free_recall = free_recalls.summary();
  if (quality.free_rows > 0) quality.free_iou = mean(free_overlaps);
  compare_attention(workload, reference, selected, quality);
  find_needles(workload, reference, selected, quality);
  return quality;
}

Baselines baselines(const Workload& workload, const SelectedTokens& reference) {
  std::vector<double> chance, window;
  for (i64 m = 0; m < workload.rows(); ++m) {
    const std::span<const i32> wanted = reference.row(m);
    if (wanted.empty()) continue;
    const i64 visible = workload.ke[static_cast<std::size_t>(m)] - workload.ks[static_cast<std::size_t>(m)];
    const double count = static_cast<double>(wanted.size());
    chance.push_back(count / static_cast<double>(visible));
    const auto recent = std::lower_bound(wanted.begin(), wanted.end(), visible - reference.k);
    window.push_back(static_cast<double>(wanted.end() - recent) / count);
  }
  if (chance.empty()) return {};
  return {.chance = mean(chance), .window = mean(window)};
}

}  // namespace misa
