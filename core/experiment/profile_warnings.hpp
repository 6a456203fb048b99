#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/measure/device_watch.hpp"
#include "core/measure/sampler.hpp"
#include "core/report/report.hpp"

// What makes the numbers of a profile doubtful.
namespace misa {

/// Threads of the host wait for a core even in an empty parallel region.
bool busy(const std::optional<Roofs>& roofs);
void warn_if_busy(const std::optional<Roofs>& roofs, std::vector<Warning>& warnings);
void warn_if_throttled(const std::optional<DeviceRecord>& device, std::vector<Warning>& warnings);
/// Warns of other work that shared the host's cores. `roofs_loaded` says what disturbed the peaks.
void warn_if_loaded(const ReportMeasurement& measurement, const std::optional<std::string>& roofs_loaded,
                    std::vector<Warning>& warnings);

/// Warns of a budget that ended sampling before there were as many samples as were asked for; where no number was
/// asked for, before there were enough.
void warn_if_cut(const SampleSet& samples, std::optional<i64> asked, double budget_seconds,
                 std::vector<Warning>& warnings);

}  // namespace misa
