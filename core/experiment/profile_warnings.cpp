#include "core/experiment/profile_warnings.hpp"

#include <fmt/format.h>

namespace misa {
namespace {

/// An empty parallel region takes microseconds; milliseconds mean that threads wait for a core.
constexpr double kBusyLaunch = 1e-3;

}  // namespace

bool busy(const std::optional<Roofs>& roofs) { return roofs && roofs->launch_seconds >= kBusyLaunch; }

void warn_if_busy(const std::optional<Roofs>& roofs, std::vector<Warning>& warnings) {
  if (!busy(roofs)) return;
  warnings.push_back({"MP-W001", fmt::format("other work shares these cores (an empty parallel region took "
                                             "{:.1f} ms): do not trust times and roofs of this run",
                                             roofs->launch_seconds * 1e3)});
}

void warn_if_throttled(const std::optional<DeviceRecord>& device, std::vector<Warning>& warnings) {
  if (!device) return;
  if (!device->throttled.empty()) {
    warnings.push_back({"MP-W002", fmt::format("the device was slowed down while it was measured ({}): compare "
                                               "ratios of this run, not times",
                                               fmt::join(device->throttled, ", "))});
  } else if (device->clock_drift() > kClockTolerance) {
    warnings.push_back(
        {"MP-W003", fmt::format("the device's clock moved by {:.1f} % between samples: more --warm-up, or compare "
                                "ratios of this run, not times",
                                100 * device->clock_drift())});
  }
}

void warn_if_loaded(const ReportMeasurement& measurement, const std::optional<std::string>& roofs_loaded,
                    std::vector<Warning>& warnings) {
  const Contention& contention = *measurement.contention;
  if (measurement.loaded) {
    warnings.push_back({"MP-W060", fmt::format("other work shared the cores while it was measured ({}): do not trust "
                                               "times and ratios of this run",
                                               *measurement.loaded)});
  } else if (contention.clock_drift() > kCpuClockTolerance) {
    warnings.push_back({"MP-W061", fmt::format("the cores' clock moved by {:.0f} % between samples: compare ratios of "
                                               "this run, not times",
                                               100 * contention.clock_drift())});
  }
  if (roofs_loaded) {
    warnings.push_back(
        {"MP-W062", fmt::format("other work shared the cores while roofs were measured ({}): do not trust % roof",
                                *roofs_loaded)});
  }
}

void warn_if_cut(const SampleSet& samples, std::optional<i64> asked, double budget_seconds,
                 std::vector<Warning>& warnings) {
  const i64 taken = static_cast<i64>(samples.subjects.front().runs.size());
  if (!samples.cut || (!asked && taken >= kLeastRounds)) return;
  warnings.push_back({"MP-W051", fmt::format("the budget of {:g} s ended sampling after {} of {} samples of each "
                                             "indexer: --budget for more",
                                             budget_seconds, taken, asked.value_or(kLeastRounds))});
}

}  // namespace misa
