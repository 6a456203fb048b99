#pragma once

#include <string>
#include <vector>

#include "core/base/types.hpp"

namespace misa::cli {

/// The counts that an option names, in the order in which it names them: "4096", "4k,8k,16k", "4k:128k:*2" (4k, 8k,
/// ..., 128k) and "1k:4k:+1k" (1k, 2k, 3k, 4k), or several of these with commas between them. A range ends at its last
/// count or before it. Error(usage) MP-E550: no such list, a count below `least`, one that occurs twice, more than 1024
/// of them; `option` is named.
std::vector<i64> counts_of(const std::string& option, const std::string& text, i64 least = 1);

}  // namespace misa::cli
