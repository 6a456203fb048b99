#pragma once

#include <string>
#include <vector>

#include "core/report/json_parts.hpp"
#include "core/report/result_file.hpp"

// Sweeps that were measured in parts: by one process after another, or by several.

namespace misa {

/// What the header of a sweep has: the document without its cases and all that follows from them.
Json sweep_header(const Json& document);

/// Why two headers are not of one sweep: the first key of "tool", "axes", "zip", "options", "inputs" and "planned"
/// whose values differ; empty: they are. `with_shard`: they must be of one part, too.
std::string different_sweep(const Json& a, const Json& b, bool with_shard);

/// The warnings and the skips that the records of cases have, each once.
Json warnings_of(const std::vector<Json>& cases);
std::vector<Json> skips_of(const std::vector<Json>& cases);

/// The document of all cases of the parts. Error(input) MP-E471: they are parts of different sweeps; MP-E472: two parts
/// have a case with other results; MP-E473: cases are missing, unless `allow_missing`, where the document is then not
/// complete. Warning MP-W070: parts come from different processors.
Json merge_sweeps(const std::vector<ResultFile>& parts, bool allow_missing);

}  // namespace misa
