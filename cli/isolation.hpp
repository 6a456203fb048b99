#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/indexer/spec.hpp"
#include "core/platform/child.hpp"

// Plug-ins are loaded by this program in a process of its own.

namespace misa::cli {

/// This program with `arguments`, in a process that can load `backend`: a plug-in. Error(unavailable) where that is a
/// Python file and Python or its package are not there.
ChildCommand program_again(std::string_view backend, const std::vector<std::string>& arguments);

/// The options that make an indexer like `spec`.
std::vector<std::string> arguments_of(const IndexerSpec& spec);

}  // namespace misa::cli
