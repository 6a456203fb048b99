#pragma once

#include <memory>

#include "core/indexer/backend.hpp"

namespace misa {

/// The formulas in double precision, one loop after another: what every other backend is measured against.
/// Dots of e4m3 vectors are exact in it. Slow on purpose.
std::unique_ptr<Backend> make_oracle(int threads, ForcedKernels forced = {});

std::vector<KernelInfo> oracle_kernels();

}  // namespace misa
