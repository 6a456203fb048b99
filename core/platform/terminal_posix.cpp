#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

#include "core/platform/terminal.hpp"

namespace misa {
namespace {

int handle_of(StandardStream stream) { return stream == StandardStream::output ? STDOUT_FILENO : STDERR_FILENO; }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

bool is_terminal(StandardStream stream) { return isatty(handle_of(stream)) == 1; }

int terminal_width(StandardStream stream, int fallback) {
  winsize size{};
  if (!is_terminal(stream) || ioctl(handle_of(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return fallback;
  return size.ws_col;
}

TerminalFacts terminal_facts(StandardStream stream) {
  return {.is_terminal = is_terminal(stream),
          .no_color = environment("NO_COLOR"),
          .term = environment("TERM"),
          .ci = environment("CI")};
}

}  // namespace misa
