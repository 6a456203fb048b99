#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/indexer/backend.hpp"

namespace misa {

/// OpenMP over tiles, GEMM by oneDNN (or by our own loop: MISA_ONEDNN=OFF). Per-head dots accumulate in f32, in the
/// order of d, sums over heads in f64: results do not depend on tiles, chunks or threads.
std::unique_ptr<Backend> make_cpu(int threads, ForcedKernels forced = {});

/// Its kernels, primitive by primitive, on every machine.
std::vector<KernelInfo> cpu_kernels();

/// Why this machine cannot run the cpu backend as it was built; nothing when it can.
std::optional<std::string> cpu_why_not();

}  // namespace misa
