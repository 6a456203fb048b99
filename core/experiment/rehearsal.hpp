#pragma once

#include <optional>
#include <string>

#include "core/base/error.hpp"
#include "core/indexer/backend.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// Goes through all tasks of an indexer without doing them, where kernels are forced. Takes no memory of the backend,
/// and none of the host that is written to. Returns the refusal (MP-E406) of the first task that no forced kernel of
/// its primitive accepts.
std::optional<Error> refused_task(Backend& backend, const Workload& workload, const IndexerSpec& spec, bool fusion);

/// Why the backend cannot run an indexer: its shape, or no forced kernel accepts a task. Empty: it can.
std::optional<std::string> why_not_run(Backend& backend, const Workload& workload, const IndexerSpec& spec,
                                       bool fusion);

/// Whether kernels that were loaded beside those of the backend's base do a part of an indexer. Goes through its tasks
/// in the same way.
bool has_loaded_work(Backend& backend, const Workload& workload, const IndexerSpec& spec, bool fusion);

}  // namespace misa
