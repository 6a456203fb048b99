#include "core/experiment/layers.hpp"

#include <utility>

#include "core/indexer/plan.hpp"
#include "core/quality/quality.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/placement.hpp"

namespace misa {
namespace {

Kept kept_of(const Quality& quality) { return {quality.recall.mean, quality.attention_mass}; }

SelectedTokens tokens_in(const HostTensor& selected, std::string_view name) {
  return {selected.span<const i32>(), selected.shape.at(1), name};
}

/// What dsa selects in as many places as a second pass has candidates.
HostTensor candidates_of(const ProfileRequest& request) {
  IndexerSettings settings = request.settings;
  settings.top_k = settings.candidates.value_or(4 * settings.top_k);
  const Placement placement(request.backend, request.workload);
  Plan dsa(request.backend, make_indexer("dsa", settings), placement.problem(), {.max_bytes = request.memory.host});
  dsa.run(nullptr);
  return fetch_tokens(request.backend, dsa);
}

}  // namespace

bool LayersProfile::give(Workload& workload) const {
  if (candidates_.empty() || ks_ != workload.ks || ke_ != workload.ke) return false;
  workload.candidates = candidates_.copy();
  workload.candidate_length = 1;
  return true;
}

void LayersProfile::add(const std::string& name, ProfileRequest request) {
  std::map<std::string, HostTensor> selected;
  request.sinks.selected = [&](const IndexerSpec& spec, const Selection& selection) {
    selected[spec.name] = selection[Choice::tokens].copy();
  };
  const Workload& workload = request.workload;
  const Report profiled = profile(request);
  report_.environment = profiled.environment;
  report_.tool_version = profiled.tool_version;
  report_.interrupted = report_.interrupted || profiled.interrupted;
  for (Warning warning : profiled.warnings) {
    warning.where = warning.where.empty() ? name : name + ", " + warning.where;
    report_.warnings.push_back(std::move(warning));
  }
  for (const Refusal& one : profiled.skipped) {
    report_.skipped.push_back(name + ": " + one.indexer + ": " + one.reason);
  }
  Layer& layer = report_.layers.emplace_back(Layer{
      .name = name, .rows = workload.rows(), .heads = workload.heads(), .top_k = request.settings.top_k, .cases = {}});
  const auto dsa = selected.find("dsa");
  const bool same_rows = ks_ == workload.ks && ke_ == workload.ke;
  for (const ReportCase& one : profiled.cases) {
    LayerCase& added = layer.cases.emplace_back(LayerCase{.indexer = one.spec.name});
    if (one.end_to_end) added.seconds = one.end_to_end->median;
    if (one.quality) added.kept = kept_of(*one.quality);
    if (dsa == selected.end()) continue;
    const SelectedTokens wanted = tokens_in(dsa->second, "dsa");
    if (one.spec.name == "dsa") added.kept = kept_of(compare_selections(workload, wanted, wanted));
    const auto before = selected_.find(one.spec.name);
    if (!same_rows || before == selected_.end() || before->second.shape != dsa->second.shape) continue;
    added.reused = kept_of(compare_selections(workload, wanted, tokens_in(before->second, one.spec.name)));
  }
  candidates_ = gives_ && !profiled.interrupted ? candidates_of(request) : HostTensor();
  selected_ = std::move(selected);
  ks_ = workload.ks;
  ke_ = workload.ke;
}

}  // namespace misa
