#include "core/quality/needles.hpp"

#include <algorithm>

namespace misa {

std::vector<NeedleCell> needle_cells(const Workload& workload, const SelectedTokens& selected) {
  std::vector<NeedleCell> cells;
  for (i64 m = 0; m < workload.rows(); ++m) {
    const std::size_t row = static_cast<std::size_t>(m);
    const std::span<const i32> tokens = selected.row(m);
    for (std::size_t n = 0; n < workload.needles.size(); ++n) {
      const Needle& needle = workload.needles[n];
      const i64 asked = workload.q_pos[row] - needle.question_start;
      const bool answer = needle.has_answer();
      const i64 length = answer ? needle.answer_length : needle.length;
      const i64 first = (answer ? needle.answer_start : needle.start) - workload.ks[row], last = first + length;
      const bool asks = asked >= 0 && asked < needle.question_length;
      const bool sees = first >= 0 && last <= workload.ke[row] - workload.ks[row];
      if (!asks || !sees || length == 0) continue;
      const auto begin = std::lower_bound(tokens.begin(), tokens.end(), first);
      const auto end = std::lower_bound(tokens.begin(), tokens.end(), last);
      cells.push_back(
          {.row = m, .needle = static_cast<i64>(n), .length = length, .found = end - begin, .answer = answer});
    }
  }
  return cells;
}

}  // namespace misa
