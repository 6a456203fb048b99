#pragma once

#include "core/base/interrupt.hpp"

namespace misa {

/// From now on the first SIGINT or SIGTERM only makes interrupted() true: the work under way ends at its next tile or
/// row, and what was done before it is written. A second one removes the files under way, kills the children and ends
/// the process at once. SIGPIPE is ignored (writes fail instead). A SIGINT that was ignored at the start stays ignored
/// (nohup, background jobs).
void install_signal_handlers();

/// Ends the process by that signal, so that a shell sees 130 or 143. Call it last, with everything flushed.
/// Returns only when there was no signal.
void reraise_interrupt();

}  // namespace misa
