#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.hpp"
#include "core/indexer/backend.hpp"
#include "core/measure/contention.hpp"
#include "core/measure/device_watch.hpp"
#include "core/measure/doubt.hpp"
#include "core/quality/quality.hpp"
#include "core/report/report.hpp"

// What a run was, in the words of a report.

namespace misa::cli {

/// `top_k_asked`: an option said `top_k`.
ReportWorkload describe_workload(const WorkloadOptions& options, const Workload& workload, i64 top_k, bool top_k_asked);
/// With the machine's name if `host`, and with the roofs for elements of `roofs_of`; empty: without roofs.
ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, bool host,
                                       std::optional<Dtype> roofs_of = {});
std::optional<ReportDevice> describe_device(const std::optional<DeviceRecord>& record);
ReportContention describe_contention(const Contention& contention);
ReportDoubt describe_doubt(Doubt doubt);
/// `dsa` and `own`: end-to-end samples, one of each round.
ReportSpeedup describe_speedup(const std::vector<double>& dsa, const std::vector<double>& own);
ReportParameters describe_parameters(const IndexerSpec& spec);
ReportQuality describe_quality(const Quality& quality, std::string_view reference);

/// Where a recorded selection came from: backend, backend_description, arithmetic, tool_version, commit.
std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape);

/// The command line that sets what `command` was given, from the configuration file too.
std::vector<std::string> command_words(const CLI::App& app, const CLI::App& command);

/// Such words as a line that a shell reads back, without some options and their values.
std::string command_text(const std::vector<std::string>& words, const std::vector<std::string_view>& without);
/// A word as a shell reads it back.
std::string shell_word(const std::string& word);

}  // namespace misa::cli
