#pragma once

#include <string>
#include <string_view>

#include "backends/plugin/misa_kernel.h"

namespace misa {

/// Kernels that whoever loaded the program hands to it in place of a file: `plugin:NAME` finds them by their name. To
/// be called before the program begins.
void give_kernels(std::string name, misa_kernels_function kernels);

/// Null where none of this name were given.
misa_kernels_function given_kernels(std::string_view name);

}  // namespace misa
