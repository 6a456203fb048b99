#include <memory>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/platform/file.hpp"
#include "core/platform/signals.hpp"
#include "core/platform/terminal.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace {

constexpr const char* kGenerateExamples =
    "\nExamples:\n"
    "  misa-prof generate --model glm-5 --workload prefill-8k --seed 7 -o glm.safetensors\n"
    "  misa-prof generate --preset ties --rows 16 -o ties.safetensors\n"
    "\nExit codes: 0 ok, 2 usage, 10 runtime.\n";

struct GenerateOptions {
  WorkloadOptions workload;
  std::string path, config;
};

}  // namespace

Work add_generate(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("generate", "Write a synthetic workload as a trace");
  const auto options = std::make_shared<GenerateOptions>();
  command.footer(kGenerateExamples);
  options->workload.add_synthetic(command);
  options->workload.add_memory(command);
  command.add_option("-o,--output", options->path, "The trace to write (.safetensors), needed")
      ->type_name("FILE")
      ->group(kOutputGroup);
  add_config(command, options->config);
  return [options, &command] {
    if (!options->config.empty()) apply_config(command, options->config);
    if (options->path.empty()) {
      throw Error(ErrorKind::usage, "MP-E032", "generate needs a file to write", {}, "-o FILE.safetensors");
    }
    if (options->path == "-" && is_terminal(StandardStream::output)) {
      throw Error(ErrorKind::usage, "MP-E035", "a trace is binary, and standard output is a terminal", {},
                  "-o FILE.safetensors, or a pipe");
    }
    std::vector<std::string> inputs = options->workload.profile_files();
    inputs.push_back(options->config);
    if (options->path != "-") check_no_input(options->path, inputs);
    check_trace_name("-o", options->path);
    check_writable(options->path);
    const Workload workload = options->workload.synthesise();
    if (!interrupted()) write_trace(options->path, workload);
  };
}

}  // namespace misa::cli
