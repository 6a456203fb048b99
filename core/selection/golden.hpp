#pragma once

#include <map>
#include <string>

#include "core/indexer/spec.hpp"
#include "core/selection/selection.hpp"
#include "core/workload/workload.hpp"

// Goldens: selections on file, to compare with where the device they came from is not. A golden is a selection file
// (docs/traces.md) whose metadata says what it was made from: golden = misa-golden/1, input_hash, indexer, the
// indexer's parameters, backend, backend_description, arithmetic, tool_version, commit; and made_with, the options that
// name workload and indexer, where a command wrote it.

namespace misa {

/// The metadata that ties a selection to its indexer and inputs.
std::map<std::string, std::string> golden_facts(const IndexerSpec& spec, const Workload& workload);

/// Writes `selection`. `facts` adds to golden_facts. `as_it_is`: also what read_golden would refuse.
void write_golden(const std::string& path, const Workload& workload, const IndexerSpec& spec,
                  const Selection& selection, const std::map<std::string, std::string>& facts, bool as_it_is = false);

/// Reads the golden at `path`. Error(input): not a selection, no or another golden schema (MP-E602), made from other
/// inputs (MP-E603) or by another indexer or other parameters than `spec` (MP-E604); Error(runtime): its tensors take
/// more than `max_bytes`. `as_it_is`: also ids that are no selection.
Selection read_golden(const std::string& path, const Workload& workload, const IndexerSpec& spec,
                      i64 max_bytes = i64{1} << 32, bool as_it_is = false);

/// The metadata of the golden at `path`. Error(input) as above.
std::map<std::string, std::string> golden_metadata(const std::string& path);

}  // namespace misa
