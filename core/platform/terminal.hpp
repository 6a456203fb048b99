#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace misa {

/// The two streams a person may be looking at.
enum class StandardStream { output, error };

bool is_terminal(StandardStream stream);

/// Columns of the terminal that `stream` writes to; `fallback` if it is no terminal or does not say.
int terminal_width(StandardStream stream, int fallback = 100);

/// --color
enum class ColourMode { automatic, always, never };

/// "auto", "always" or "never".
inline std::optional<ColourMode> find_colour_mode(std::string_view name) {
  if (name == "auto") return ColourMode::automatic;
  if (name == "always") return ColourMode::always;
  if (name == "never") return ColourMode::never;
  return std::nullopt;
}

/// What colour and progress depend on, besides the option. Unset environment variables are empty.
struct TerminalFacts {
  bool is_terminal = false;
  std::string no_color, term, ci;  ///< $NO_COLOR, $TERM, $CI
};

TerminalFacts terminal_facts(StandardStream stream);

/// Progress is for people: a terminal that can move its cursor, outside CI.
inline bool shows_progress(const TerminalFacts& facts) {
  return facts.is_terminal && facts.ci.empty() && facts.term != "dumb";
}

/// The option wins; `automatic` means colour where progress would be shown, unless $NO_COLOR is non-empty
/// (no-color.org).
inline bool uses_colour(ColourMode mode, const TerminalFacts& facts) {
  if (mode != ColourMode::automatic) return mode == ColourMode::always;
  return facts.no_color.empty() && shows_progress(facts);
}

}  // namespace misa
