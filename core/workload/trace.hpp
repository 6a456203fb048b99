#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/indexer/spec.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/workload.hpp"

// Recorded workloads: misa-trace/1, a safetensors file per (layer, phase). docs/traces.md is its description.

namespace misa {

/// Reads and checks a recorded workload. `max_bytes` bounds the tensors' memory. What is suspicious but not wrong
/// goes to `warnings`. Error(input) with an id of its own for everything docs/traces.md says is refused. `layer`: the
/// one to read of a file that holds several; MP-E567 where it has none of that number, or several and none is named.
Workload read_trace(const std::string& path, i64 max_bytes, std::vector<Warning>* warnings = nullptr,
                    std::optional<i64> layer = {});

/// The numbers of the layers that a file holds, ascending: those of its tensors "layers.N.NAME". Empty: it is a trace
/// of one.
std::vector<i64> trace_layers(const SafetensorsHeader& header);

/// Writes `workload` so that read_trace gives it back, every tensor byte for byte (`name` becomes the file's stem).
/// Checks it first, as read_trace would: a file that is written can be read.
void write_trace(const std::string& path, const Workload& workload);

/// Writes what an indexer is given and no more: no recorded selection, attention mass or needles. How many tokens
/// `spec` keeps and forces is in the metadata.
void write_inputs(const std::string& path, const Workload& workload, const IndexerSpec& spec);

/// Refuses what docs/traces.md forbids: shapes, windows and values, all that read_trace demands. `where` is for
/// messages. Error(input).
void check_workload(const Workload& workload, const std::string& where);

/// Throws Error(input) when a contiguous key that no row sees is not a finite number. Such keys are legal, but block
/// window `upstream` averages them.
void check_unseen_keys(const Workload& workload, const std::string& where);

}  // namespace misa
