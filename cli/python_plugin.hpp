#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/platform/child.hpp"

// Plug-ins that are Python files. Their process is Python, which loads this program as a library (misa.host).

namespace misa::cli {

/// The Python that plug-ins run in: MISA_PYTHON of the environment, else that of the virtual environment which the
/// program is installed in, else python3.
std::string plugin_python();

/// Runs the program with `arguments` in Python, where `backend`, a plugin:FILE.py, is a table of FILE's functions.
/// The package misa is the one beside the profiles, else the one that Python finds. Error(unavailable) MP-E440: there
/// is no Python; MP-E441: it cannot import misa.host.
ChildCommand python_command(std::string_view backend, const std::vector<std::string>& arguments);

}  // namespace misa::cli
