#include <atomic>
#include <csignal>

#include "core/platform/child.hpp"
#include "core/platform/file.hpp"
#include "core/platform/private_folder.hpp"
#include "core/platform/signals.hpp"

namespace misa {
namespace {

// Read by every thread, written by a handler: lock-free, so that both may.
std::atomic<int> caught_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void set_handler(int signal_number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;  // a first signal must not make the writes under way fail
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

/// Ends the process by the signal; async-signal-safe.
void die_by(int signal_number) {
  set_handler(signal_number, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal_number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal_number);
}

void on_signal(int signal_number) {
  int none = 0;
  if (caught_signal.compare_exchange_strong(none, signal_number)) {
    interruption = true;
    return;
  }
  discard_uncommitted_files();
  kill_children();
  discard_private_folders();
  die_by(signal_number);
}

}  // namespace

void install_signal_handlers() {
  for (int signal_number : {SIGINT, SIGTERM}) {
    struct sigaction before {};
    sigaction(signal_number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) set_handler(signal_number, on_signal);
  }
  set_handler(SIGPIPE, SIG_IGN);
}

void reraise_interrupt() {
  if (caught_signal != 0) die_by(caught_signal);
}

}  // namespace misa
