#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/indexer/backend.hpp"

namespace misa {

/// Why there is no cuda backend in this binary or on this machine.
std::optional<std::string> cuda_why_not();

/// Only callable when cuda_why_not() has nothing to say.
std::unique_ptr<Backend> make_cuda(int threads);

}  // namespace misa
