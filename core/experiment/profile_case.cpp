#include "core/experiment/profile_case.hpp"

#include <utility>

#include "core/experiment/describe.hpp"
#include "core/indexer/effective.hpp"
#include "core/measure/cost.hpp"
#include "core/measure/roofline.hpp"

namespace misa {
namespace {

ReportTime to_report(const Summary& summary, std::vector<double> raw) {
  return {.median_s = summary.median,
          .p10_s = summary.p10,
          .p90_s = summary.p90,
          .samples = summary.samples,
          .raw_s = std::move(raw)};
}

std::vector<ReportStage> describe_stages(const CaseContext& context, const IndexerSpec& spec,
                                         const std::vector<StageSummary>& stages) {
  const std::vector<StageCost> costs = stage_costs(spec, context.problem);
  const double pairs = static_cast<double>(visible_pairs(context.problem));
  double total = 0;
  for (const StageSummary& stage : stages) total += stage.seconds.median;
  std::vector<ReportStage> described;
  for (const StageSummary& stage : stages) {
    const double seconds = stage.seconds.median;
    ReportStage row;
    row.name = stage_set_name(stage.stages);
    row.time = to_report(stage.seconds, stage.raw);
    if (total > 0) row.share = seconds / total;
    if (pairs > 0) row.seconds_per_pair = seconds / pairs;
    if (const auto cost = cost_of(stage.stages, costs)) {
      row.flops = cost->flops;
      row.bytes = cost->bytes;
      if (seconds > 0) {
        row.flops_per_second = static_cast<double>(cost->flops) / seconds;
        row.bytes_per_second = static_cast<double>(cost->bytes) / seconds;
      }
      if (context.roofs) {
        const Dtype dtype = context.problem.shape.dtype;
        if (const auto roof = roofline(seconds, *cost, *context.roofs, dtype, context.recorded)) {
          row.roof_fraction = roof->fraction;
          row.bound = bound_name(roof->bound);
          if (const auto doubt = doubt_roof(*roof, stage.seconds, *cost, context.circumstances)) {
            row.roof_doubt = describe_doubt(*doubt);
          }
        }
      }
    }
    described.push_back(std::move(row));
  }
  return described;
}

}  // namespace

ReportCase describe_case(const CaseContext& context, const IndexerSpec& told, const IndexerSpec& planned,
                         const Samples& whole, const Samples& staged) {
  const Shape& shape = context.problem.shape;
  ReportCase described;
  described.indexer = planned.name;
  if (planned.heads) described.router = router_name(planned.heads->router);
  described.backend = context.backend;
  described.parameters = describe_parameters(told);
  described.used = describe_parameters(effective(told, context.problem));
  described.shape = {shape.rows,
                     shape.heads,
                     shape.head_dim,
                     shape.keys,
                     shape.max_window,
                     planned.top_k,
                     std::string(dtype_name(shape.dtype)),
                     shape.paged};
  described.threads = context.threads;
  if (whole.first) described.first_call_s = whole.first->seconds;
  const std::vector<StageSummary> stages = summarise_stages(staged.runs);
  described.stages = describe_stages(context, planned, stages);
  if (whole.runs.empty()) return described;
  std::vector<double> raw = seconds_of(whole.runs);
  const Summary summary = summarise(raw);
  described.end_to_end = to_report(summary, std::move(raw));
  if (stages.empty()) return described;
  const std::optional<Doubt> doubt = doubt_closure(summary, stages, context.circumstances);
  described.closure_residual = closure_residual(summary.median, stages);
  described.closure_ok = !doubt;
  if (doubt) described.closure_doubt = describe_doubt(*doubt);
  return described;
}

}  // namespace misa
