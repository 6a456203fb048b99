#include "cli/planned.hpp"

#include <utility>

#include "backends/backends.hpp"
#include "cli/workload_options.hpp"
#include "core/experiment/memory.hpp"
#include "core/indexer/dry_backend.hpp"
#include "core/indexer/runnable.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {

DrySide dry_side(const std::string& backend, i64 threads, int device, const ForcedKernels& kernels) {
  DrySide side;
  side.name = backend;
  i64 workspace = kWorkspaceBytes;
  for (const BackendInfo& info : backends()) {
    if (info.name != backend) continue;
    workspace = info.workspace_bytes;
    side.absent = info.why_absent(device).value_or("");
  }
  const bool present = side.absent.empty();
  side.like = make_backend(present ? backend : "cpu", static_cast<int>(threads), present ? device : 0,
                           present ? kernels : ForcedKernels{});
  if (is_plugin(backend)) workspace = side.like->workspace_bytes();
  side.backend = std::make_unique<DryBackend>(*side.like, workspace);
  return side;
}

std::string planned_text(std::vector<PlannedRun> runs, const std::vector<DrySide>& sides) {
  std::string text;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (i < sides.size()) {
      runs[i].backend = sides[i].name;
      runs[i].absent = sides[i].absent;
    }
    text += runs[i].text();
  }
  return text;
}

PlannedRun plan_profile(const WorkloadOptions& workload_options, const IndexerOptions& indexer_options,
                        const std::string& backend_name, i64 threads, int device, bool fusion,
                        const GivenOptions& given, RunFacts facts) {
  const DrySide side = dry_side(backend_name, threads, device);
  std::vector<Warning> warnings;
  const Workload workload = workload_options.load(&warnings);
  const IndexerSettings settings = indexer_options.settings(workload, workload_options.seed);
  std::vector<Refusal> refused;  // profile says which
  facts.specs = runnable_specs(*side.backend, shape_of(workload), indexer_options.specs(settings), refused);
  const std::vector<i64> limits =
      plan_limits(workload_options.memory_limits(), *side.backend, workload, facts.specs, settings);
  facts.generated = !workload_options.recorded();
  facts.run_on(backend_name);
  for (const Warning& warning : options_without_effect(given, facts)) warnings.push_back(warning);
  for (const Warning& warning : options_cut(given, facts.specs, outline_of(workload))) warnings.push_back(warning);
  PlannedRun run = plan_run(*side.backend, workload, facts.specs, limits, fusion);
  run.backend = side.name;
  run.absent = side.absent;
  run.warnings = std::move(warnings);
  return run;
}

}  // namespace misa::cli
