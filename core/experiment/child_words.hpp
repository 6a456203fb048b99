#pragma once

#include <string>

#include "core/platform/child.hpp"

// What became of a child process, for checks of a report.

namespace misa {

/// "crashed with SIGSEGV after 0.2 s"; empty: it ended with status 0. `where`: what it was doing, "in score"; may be
/// empty. Throws Interrupted where our user ended it, Error(unavailable) MP-E420 where `word` could not be started.
std::string ending_words(const ChildResult& result, const std::string& word, double limit_seconds,
                         const std::string& where = {});

/// The last lines that it wrote on standard error, each in quotes and printable: `; it wrote "...", "..."`; empty:
/// there are none.
std::string last_words(const CapturedText& errors);

}  // namespace misa
