#include "core/measure/device_watch.hpp"

#include <algorithm>
#include <utility>

namespace misa {

double DeviceRecord::clock_drift() const {
  return sm_clock_max_hz && *sm_clock_max_hz > 0 ? (*sm_clock_max_hz - *sm_clock_min_hz) / *sm_clock_max_hz : 0;
}

DeviceWatch::DeviceWatch(Backend& backend) : backend_(backend) {
  if (auto state = backend.device_state()) record_.emplace().before = std::move(*state);
}

void DeviceWatch::sampled() {
  if (!record_) return;
  const std::optional<DeviceState> state = backend_.device_state();
  if (!state) return;
  if (state->sm_clock_hz) {
    record_->sm_clock_min_hz = std::min(record_->sm_clock_min_hz.value_or(*state->sm_clock_hz), *state->sm_clock_hz);
    record_->sm_clock_max_hz = std::max(record_->sm_clock_max_hz.value_or(*state->sm_clock_hz), *state->sm_clock_hz);
  }
  for (const std::string& reason : state->throttled) {
    if (std::find(record_->throttled.begin(), record_->throttled.end(), reason) == record_->throttled.end()) {
      record_->throttled.push_back(reason);
    }
  }
}

std::optional<DeviceRecord> DeviceWatch::finish() {
  if (record_) {
    if (auto state = backend_.device_state()) record_->after = std::move(*state);
  }
  return record_;
}

}  // namespace misa
