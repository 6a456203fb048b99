#pragma once

#include <atomic>

namespace misa {

/// Set once, by the first SIGINT or SIGTERM (core/platform/signals.hpp).
inline std::atomic<bool> interruption{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

/// Whether the work under way shall end. A load: cheap enough for each tile and row.
inline bool interrupted() noexcept { return interruption.load(std::memory_order_relaxed); }

/// Ends work that is not whole, so that nobody takes what it has written for a result. Not an Error: what was done
/// before stays, and the program ends by the signal.
struct Interrupted {};

/// Throws Interrupted once the work shall end. An OpenMP loop cannot be left by an exception: it skips what is left of
/// it while interrupted(), and calls this after its region.
inline void stop_if_interrupted() {
  if (interrupted()) throw Interrupted();
}

}  // namespace misa
