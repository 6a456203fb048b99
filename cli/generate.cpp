#include <memory>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/base/error.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace {

constexpr const char* kExamples =
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
  command.footer(kExamples);
  options->workload.add_synthetic(command);
  options->workload.add_memory(command);
  command.add_option("-o,--output", options->path, "The trace to write (.safetensors)")->group(kOutputGroup);
  command.add_option("--config", options->config, "TOML file of long option names; the command line wins")
      ->group(kOutputGroup);
  return [options, &command] {
    if (!options->config.empty()) apply_config(command, options->config);
    if (options->path.empty()) {
      throw Error(ErrorKind::usage, "MP-E032", "generate needs a file to write", {}, "-o FILE.safetensors");
    }
    write_trace(options->path, options->workload.synthesise());
  };
}

}  // namespace misa::cli
