#pragma once

#include <string>
#include <vector>

#include "core/indexer/backend.hpp"

namespace misa {

struct Refusal {
  std::string indexer, backend, reason;
};

/// Returns the `specs` that the backend can run on a shape, in their order; `refused` gets the others, each with its
/// reason. Error(unavailable) MP-E405 when none is left.
std::vector<IndexerSpec> runnable_specs(const Backend& backend, const Shape& shape,
                                        const std::vector<IndexerSpec>& specs, std::vector<Refusal>& refused);

}  // namespace misa
