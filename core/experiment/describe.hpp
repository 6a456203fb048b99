#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/experiment/origin.hpp"
#include "core/indexer/backend.hpp"
#include "core/measure/contention.hpp"
#include "core/measure/device_watch.hpp"
#include "core/measure/doubt.hpp"
#include "core/quality/quality.hpp"
#include "core/report/report.hpp"
#include "core/workload/workload.hpp"

// What an experiment was, in the words of a report.

namespace misa {

ReportWorkload describe_workload(const Workload& workload, i64 top_k, const Origin& origin);
/// The machine, and the backends with their roofs for elements of `roofs_of`; empty: without roofs.
ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, const Origin& origin,
                                       std::optional<Dtype> roofs_of = {});
std::optional<ReportDevice> describe_device(const std::optional<DeviceRecord>& record);
ReportContention describe_contention(const Contention& contention);
ReportDoubt describe_doubt(Doubt doubt);
/// `dsa` and `own`: end-to-end samples, one of each round.
ReportSpeedup describe_speedup(const std::vector<double>& dsa, const std::vector<double>& own);
ReportParameters describe_parameters(const IndexerSpec& spec);
ReportQuality describe_quality(const Quality& quality, std::string_view reference);

/// Where a recorded selection came from: backend, backend_description, arithmetic, tool_version, commit.
std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape, const Origin& origin);

}  // namespace misa
