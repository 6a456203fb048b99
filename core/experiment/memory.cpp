#include "core/experiment/memory.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/indexer/plan.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/placement.hpp"

namespace misa {

i64 MemoryLimits::of(const Backend& backend) const {
  const std::optional<i64> free = backend.free_bytes();
  return free ? std::min(device.value_or(*free), *free) : host;
}

std::vector<i64> plan_limits(const MemoryLimits& limits, const Backend& backend, const Workload& workload,
                             std::vector<IndexerSpec> specs, const IndexerSettings& settings) {
  const auto is_dsa = [](const IndexerSpec& spec) { return spec.name == "dsa"; };
  // The references: dsa of this k and of the recorded selection's, one after the other, where none of `specs` is it.
  const i64 recorded = workload.topk.empty() ? settings.top_k : workload.topk.shape.at(1);
  if (recorded != settings.top_k || std::none_of(specs.begin(), specs.end(), is_dsa)) {
    IndexerSettings reference = settings;
    reference.top_k = std::max(settings.top_k, recorded);
    specs.push_back(make_indexer("dsa", reference));
  }
  const Problem outline = outline_of(workload);
  const i64 placed = Placement::bytes_needed(workload);
  std::vector<i64> shares;
  i64 plans = 0, on_host = workload.bytes(), fetched = 0;
  for (const IndexerSpec& spec : specs) {
    const PlanBytes plan = Plan::bytes_needed(backend, spec, outline);
    shares.push_back(plan.least());
    plans += plan.least();
    on_host += plan.host;
    fetched = std::max(fetched, 2 * selection_bytes(spec, outline.shape));
  }
  on_host += fetched;
  const auto check = [&](i64 needed, i64 limit, const char* where) {
    if (needed <= limit) return;
    throw Error(
        ErrorKind::runtime, "MP-E502",
        fmt::format("{} needs {} bytes {} (workload {}, its copy {}, {} indexers side by side {}, what they "
                    "select {}), the limit is {}",
                    workload.name, needed, where, workload.bytes(), placed, specs.size(), plans, fetched, limit),
        {}, "a larger --max-memory, fewer indexers at once (they share it), fewer --rows or a shorter context");
  };
  i64 spare = 0;
  if (backend.free_bytes()) {
    check(on_host, limits.host, "on the host");
    check(placed + plans, limits.of(backend), "on the device");
    spare = limits.of(backend) - placed - plans;
  } else {
    check(on_host + placed + plans, limits.host, "in all");
    spare = limits.host - on_host - placed - plans;
  }
  for (i64& share : shares) share += spare / static_cast<i64>(specs.size());
  return shares;
}

}  // namespace misa
