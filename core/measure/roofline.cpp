#include "core/measure/roofline.hpp"

namespace misa {

std::optional<Roofline> roofline(double seconds, const StageCost& cost, const Roofs& roofs) {
  if (!(seconds > 0 && roofs.flops_per_second > 0 && roofs.bytes_per_second > 0 && roofs.launch_seconds > 0)) {
    return std::nullopt;
  }
  Roofline line{.floor_seconds = static_cast<double>(cost.flops) / roofs.flops_per_second,
                .fraction = 0,
                .bound = Bound::compute};
  const double memory = static_cast<double>(cost.bytes) / roofs.bytes_per_second;
  if (memory > line.floor_seconds) line = {.floor_seconds = memory, .fraction = 0, .bound = Bound::memory};
  if (roofs.launch_seconds > line.floor_seconds) {
    line = {.floor_seconds = roofs.launch_seconds, .fraction = 0, .bound = Bound::latency};
  }
  line.fraction = line.floor_seconds / seconds;
  return line;
}

}  // namespace misa
