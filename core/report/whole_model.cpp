#include "core/report/whole_model.hpp"

#include <fmt/format.h>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {

std::optional<WholeModel> whole_model(const Report& report) {
  const ReportWorkload& workload = report.workload;
  if (!workload.layers || !workload.indexer_layers || workload.rows == 0) return std::nullopt;
  const bool decode = workload.phase == "decode";
  const double rows = decode ? 1 : static_cast<double>(workload.rows);
  WholeModel whole{.layers = *workload.layers,
                   .indexer_layers = *workload.indexer_layers,
                   .per = decode ? "step" : "token",
                   .cases = {}};
  for (const ReportCase& one : report.cases) {
    if (!one.end_to_end) continue;
    const double seconds = one.end_to_end->median * static_cast<double>(whole.indexer_layers) / rows;
    whole.cases.push_back({case_name(report, one), seconds});
  }
  return whole.cases.empty() ? std::nullopt : std::optional(whole);
}

TextTable whole_model_table(const WholeModel& whole) {
  TextTable table({{"whole model", false}, {"a " + whole.per}, {"", false}});
  for (const WholeModel::One& one : whole.cases) {
    const bool first = &one == &whole.cases.front();
    const std::string layers = fmt::format("{} of {} layers have an indexer", whole.indexer_layers, whole.layers);
    table.add({{one.name}, {si_number(one.seconds, "s")}, {first ? layers : "", Style::faint}});
  }
  return table;
}

}  // namespace misa
