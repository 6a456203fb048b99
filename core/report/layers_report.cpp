#include "core/report/layers_report.hpp"

#include <algorithm>

namespace misa {
namespace {

/// A mean of what is known of all; empty where it is not known of one.
class MeanOfLayers {
 public:
  void add(std::optional<double> value) {
    known_ = known_ && value.has_value();
    sum_ += value.value_or(0);
    ++count_;
  }
  std::optional<double> value() const { return known_ && count_ > 0 ? std::optional(sum_ / count_) : std::nullopt; }

 private:
  double sum_ = 0;
  int count_ = 0;
  bool known_ = true;
};

const LayerCase* find_case(const Layer& layer, const std::string& indexer) {
  const auto found = std::find_if(layer.cases.begin(), layer.cases.end(),
                                  [&](const LayerCase& one) { return one.indexer == indexer; });
  return found == layer.cases.end() ? nullptr : &*found;
}

/// Nothing where a layer did not time the indexer, or a layer that shall reuse a selection cannot.
std::optional<LayersSum> sum_of(const LayersReport& report, const std::string& indexer, i64 period) {
  LayersSum sum{.indexer = indexer, .period = period};
  MeanOfLayers recall, mass;
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    const LayerCase* one = find_case(report.layers[i], indexer);
    const bool reuses = static_cast<i64>(i) % period != 0;
    if (one == nullptr || !one->seconds || (reuses && !one->reused)) return std::nullopt;
    const Kept& kept = reuses ? *one->reused : one->kept;
    if (!reuses) sum.seconds += *one->seconds;
    recall.add(kept.recall);
    mass.add(kept.attention_mass);
  }
  sum.kept = {recall.value(), mass.value()};
  return sum;
}

}  // namespace

std::vector<LayersSum> sums_of(const LayersReport& report) {
  std::vector<LayersSum> sums;
  if (report.layers.empty()) return sums;
  const std::optional<LayersSum> dsa = sum_of(report, "dsa", 1);
  for (const i64 period : {1, 2}) {
    if (period > static_cast<i64>(report.layers.size())) break;
    for (const LayerCase& one : report.layers.front().cases) {
      std::optional<LayersSum> sum = sum_of(report, one.indexer, period);
      if (!sum) continue;
      if (dsa && sum->seconds > 0) sum->speedup_over_dsa = dsa->seconds / sum->seconds;
      sums.push_back(std::move(*sum));
    }
  }
  return sums;
}

}  // namespace misa
