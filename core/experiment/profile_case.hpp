#pragma once

#include <optional>
#include <string_view>

#include "core/indexer/problem.hpp"
#include "core/measure/doubt.hpp"
#include "core/measure/sampler.hpp"
#include "core/report/report.hpp"

namespace misa {

/// What the cases of one profile share.
struct CaseContext {
  const Problem& problem;
  std::string_view backend;
  i64 threads = 1;
  const std::optional<Roofs>& roofs;
  bool recorded = false;  ///< runs were replayed
  Circumstances circumstances;
};

/// The times of one indexer. `told` is its spec as it was asked for, `planned` as its plan runs it; `whole` are the
/// samples without marks, `staged` those with stages.
ReportCase describe_case(const CaseContext& context, const IndexerSpec& told, const IndexerSpec& planned,
                         const Samples& whole, const Samples& staged);

}  // namespace misa
