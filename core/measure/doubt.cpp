#include "core/measure/doubt.hpp"

#include <array>
#include <cmath>
#include <vector>

namespace misa {
namespace {

/// Marks may add this share to a time before they explain what is odd about it.
constexpr double kMarkShare = 0.05;

struct Words {
  std::string_view name, text;
};
constexpr std::array<Words, 7> kWords{{
    {"load", "other work shared the cores"},
    {"load", "other work shared the cores while the roof was measured"},
    {"cached", "the data fit the cache, which is faster than the memory of the roof"},
    {"clock", "reading the clock takes a good part of this time"},
    {"noise", "the samples spread by more than that"},
    {"low roof", "the roof was measured too low"},
    {"unknown", "no reason was found"},
}};

}  // namespace

std::string_view doubt_name(Doubt doubt) { return kWords[static_cast<std::size_t>(doubt)].name; }
std::string_view doubt_text(Doubt doubt) { return kWords[static_cast<std::size_t>(doubt)].text; }

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
