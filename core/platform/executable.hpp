#pragma once

#include <string>

namespace misa {

/// The path of the running program; empty when the system does not say.
std::string executable_path();

}  // namespace misa
