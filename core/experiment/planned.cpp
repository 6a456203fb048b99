#include "core/experiment/planned.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/report/text.hpp"
#include "core/workload/placement.hpp"

namespace misa {
namespace {

auto find_span(auto& spans, const std::string& stage) {
  return std::find_if(spans.begin(), spans.end(), [&](const auto& span) { return span.first == stage; });
}

/// Counts how often each stage begins.
class SpanCounter final : public Observer {
 public:
  void begin(StageSet stages) override {
    const std::string name = stage_set_name(stages);
    if (find_span(spans, name) == spans.end()) spans.emplace_back(name, 0);
    ++find_span(spans, name)->second;
  }
  void end() override {}

  std::vector<std::pair<std::string, i64>> spans;
};

}  // namespace

i64 PlannedIndexer::count(const std::string& stage) const {
  const auto known = find_span(spans, stage);
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

PlannedRun plan_run(Backend& backend, const Workload& workload, const std::vector<IndexerSpec>& specs,
                    const std::vector<i64>& limits, bool fusion) {
  PlannedRun run;
  run.workload = workload.name;
  run.backend = backend.name();
  run.rows = workload.rows();
  run.workload_bytes = Placement::bytes_needed(workload);
  const Placement placement(backend, workload);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (backend.why_not(specs[i], shape_of(workload))) continue;
    Plan plan(backend, specs[i], placement.problem(),
              {.max_bytes = limits[i] + placement.problem().bytes, .fusion = fusion});
    SpanCounter counter;
    plan.run(&counter);
    run.indexers.push_back({specs[i].name, plan.rows_per_chunk(), plan.workspace_bytes(), std::move(counter.spans)});
  }
  return run;
}

}  // namespace misa
