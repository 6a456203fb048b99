#include "core/experiment/describe.hpp"

#include <algorithm>
#include <set>

#include "core/base/decimal.hpp"
#include "core/platform/load.hpp"
#include "core/platform/system.hpp"
#include "core/workload/placement.hpp"

namespace misa {

namespace {

ReportContext spread_of(std::vector<i64> counts) {
  std::sort(counts.begin(), counts.end());
  const std::size_t half = counts.size() / 2;
  const i64 median = counts.size() % 2 == 1 ? counts[half] : (counts[half - 1] + counts[half]) / 2;
  return {counts.front(), median, counts.back()};
}

}  // namespace

ReportWorkload describe_workload(const Workload& workload, i64 top_k, const Origin& origin) {
  const auto metadata = [&](const char* key) {
    const auto found = workload.metadata.find(key);
    return found == workload.metadata.end() ? std::string() : found->second;
  };
  const Shape shape = shape_of(workload);
  ReportWorkload described;
  described.name = workload.name;
  described.provenance = metadata("provenance");
  described.model = metadata("model");
  const auto layers = whole_number_of(metadata("layers")), indexer_layers = whole_number_of(metadata("indexer_layers"));
  if (layers && indexer_layers && *indexer_layers <= *layers && *layers <= 10000) {
    described.layers = static_cast<i64>(*layers);
    described.indexer_layers = static_cast<i64>(*indexer_layers);
  }
  described.phase = metadata("phase");
  if (std::string preset = metadata("preset"); !preset.empty()) described.preset = std::move(preset);
  described.rows = shape.rows;
  described.heads = shape.heads;
  described.head_dim = shape.head_dim;
  described.keys = shape.keys;
  described.top_k = top_k;
  described.top_k_source = origin.top_k_asked ? "option" : default_top_k(workload).source;
  described.sequences = static_cast<i64>(std::set<i32>(workload.sequence.begin(), workload.sequence.end()).size());
  described.dtype = shape.dtype;
  described.paged = shape.paged;
  described.compress_ratio = workload.compress_ratio;
  std::vector<i64> keys, tokens;
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    keys.push_back(workload.ke[m] - workload.ks[m]);
    tokens.push_back(workload.compress_ratio == 1 ? keys.back() : workload.q_pos[m] + 1);
  }
  for (const i64 visible : keys) described.pairs += visible;
  described.visible = spread_of(std::move(keys));
  described.context = spread_of(std::move(tokens));
  if (origin.seed) described.seed = std::to_string(*origin.seed);
  described.trace_path = origin.trace_path;
  return described;
}

ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, const Origin& origin,
                                       std::optional<Dtype> roofs_of) {
  ReportEnvironment environment;
  environment.machine = system_info();
  environment.threads = threads;
  environment.load_average = read_load().load_average;
  environment.timestamp_utc = utc_timestamp();
  if (origin.host) environment.host = host_name();
  environment.build = origin.build;
  for (Backend* backend : backends) {
    environment.backends.push_back({.name = std::string(backend->name()), .description = backend->description()});
    if (!roofs_of) continue;
    environment.backends.back().roofs = backend->roofs();
    environment.backends.back().elements = *roofs_of;
  }
  return environment;
}

std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape, const Origin& origin) {
  const ReportBuild& build = origin.build;
  return {{"backend", std::string(backend.name())},
          {"backend_description", backend.description()},
          {"arithmetic", arithmetic_name(backend.arithmetic(shape))},
          {"tool_version", origin.tool_version},
          {"commit", build.commit.empty() ? "unknown" : build.commit + (build.changed ? "-dirty" : "")}};
}

}  // namespace misa
