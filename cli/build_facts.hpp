#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/report/report.hpp"

namespace misa::cli {

/// The version of the program.
std::string_view program_version();

/// What this program was built from, and how.
ReportBuild build_facts();

/// The same for people: commit, compiler, flags, kernels and libraries, each with its value.
std::vector<std::pair<std::string, std::string>> build_lines();

}  // namespace misa::cli
