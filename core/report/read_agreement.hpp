#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace misa {

/// The command line of an agreement report that write_agreement wrote as JSON. Strict: not JSON, another schema or
/// major version, no command line: Error(input) MP-E62x naming `path`.
std::vector<std::string> read_agreement_command(std::string_view json, const std::string& path);

}  // namespace misa
