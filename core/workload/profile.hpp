#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/workload/synthetic.hpp"

namespace misa {

constexpr i64 kLargestProfile = 1 << 20;  ///< bytes of a profile's or an options file's text

/// The indexer of a model: profiles/models/*.toml. docs/workloads.md lists the keys.
struct ModelProfile {
  std::string name, description, source;
  i64 heads = 64, head_dim = 128, top_k = 2048;
  Forced forced = {};                            ///< tokens that every selection holds: force_first, force_last
  ValueFormat format = ValueFormat::e4m3_ue8m0;  ///< of queries and keys
  i64 layers = 1;                                ///< that select with an indexer
  i64 indexer_layers = 1;                        ///< of them, how many run one of their own
  i64 compress_ratio = 1;                        ///< tokens that a key stands for
};

/// What is asked of the indexer: profiles/workloads/*.toml. docs/workloads.md lists the keys.
struct WorkloadProfile {
  std::string name, description, source;
  Phase phase = Phase::prefill;
  std::vector<i64> contexts;                 ///< tokens of each sequence; empty with `ragged`
  std::optional<std::array<i64, 2>> ragged;  ///< shortest and longest of `sequences` lengths that the seed draws
  i64 sequences = 1;
  i64 rows = 128;                     ///< prefill
  bool spread = false;                ///< prefill
  i64 next_n = 1;                     ///< decode
  i64 page_size = 64;                 ///< decode: keys
  std::optional<i64> compress_ratio;  ///< instead of the model's
  std::string preset = "natural";
  std::optional<SyntheticKnobs> knobs;  ///< the preset's with the profile's changes
  std::optional<NeedleRequest> needles;
};

/// What a command line changes about a workload profile.
struct WorkloadChanges {
  std::optional<Phase> phase =
      {};  ///< with another one, rows, next_n and page_size are those of a profile without them
  std::optional<i64> context = {};  ///< of every sequence
  std::optional<i64> sequences = {};
  std::optional<i64> rows = {};                    ///< prefill
  std::optional<i64> next_n = {}, page_size = {};  ///< decode
  std::optional<i64> compress_ratio = {};

  bool any() const { return phase || context || sequences || rows || next_n || page_size || compress_ratio; }
};

/// Profiles are strict: a syntax error, an unknown or missing key, a wrong type or a value out of range throws
/// Error(usage) MP-E30x naming file:line:column, with the nearest name where there is one. `path` is for messages; its
/// stem names a workload that has no name. Names, descriptions and sources of workloads may be left out.
ModelProfile parse_model(std::string_view text, const std::string& path);
WorkloadProfile parse_workload(std::string_view text, const std::string& path);

/// A value with a '/' or ending in ".toml" is a path, anything else the stem of a file in <directory>/models or
/// <directory>/workloads of the first directory that has it. Error(usage) MP-E301 with the nearest name otherwise.
ModelProfile load_model(std::string_view name_or_path, std::span<const std::string> directories);
WorkloadProfile load_workload(std::string_view name_or_path, std::span<const std::string> directories);

/// All profiles that load_* finds by name, sorted by name; of equal names the first directory's.
std::vector<ModelProfile> list_models(std::span<const std::string> directories);
std::vector<WorkloadProfile> list_workloads(std::span<const std::string> directories);

/// `profile` with `changes`, but for rows in its name too: "prefill-8k,context=16384". Error(usage) MP-E307 for what
/// has no meaning in its phase, or where lengths are listed one by one and `sequences` changes alone; MP-E308 for
/// lengths that no request may have.
WorkloadProfile changed(WorkloadProfile profile, const WorkloadChanges& changes);

/// The request that the two profiles describe. Throws Error(usage) as check_request does.
SyntheticRequest make_request(const ModelProfile& model, const WorkloadProfile& workload, u64 seed);

/// One `key = value` of a flat TOML file; an array gives several values. Integers, floats and booleans are spelt as a
/// command line would have them.
struct ConfigEntry {
  std::string key;
  std::vector<std::string> values;
  i64 line = 0, column = 0;  ///< of the key, from 1
  bool list = false;         ///< the value is an array
};

/// The entries of an options file in the order of the file. Whether keys exist is the caller's business; tables,
/// dates and nested arrays are Error(usage) MP-E304.
std::vector<ConfigEntry> parse_config(std::string_view text, const std::string& path);
std::vector<ConfigEntry> load_config(const std::string& path);

/// "path:line:column", for errors about an entry.
std::string location(const std::string& path, const ConfigEntry& entry);

}  // namespace misa
