#include "core/experiment/tested_side.hpp"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/experiment/compare.hpp"
#include "core/report/text.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

Selection placed_run(Backend& backend, const Workload& workload, const IndexerSpec& spec, const PlanOptions& options) {
  const Placement placement(backend, workload);
  return run_selection(backend, spec, placement.problem(), options);
}

/// The checks of `request` that run `spec` again and demand the bits of `side`, which `backend` chose with `options`.
std::vector<ReportCheck> check_same_bits(const CompareRequest& request, Backend& backend, const IndexerSpec& spec,
                                         const Selection& side, const PlanOptions& options) {
  std::vector<ReportCheck> checks;
  const auto add = [&](const char* name, const std::string& found, const std::string& done) {
    checks.push_back({name, found.empty(), found.empty() ? done : found});
  };
  const auto differing = [&](Backend& again, const Workload& workload, const std::string& how) {
    const std::optional<Choice> differs = first_difference(side, placed_run(again, workload, spec, options));
    return differs ? fmt::format("the {} differ {}", choice_name(*differs), how) : std::string();
  };
  if (request.repeats > 0) {
    std::string found;
    for (i64 i = 0; i < request.repeats && found.empty() && !interrupted(); ++i) {
      found = differing(backend, request.workload, fmt::format("in repeat {}", i + 1));
    }
    add("repeat-bitwise", found, counted(request.repeats, "more run", "more runs") + " gave the same bits");
  }
  if (request.sweep) {
    std::string found;
    for (i64 threads = 1; threads <= request.threads && found.empty() && !interrupted(); ++threads) {
      found =
          differing(*request.with_threads(threads), request.workload, "with " + counted(threads, "thread", "threads"));
    }
    add("thread-sweep", found,
        request.threads == 1 ? "1 thread gave the same bits"
                             : fmt::format("1 to {} threads gave the same bits", request.threads));
  }
  if (!request.poison) return checks;
  if (spec.block_window == BlockWindow::upstream && (spec.heads || spec.blocks)) {
    add("poison-unseen", "", "not done: block window upstream averages keys that rows do not see");
    return checks;
  }
  Workload poisoned = copy_of(request.workload);
  const i64 filled = poison_unseen(poisoned);
  add("poison-unseen", differing(backend, poisoned, "when unseen keys are NaN"),
      filled > 0 ? fmt::format("{} unseen keys filled with NaN changed nothing", filled)
                 : std::string("every key is seen by some row"));
  return checks;
}

}  // namespace

LocalSide::LocalSide(const CompareRequest& request, ExactReference* formulas)
    : request_(request), formulas_(formulas), guarded_(request.backend) {}

TestedRun LocalSide::test(const IndexerSpec& spec, const PlanOptions& options) {
  TestedRun run;
  const std::optional<i64> loaded_runs = guarded_.loaded_runs();
  if (request_.mistake) {
    run.selection = run_with_mistake(request_.mistake->mistake, guarded_, spec, *formulas_, options);
    if (!run.selection) {
      throw Error(
          ErrorKind::usage, "MP-E038",
          fmt::format("{} gives no occasion for the mistake '{}' on this workload", spec.name, request_.mistake->name),
          {}, occasion_for(*request_.mistake, spec, request_.workload));
    }
  } else {
    run.selection = placed_run(guarded_, request_.workload, spec, options);
    // A run with a mistake is not the backend's own.
    run.checks = check_same_bits(request_, guarded_, spec, *run.selection, options);
  }
  run.idle = loaded_runs && loaded_runs == guarded_.loaded_runs();
  const i64 overwritten = guarded_.overwritten() - overwritten_before_;
  overwritten_before_ += overwritten;
  run.checks.push_back({"canaries", overwritten == 0,
                        overwritten > 0 ? fmt::format("{} bytes beside allocations were overwritten", overwritten)
                                        : fmt::format("{} allocations, poisoned and guarded", guarded_.allocations())});
  return run;
}

}  // namespace misa
