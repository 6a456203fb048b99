#include "core/measure/roofline.hpp"

namespace misa {

std::optional<Roofline> roofline(double seconds, const StageCost& cost, const Roofs& roofs, Dtype dtype,
                                 bool recorded) {
  const double peak = roofs.flops_of(dtype);
  const double launch = recorded ? roofs.recorded_launch_seconds : roofs.launch_seconds;
  if (!(seconds > 0 && roofs.bytes_per_second > 0 && launch > 0) || (cost.flops > 0 && !(peak > 0))) {
    return std::nullopt;
  }
  Roofline line{.floor_seconds = cost.flops > 0 ? static_cast<double>(cost.flops) / peak : 0,
                .fraction = 0,
                .bound = Bound::compute};
  const double memory = static_cast<double>(cost.bytes) / roofs.bytes_per_second;
  if (memory > line.floor_seconds) line = {.floor_seconds = memory, .fraction = 0, .bound = Bound::memory};
  if (launch > line.floor_seconds) {
    line = {.floor_seconds = launch, .fraction = 0, .bound = Bound::latency};
  }
  line.fraction = line.floor_seconds / seconds;
  return line;
}

}  // namespace misa
