#pragma once

#include <map>
#include <string>

#include "core/experiment/profile.hpp"
#include "core/report/layers_report.hpp"
#include "core/tensor/host_tensor.hpp"

namespace misa {

/// Layers of a model, profiled one after the other.
class LayersProfile {
 public:
  /// `gives`: what a layer finds is kept as candidates for the next one.
  explicit LayersProfile(bool gives = false) : gives_(gives) {}

  /// Profiles a layer, dsa among the specs of `request`, and rates in it what its indexers selected in the layer that
  /// was added before. Errors are those of profile().
  void add(const std::string& name, ProfileRequest request);

  /// Gives a workload the candidates of the layer before: what dsa selects there in as many places as a second pass has
  /// candidates, 4 k if nobody says it. False where there are none, or of other rows or windows.
  bool give(Workload& workload) const;

  LayersReport& report() { return report_; }

 private:
  LayersReport report_;
  std::map<std::string, HostTensor> selected_;  ///< by indexer, of the layer before
  std::vector<i32> ks_, ke_;                    ///< of that layer
  HostTensor candidates_;                       ///< of that layer
  bool gives_;
};

}  // namespace misa
