#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.hpp"
#include "core/experiment/describe.hpp"

// What an experiment is told of the program and its call.

namespace misa::cli {

/// `host`: the report names this machine; `top_k_asked`: an option said `top_k`. The command line is left empty.
Origin origin_of(const WorkloadOptions& workload, bool host, bool top_k_asked);

/// The same parts of a report as in core/experiment/describe.hpp, of this program.
ReportWorkload describe_workload(const WorkloadOptions& options, const Workload& workload, i64 top_k, bool top_k_asked);
ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, bool host);
std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape);
inline ReportParameters describe_parameters(const IndexerSpec& spec) { return parameters_of(spec); }
inline Quality describe_quality(Quality quality, std::string_view reference) {
  quality.reference = reference;
  return quality;
}

/// The command line that sets what `command` was given, from the configuration file too.
std::vector<std::string> command_words(const CLI::App& app, const CLI::App& command);

/// Such words as a line that a shell reads back, without some options and their values.
std::string command_text(const std::vector<std::string>& words, const std::vector<std::string_view>& without);
/// A word as a shell reads it back.
std::string shell_word(const std::string& word);

}  // namespace misa::cli
