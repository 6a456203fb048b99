#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "core/measure/cost.hpp"
#include "core/measure/stage_timer.hpp"

namespace misa {

/// Why a figure that cannot be true came out of a measurement.
enum class Doubt {
  loaded,          ///< other work shared the cores while the times were taken
  loaded_roof,     ///< other work shared the cores while the roof was measured
  cache_resident,  ///< the data fit the cache, and the roof is that of memory
  clock,           ///< reading the clock takes a good part of the time that is measured
  noise,           ///< the samples spread so widely that it may be chance
  low_roof,        ///< none of these: the roof was measured too low
  unexplained      ///< none of these
};

/// At most nine characters, for a table: "noise", "cached", ...
std::string_view doubt_name(Doubt doubt);
/// The same as a clause: "the samples spread by more than that".
std::string_view doubt_text(Doubt doubt);

/// What is known of how times and roofs were taken.
struct Circumstances {
  bool loaded = false, roofs_loaded = false;  ///< other work shared the cores (core/measure/contention.hpp)
  double mark_seconds = 0;                    ///< that one mark adds to a time (mark_seconds() below); 0: unknown
  i64 cache_bytes = 0;                        ///< of the last level of cache; 0: unknown
};

/// Why a stage was faster than its roof allows; nothing when it was not.
std::optional<Doubt> doubt_roof(const Roofline& roof, const Summary& seconds, const StageCost& cost,
                                const Circumstances& circumstances);

/// Why the stages do not add up to the whole run within kClosureTolerance; nothing when they do.
std::optional<Doubt> doubt_closure(const Summary& whole, std::span<const StageSummary> stages,
                                   const Circumstances& circumstances);

/// What one mark of this clock takes: the median time from a mark to the next one, with nothing between them. Only for
/// clocks that do not take it off themselves.
double mark_seconds(Clock& clock);

}  // namespace misa
