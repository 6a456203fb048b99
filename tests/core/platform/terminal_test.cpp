#include "core/platform/terminal.hpp"

#include <doctest/doctest.h>

namespace misa {
namespace {

TerminalFacts facts(bool terminal, const char* no_color = "", const char* term = "xterm", const char* ci = "") {
  return {.is_terminal = terminal, .no_color = no_color, .term = term, .ci = ci};
}

}  // namespace

TEST_CASE("colour is automatic on a terminal that can show it") {
  CHECK(uses_colour(ColourMode::automatic, facts(true)));
  CHECK_FALSE(uses_colour(ColourMode::automatic, facts(false)));
  CHECK_FALSE(uses_colour(ColourMode::automatic, facts(true, "1")));
  CHECK(uses_colour(ColourMode::automatic, facts(true, "")));
  CHECK_FALSE(uses_colour(ColourMode::automatic, facts(true, "", "dumb")));
  CHECK_FALSE(uses_colour(ColourMode::automatic, facts(true, "", "xterm", "true")));
}

TEST_CASE("the option wins over everything") {
  CHECK(uses_colour(ColourMode::always, facts(false, "1", "dumb", "true")));
  CHECK_FALSE(uses_colour(ColourMode::never, facts(true)));
  CHECK(find_colour_mode("auto") == ColourMode::automatic);
  CHECK(find_colour_mode("always") == ColourMode::always);
  CHECK(find_colour_mode("never") == ColourMode::never);
  CHECK_FALSE(find_colour_mode("Always").has_value());
}

TEST_CASE("progress needs a terminal, outside CI; NO_COLOR does not forbid it") {
  CHECK(shows_progress(facts(true, "1")));
  CHECK_FALSE(shows_progress(facts(false)));
  CHECK_FALSE(shows_progress(facts(true, "", "dumb")));
  CHECK_FALSE(shows_progress(facts(true, "", "xterm", "1")));
}

TEST_CASE("a stream that is no terminal has the fallback's width") {
  if (!is_terminal(StandardStream::output)) CHECK(terminal_width(StandardStream::output, 77) == 77);
}

}  // namespace misa
