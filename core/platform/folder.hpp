#pragma once

#include <string>

namespace misa {

/// Why files cannot be written into the folder `path`, which may have to be made first; empty: they can, as far as the
/// nearest folder above it that exists says. Nothing is made.
std::string why_no_folder(const std::string& path);

}  // namespace misa
