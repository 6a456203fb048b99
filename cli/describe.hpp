#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/options.hpp"
#include "core/experiment/origin.hpp"

// What an experiment is told of the program and its call.

namespace misa::cli {

/// `host`: the report names this machine; `top_k_asked`: an option said `top_k`. The command line is left empty.
Origin origin_of(const WorkloadOptions& workload, bool host, bool top_k_asked);

/// The command line that sets what `command` was given, from the configuration file too.
std::vector<std::string> command_words(const CLI::App& app, const CLI::App& command);

/// Such words as a line that a shell reads back, without some options and their values.
std::string command_text(const std::vector<std::string>& words, const std::vector<std::string_view>& without);
/// A word as a shell reads it back.
std::string shell_word(const std::string& word);

}  // namespace misa::cli
