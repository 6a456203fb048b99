#include "cli/planned.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "backends/backends.hpp"
#include "core/base/error.hpp"
#include "core/experiment/memory.hpp"
#include "core/indexer/dry_backend.hpp"
#include "core/indexer/plan.hpp"
#include "core/indexer/runnable.hpp"
#include "core/report/text.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {
namespace {

/// Counts how often each stage begins.
class SpanCounter final : public Observer {
 public:
  void begin(StageSet stages) override {
    const std::string name = stage_set_name(stages);
    const auto known = std::find_if(spans.begin(), spans.end(), [&](const auto& span) { return span.first == name; });
    if (known == spans.end()) {
      spans.emplace_back(name, 1);
    } else {
      ++known->second;
    }
  }
  void end() override {}

  std::vector<std::pair<std::string, i64>> spans;
};

}  // namespace

i64 PlannedIndexer::count(const std::string& stage) const {
  const auto known = std::find_if(spans.begin(), spans.end(), [&](const auto& span) { return span.first == stage; });
  return known == spans.end() ? 0 : known->second;
}

std::string PlannedRun::text() const {
  std::string lines = fmt::format("{}: {}, {}; planned for backend {}{}\n", workload, counted(rows, "row", "rows"),
                                  binary_bytes(workload_bytes), backend,
                                  absent.empty() ? "" : fmt::format(", which is absent here ({})", absent));
  for (const PlannedIndexer& one : indexers) {
    std::vector<std::string> stages;
    for (const auto& [name, number] : one.spans)
      stages.push_back(number == 1 ? name : fmt::format("{} {}x", name, number));
    lines += fmt::format("{}: {}; {} at a time; {} of memory\n", one.name, fmt::join(stages, ", "),
                         counted(one.rows_per_chunk, "row", "rows"), binary_bytes(one.bytes));
  }
  for (const Warning& warning : warnings) lines += warning_line(warning) + "\n";
  return lines;
}

DrySide dry_side(const std::string& backend, i64 threads, int device) {
  DrySide side;
  side.name = backend;
  i64 workspace = kWorkspaceBytes;
  for (const BackendInfo& info : backends()) {
    if (info.name != backend) continue;
    workspace = info.workspace_bytes;
    side.absent = info.why_absent(device).value_or("");
  }
  const bool present = side.absent.empty();
  side.like = make_backend(present ? backend : "cpu", static_cast<int>(threads), present ? device : 0);
  side.backend = std::make_unique<DryBackend>(*side.like, workspace);
  return side;
}

PlannedIndexer plan_indexer(Backend& backend, const IndexerSpec& spec, const Problem& problem,
                            const PlanOptions& options) {
  Plan plan(backend, spec, problem, options);
  SpanCounter counter;
  plan.run(&counter);
  return {spec.name, plan.rows_per_chunk(), plan.workspace_bytes(), std::move(counter.spans)};
}

PlannedRun plan_run(const WorkloadOptions& workload_options, const IndexerOptions& indexer_options,
                    const std::string& backend_name, i64 threads, int device, bool fusion, const GivenOptions& given,
                    RunFacts facts) {
  PlannedRun run;
  run.backend = backend_name;
  const DrySide side = dry_side(backend_name, threads, device);
  Backend& backend = *side.backend;
  run.absent = side.absent;

  const Workload workload = workload_options.load(&run.warnings);
  run.workload = workload.name;
  run.rows = workload.rows();
  run.workload_bytes = Placement::bytes_needed(workload);
  const IndexerSettings settings = indexer_options.settings(workload, workload_options.seed);
  std::vector<Refusal> refused;  // profile says which
  const std::vector<IndexerSpec> specs =
      runnable_specs(backend, shape_of(workload), indexer_options.specs(settings), refused);
  const std::vector<i64> limits = plan_limits(workload_options.memory_limits(), backend, workload, specs, settings);
  const Placement placement(backend, workload);
  facts.specs = specs;
  facts.generated = !workload_options.recorded();
  facts.run_on(backend_name);
  for (const Warning& warning : options_without_effect(given, facts)) run.warnings.push_back(warning);
  for (const Warning& warning : options_cut(given, specs, placement.problem())) run.warnings.push_back(warning);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    run.indexers.push_back(plan_indexer(backend, specs[i], placement.problem(),
                                        {.max_bytes = limits[i] + placement.problem().bytes, .fusion = fusion}));
  }
  return run;
}

}  // namespace misa::cli
