#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/origin.hpp"
#include "core/indexer/backend.hpp"
#include "core/report/report.hpp"
#include "core/workload/workload.hpp"

// What an experiment was, in the words of a report.

namespace misa {

ReportWorkload describe_workload(const Workload& workload, i64 top_k, const Origin& origin);
/// The machine, and the backends with their roofs for elements of `roofs_of`; empty: without roofs.
ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, const Origin& origin,
                                       std::optional<Dtype> roofs_of = {});

/// Names the origin of a selection: backend, backend_description, arithmetic, tool_version, commit.
std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape, const Origin& origin);

}  // namespace misa
