#pragma once

#include <string>
#include <string_view>
#include <vector>

// Backends that are programs of the user's: `exec:` and a command line.

namespace misa::cli {

/// Whether `backend` is `exec:` and a command line.
bool is_program(std::string_view backend);

/// The words of `text` as a shell divides them: by blanks, but for what is in '...' or "..." or behind a backslash.
/// Nothing else has a meaning. `open_quote`: the quote that is not closed, or 0.
std::vector<std::string> shell_words(std::string_view text, char& open_quote);

/// The words of the command line of `exec:`. Error(usage) MP-E066 for a quote that is not closed, no word, or a
/// line without {trace} and {selection}.
std::vector<std::string> program_words(std::string_view backend);

}  // namespace misa::cli
