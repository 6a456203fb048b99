#include "core/report/niah_report.hpp"

#include <algorithm>
#include <cstddef>

namespace misa {

std::optional<double> NiahMap::mean() const {
  double sum = 0;
  i64 needles = 0;
  for (const auto& column : cells) {
    for (const std::optional<NiahCell>& cell : column) {
      if (!cell) continue;
      sum += cell->mean * static_cast<double>(cell->needles);
      needles += cell->needles;
    }
  }
  return needles == 0 ? std::nullopt : std::optional(sum / static_cast<double>(needles));
}

std::optional<NiahWorst> NiahMap::worst(const std::vector<i64>& contexts, const std::vector<double>& depths) const {
  std::optional<NiahWorst> found;
  for (std::size_t c = 0; c < cells.size(); ++c) {
    for (std::size_t d = 0; d < cells[c].size(); ++d) {
      const std::optional<NiahCell>& cell = cells[c][d];
      if (!cell || (found && cell->worst >= found->share)) continue;
      found = NiahWorst{.context = contexts[c], .depth = depths[d], .share = cell->worst};
    }
  }
  return found;
}

bool NiahReport::knows_any() const {
  return std::any_of(maps.begin(), maps.end(), [](const NiahMap& map) { return map.mean().has_value(); });
}

}  // namespace misa
