#include "core/experiment/layers.hpp"

#include <utility>

#include "core/quality/quality.hpp"

namespace misa {
namespace {

Kept kept_of(const Quality& quality) { return {quality.recall.mean, quality.attention_mass}; }

SelectedTokens tokens_in(const HostTensor& selected, std::string_view name) {
  return {selected.span<const i32>(), selected.shape.at(1), name};
}

}  // namespace

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
  selected_ = std::move(selected);
  ks_ = workload.ks;
  ke_ = workload.ke;
}

}  // namespace misa
