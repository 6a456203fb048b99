#include "core/experiment/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/agreement/exact_reference.hpp"
#include "core/base/error.hpp"
#include "core/experiment/compare.hpp"
#include "core/indexer/plan.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/placement.hpp"

namespace misa {

i64 MemoryLimits::of(const Backend& backend) const {
  const std::optional<i64> free = backend.free_bytes();
  return free ? std::min(device.value_or(*free), *free) : host;
}

MemoryNeed memory_needed(const Backend& backend, const Workload& workload, std::vector<IndexerSpec> specs,
                         const IndexerSettings& settings) {
  const auto is_dsa = [](const IndexerSpec& spec) { return spec.name == "dsa"; };
  // The references: dsa of this k and of the recorded selection's, one after the other, where none of `specs` is it.
  const i64 recorded = workload.topk.empty() ? settings.top_k : workload.topk.shape.at(1);
  if (recorded != settings.top_k || std::none_of(specs.begin(), specs.end(), is_dsa)) {
    IndexerSettings reference = settings;
    reference.top_k = std::max(settings.top_k, recorded);
    specs.push_back(make_indexer("dsa", reference));
  }
  const Problem outline = outline_of(workload);
  MemoryNeed need{.on_host = workload.bytes(), .placed = Placement::bytes_needed(workload)};
  for (const IndexerSpec& spec : specs) {
    const PlanBytes plan = Plan::bytes_needed(backend, spec, outline);
    need.shares.push_back(plan.least());
    need.plans += plan.least();
    need.on_host += plan.host;
    need.fetched = std::max(need.fetched, 2 * selection_bytes(spec, outline.shape));
  }
  need.on_host += need.fetched;
  (backend.free_bytes() ? need.on_device : need.on_host) += need.placed + need.plans;
  return need;
}

std::vector<i64> plan_limits(const MemoryLimits& limits, const Backend& backend, const Workload& workload,
                             std::vector<IndexerSpec> specs, const IndexerSettings& settings) {
  MemoryNeed need = memory_needed(backend, workload, std::move(specs), settings);
  const auto check = [&](i64 needed, i64 limit, const char* where) {
    if (needed <= limit) return;
    throw Error(ErrorKind::runtime, "MP-E502",
                fmt::format("{} needs {} bytes {} (workload {}, its copy {}, {} indexers side by side {}, what they "
                            "select {}), the limit is {}",
                            workload.name, needed, where, workload.bytes(), need.placed, need.shares.size(), need.plans,
                            need.fetched, limit),
                {}, "a larger --max-memory, fewer indexers at once (they share it), fewer --rows or a shorter context");
  };
  i64 spare = 0;
  if (backend.free_bytes()) {
    check(need.on_host, limits.host, "on the host");
    check(need.on_device, limits.of(backend), "on the device");
    spare = limits.of(backend) - need.on_device;
  } else {
    check(need.on_host, limits.host, "in all");
    spare = limits.host - need.on_host;
  }
  for (i64& share : need.shares) share += spare / static_cast<i64>(need.shares.size());
  return need.shares;
}

std::vector<i64> comparison_limits(const CompareRequest& request, const std::optional<IndexerSpec>& reference,
                                   const std::optional<IndexerSpec>& recorded) {
  constexpr i64 kGuards = 1 << 20;  // what poisons the tested side's memory
  const Workload& workload = request.workload;
  const Problem outline = outline_of(workload);
  const i64 placed = Placement::bytes_needed(workload), limit = request.memory.host;
  std::vector<IndexerSpec> specs = request.specs;
  if (recorded) specs.push_back(*recorded);
  std::vector<i64> limits;
  i64 kept = 0;  // what earlier cases left with the caller
  for (const IndexerSpec& spec : specs) {
    const bool runs = !request.judges_ids() && limits.size() < request.specs.size();  // else it was recorded
    std::vector<const Backend*> backends{runs || reference ? &request.backend : &request.exact};
    if (runs && !reference && request.golden.empty())
      backends.push_back(request.other ? request.other : &request.exact);
    i64 outcome = 0, plan = 0, plan_beside = 0;
    i64 on_device = std::numeric_limits<i64>::max();
    for (const IndexerSpec* one : {&spec, reference ? &*reference : nullptr}) {
      if (one == nullptr) continue;
      outcome = std::max(outcome, selection_bytes(*one, outline.shape));
      for (const Backend* backend : backends) {
        const PlanBytes bytes = Plan::bytes_needed(*backend, *one, outline, true);
        const i64 fetched = kFetchedColumnBytes * bytes.columns;
        if (backend->free_bytes()) {
          on_device = std::min(on_device, request.memory.of(*backend) - placed);
          plan_beside = std::max(plan_beside, bytes.host + fetched);
        } else {
          plan = std::max(plan, bytes.least());
          // The formulas run where the exact reference has placed the workload.
          plan_beside = std::max(plan_beside, (backend == &request.exact ? 0 : placed + kGuards) + fetched);
        }
      }
    }
    // Both sides' outcomes, and that of a run which must give the same bits or in which a mistake is made. Poison and
    // mistakes go into a copy of the workload.
    const bool copies = runs && (request.poison || request.mistake);
    const bool again = copies || (runs && (request.repeats > 0 || request.sweep));
    const i64 beside =
        (copies ? 2 : 1) * workload.bytes() + ExactReference::bytes_needed(workload) + kept + (again ? 3 : 2) * outcome;
    const i64 judging = reference ? 0 : ExactReference::row_bytes(request.exact, spec, outline);
    const i64 needed = beside + std::max(plan_beside + plan, judging);
    if (needed > limit) {
      throw Error(
          ErrorKind::runtime, "MP-E502",
          fmt::format("comparing {} needs {} bytes (workload {}, what both sides and the exact reference keep {}, "
                      "a side's run {}, a row to be judged {}), the limit is {}",
                      spec.name, needed, workload.bytes(), beside - workload.bytes(), plan_beside + plan, judging,
                      limit),
          workload.name, "a larger --max-memory, fewer --rows or a shorter context");
    }
    limits.push_back(std::min(limit - beside - plan_beside, on_device));
    if (request.sinks.selected) kept += outcome;
  }
  return limits;
}

}  // namespace misa
