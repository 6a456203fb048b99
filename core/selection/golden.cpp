#include "core/selection/golden.hpp"

#include <fmt/format.h>

#include "core/base/error.hpp"
#include "core/selection/selection_file.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/safetensors.hpp"

namespace misa {
namespace {

constexpr const char *kSchema = "misa-golden/1", *kForced = "forced";

std::string value_of(const std::map<std::string, std::string>& facts, const std::string& key) {
  const auto found = facts.find(key);
  return found == facts.end() ? std::string() : found->second;
}

void check_schema(const std::map<std::string, std::string>& metadata, const std::string& path) {
  const std::string schema = value_of(metadata, "golden");
  if (schema != kSchema) {
    throw Error(ErrorKind::input, "MP-E602",
                schema.empty() ? std::string("the selection has no 'golden' in its metadata: what it was made from is "
                                             "not known")
                               : fmt::format("golden is '{}', and this program reads {}", schema, kSchema),
                path, "misa-prof compare --write-golden");
  }
}

}  // namespace

std::map<std::string, std::string> golden_facts(const IndexerSpec& spec, const Workload& workload) {
  std::map<std::string, std::string> facts{{"golden", kSchema},
                                           {"input_hash", input_hash(workload)},
                                           {"indexer", spec.name},
                                           {"top_k", std::to_string(spec.top_k)},
                                           {"block_window", std::string(block_window_name(spec.block_window))}};
  if (spec.heads) {
    facts["router"] = router_name(spec.heads->router);
    facts["active_heads"] = std::to_string(spec.heads->active);
    if (spec.heads->router == Router::pooled) facts["head_block_size"] = std::to_string(spec.heads->block_size);
    if (spec.heads->group > 1) facts["group"] = std::to_string(spec.heads->group);
    if (samples_keys(spec.heads->router)) facts["sampled_keys"] = std::to_string(spec.heads->samples);
    if (spec.heads->router == Router::random) facts["router_seed"] = std::to_string(spec.seed);
  }
  if (spec.blocks) {
    facts["blocks"] = std::to_string(spec.blocks->blocks);
    facts["block_size"] = std::to_string(spec.blocks->block_size);
  }
  if (spec.rerank) facts["candidates"] = std::to_string(spec.rerank->candidates);
  if (spec.forced.any()) facts[kForced] = fmt::format("{} first, {} last", spec.forced.first, spec.forced.last);
  return facts;
}

void write_golden(const std::string& path, const Workload& workload, const IndexerSpec& spec,
                  const Selection& selection, const std::map<std::string, std::string>& facts, bool as_it_is) {
  std::map<std::string, std::string> metadata = golden_facts(spec, workload);
  metadata["arithmetic"] = arithmetic_name(selection.arithmetic);
  metadata.insert(facts.begin(), facts.end());
  write_selection(path, workload, selection, metadata, as_it_is);
}

Selection read_golden(const std::string& path, const Workload& workload, const IndexerSpec& spec, i64 max_bytes,
                      bool as_it_is) {
  SelectionFile file = read_selection(path, max_bytes, as_it_is);
  check_schema(file.metadata, path);
  std::map<std::string, std::string> facts = golden_facts(spec, workload);
  facts.try_emplace(kForced);  // a golden that says nothing of it forces nothing
  for (const auto& [key, wanted] : facts) {
    const std::string found = value_of(file.metadata, key);
    if (found == wanted) continue;
    if (key == "input_hash") {
      throw Error(ErrorKind::input, "MP-E603",
                  fmt::format("the golden was made from inputs {}, this workload is {}",
                              found.empty() ? "unknown" : found, wanted),
                  path, "the --trace, or --model, --workload, --seed and --rows, that it was made with");
    }
    throw Error(ErrorKind::input, "MP-E604", fmt::format("the golden has {} '{}', this run '{}'", key, found, wanted),
                path, "the options that it was made with");
  }
  check_selection_fits(file, workload, path);
  Selection& selection = file.selection;
  selection.name = path;
  selection.description =
      fmt::format("{} of {} at {}: {}", value_of(file.metadata, "backend"), value_of(file.metadata, "tool_version"),
                  value_of(file.metadata, "commit"), value_of(file.metadata, "backend_description"));
  selection.arithmetic = find_arithmetic(value_of(file.metadata, "arithmetic"));
  return std::move(selection);
}

std::map<std::string, std::string> golden_metadata(const std::string& path) {
  std::map<std::string, std::string> metadata = read_safetensors_header(InputFile(path)).metadata;
  check_schema(metadata, path);
  return metadata;
}

}  // namespace misa
