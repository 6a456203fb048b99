#include "core/experiment/profile_case.hpp"

#include <utility>

#include "core/indexer/effective.hpp"
#include "core/measure/cost.hpp"
#include "core/measure/roofline.hpp"

namespace misa {
namespace {

std::vector<ReportStage> describe_stages(const CaseContext& context, const IndexerSpec& spec,
                                         const std::vector<StageSummary>& stages) {
  const std::vector<StageCost> costs = stage_costs(spec, context.problem);
  const double pairs = static_cast<double>(visible_pairs(context.problem));
  double total = 0;
  for (const StageSummary& stage : stages) total += stage.seconds.median;
  std::vector<ReportStage> described;
  for (const StageSummary& stage : stages) {
    const double seconds = stage.seconds.median;
    ReportStage row{.stages = stage.stages, .seconds = stage.seconds, .cost = cost_of(stage.stages, costs)};
    row.kernels = stage.kernels;
    if (total > 0) row.share = seconds / total;
    if (pairs > 0) row.seconds_per_pair = seconds / pairs;
    if (row.cost && seconds > 0) {
      row.flops_per_second = static_cast<double>(row.cost->flops) / seconds;
      row.bytes_per_second = static_cast<double>(row.cost->bytes) / seconds;
    }
    if (row.cost && context.roofs) {
      row.roofline = roofline(seconds, *row.cost, *context.roofs, context.problem.shape.dtype, context.recorded);
    }
    if (row.roofline) row.roof_doubt = doubt_roof(*row.roofline, stage.seconds, *row.cost, context.circumstances);
    described.push_back(std::move(row));
  }
  return described;
}

}  // namespace

ReportCase describe_case(const CaseContext& context, const IndexerSpec& told, const IndexerSpec& planned,
                         const Samples& whole, const Samples& staged) {
  ReportCase described;
  described.spec = told;
  described.used = effective(told, context.problem);
  described.backend = context.backend;
  described.shape = context.problem.shape;
  described.threads = context.threads;
  if (whole.first) described.first_call_s = whole.first->seconds;
  const std::vector<StageSummary> stages = summarise_stages(staged.runs);
  described.stages = describe_stages(context, planned, stages);
  if (whole.runs.empty()) return described;
  described.end_to_end = summarise(seconds_of(whole.runs));
  if (stages.empty()) return described;
  described.closure_residual = closure_residual(described.end_to_end->median, stages);
  described.closure_doubt = doubt_closure(*described.end_to_end, stages, context.circumstances);
  described.closure_ok = !described.closure_doubt;
  return described;
}

}  // namespace misa
