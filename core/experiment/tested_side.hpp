#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/agreement/exact_reference.hpp"
#include "core/agreement/guarded_backend.hpp"
#include "core/indexer/plan.hpp"
#include "core/report/agreement_report.hpp"
#include "core/selection/selection.hpp"

namespace misa {

struct CompareRequest;

/// What the tested side did with an indexer.
struct TestedRun {
  std::optional<Selection> selection;  ///< empty: it selected nothing, and a check says why
  std::vector<ReportCheck> checks;     ///< runs that must give the same bits, canaries, how a process ended
  std::string unable;                  ///< why the backend cannot run the indexer; empty: it can
  bool idle = false;                   ///< kernels were loaded beside a backend's own, and none of them ran
};

/// The side of a comparison that is not trusted: it may write where it must not, and give other bits the next time.
class TestedSide {
 public:
  virtual ~TestedSide() = default;
  /// Runs an indexer, and again as the request demands.
  virtual TestedRun test(const IndexerSpec& spec, const PlanOptions& options) = 0;
};

/// The request's backend in this process, all its memory between canaries. `formulas`, for a mistake that is to be
/// made, may be null where there is none.
class LocalSide final : public TestedSide {
 public:
  LocalSide(const CompareRequest& request, ExactReference* formulas);
  /// Error(usage) MP-E038: the indexer gives no occasion for the mistake.
  TestedRun test(const IndexerSpec& spec, const PlanOptions& options) override;

 private:
  const CompareRequest& request_;
  ExactReference* formulas_;
  GuardedBackend guarded_;
  i64 overwritten_before_ = 0;
};

}  // namespace misa
