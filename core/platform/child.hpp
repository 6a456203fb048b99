#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/types.hpp"

namespace misa {

/// A program that is started without a shell.
struct ChildCommand {
  std::vector<std::string> words;  ///< the program, by a path or a name that $PATH finds, and its arguments
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< added to ours, or in place of it
  std::optional<double> limit_seconds = {};                           ///< empty: it may run for ever
  /// Its output goes where ours goes. It is then told of an interruption by SIGINT and given `stop_seconds`; a program
  /// whose output is captured gets SIGTERM, as one that ran too long does.
  bool shares_streams = false;
  double stop_seconds = 2;  ///< between the signal that asks it to end and SIGKILL
  /// Asked while it runs; true ends it as one that ran too long, by SIGKILL at once. May be empty.
  std::function<bool()> is_stuck = {};
};

/// What a program wrote to one stream.
struct CapturedText {
  std::string tail;  ///< the last 64 KiB, byte for byte
  i64 bytes = 0;     ///< all that was written
};

enum class ChildEnd {
  exited,
  signalled,    ///< it ended by a signal that was not ours
  timed_out,    ///< it ran for `limit_seconds`, or was stuck, and was ended
  interrupted,  ///< our user ended the work (core/base/interrupt.hpp), and it with it
  not_started,
};

struct ChildResult {
  ChildEnd end = ChildEnd::not_started;
  int status = 0;              ///< of `exited`
  std::string signal, reason;  ///< "SIGSEGV" of `signalled`; why it was `not_started`
  double seconds = 0;
  CapturedText output, errors;  ///< standard output and standard error; empty where streams are shared
};

/// Runs a program and waits for its end. It is the first of a process group of its own, reads nothing (/dev/null) and
/// inherits no descriptor but standard output and standard error. Whatever is left of its group when it has ended is
/// killed, also where that holds its streams open. It dies with this process.
ChildResult run_child(const ChildCommand& command);

/// Kills the groups of all children; callable from a signal handler.
void kill_children() noexcept;

}  // namespace misa
