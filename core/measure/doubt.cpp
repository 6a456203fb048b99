#include "core/measure/doubt.hpp"

#include <cmath>
#include <vector>

namespace misa {
namespace {

/// Marks may add this share to a time before they explain what is odd about it.
constexpr double kMarkShare = 0.05;

}  // namespace

std::string_view doubt_name(Doubt doubt) {
  switch (doubt) {
    case Doubt::loaded:
    case Doubt::loaded_roof: return "load";
    case Doubt::cache_resident: return "cached";
    case Doubt::clock: return "clock";
    case Doubt::noise: return "noise";
    case Doubt::low_roof: return "low roof";
    case Doubt::unexplained: return "unknown";
  }
  return "";
}

std::string_view doubt_text(Doubt doubt) {
  switch (doubt) {
    case Doubt::loaded: return "other work shared the cores";
    case Doubt::loaded_roof: return "other work shared the cores while the roof was measured";
    case Doubt::cache_resident: return "the data fit the cache, which is faster than the memory of the roof";
    case Doubt::clock: return "reading the clock takes a good part of this time";
    case Doubt::noise: return "the samples spread by more than that";
    case Doubt::low_roof: return "the roof was measured too low";
    case Doubt::unexplained: return "no reason was found";
  }
  return "";
}

std::optional<Doubt> doubt_roof(const Roofline& roof, const Summary& seconds, const StageCost& cost,
                                const Circumstances& circumstances) {
  if (roof.fraction <= 1) return std::nullopt;
  if (circumstances.roofs_loaded) return Doubt::loaded_roof;
  if (roof.bound == Bound::memory && cost.bytes <= circumstances.cache_bytes) return Doubt::cache_resident;
  if (circumstances.mark_seconds > kMarkShare * seconds.median) return Doubt::clock;
  return seconds.p90 >= roof.floor_seconds ? Doubt::noise : Doubt::low_roof;
}

std::optional<Doubt> doubt_closure(const Summary& whole, std::span<const StageSummary> stages,
                                   const Circumstances& circumstances) {
  const double residual = closure_residual(whole.median, stages);
  if (std::abs(residual) <= kClosureTolerance) return std::nullopt;
  if (circumstances.loaded) return Doubt::loaded;
  const double marks = 2 * static_cast<double>(stages.size()) * circumstances.mark_seconds;
  if (marks > kMarkShare * whole.median) return Doubt::clock;
  double spread = whole.p90 - whole.p10;
  for (const StageSummary& stage : stages) spread += stage.seconds.p90 - stage.seconds.p10;
  return spread >= std::abs(residual * whole.median) ? Doubt::noise : Doubt::unexplained;
}

double mark_seconds(Clock& clock) {
  clock.reset();
  std::vector<double> samples;
  for (int i = 0; i < 64; ++i) {
    const int from = clock.mark();
    const int to = clock.mark();
    samples.push_back(clock.seconds(from, to));
  }
  return median(samples);
}

}  // namespace misa
