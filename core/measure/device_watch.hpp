#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/indexer/backend.hpp"

namespace misa {

/// How a device stood while it was measured.
struct DeviceRecord {
  DeviceState before, after;                               ///< all samples
  std::optional<double> sm_clock_min_hz, sm_clock_max_hz;  ///< over the samples
  std::vector<std::string> throttled;                      ///< everything that slowed it down in a sample, each once

  /// (max - min) / max of the samples' clock; 0 where it is not known.
  double clock_drift() const;
};

/// A result is suspect when its clock drifted by more than this.
constexpr double kClockTolerance = 0.03;

/// Reads the state of a backend's device: before the samples, after each, and after all. Asks only, sets nothing. The
/// clock before the samples counts for nothing else, for an idle device is slow.
class DeviceWatch {
 public:
  explicit DeviceWatch(Backend& backend);

  void sampled();
  /// Nothing where no driver tells.
  std::optional<DeviceRecord> finish();

 private:
  Backend& backend_;
  std::optional<DeviceRecord> record_;
};

}  // namespace misa
