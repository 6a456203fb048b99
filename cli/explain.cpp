#include "core/experiment/explain.hpp"

#include <fmt/format.h>

#include <memory>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/explain_text.hpp"
#include "cli/given_options.hpp"
#include "cli/indexer_options.hpp"
#include "cli/output.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/platform/terminal.hpp"
#include "core/report/text.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {
namespace {

constexpr const char* kExplainExamples =
    "\nExamples:\n"
    "  misa-prof explain                                     # misa, the row of lowest recall\n"
    "  misa-prof explain --indexer misa-dagger --row 17 --format json\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 4 unavailable, 5 the row sees no token, 10 runtime.\n";

struct ExplainOptions {
  WorkloadOptions workload;
  IndexerOptions indexer;
  std::optional<i64> row, threads;
  std::string format = "table", config;
};

void run_explain(const ExplainOptions& options, const GivenOptions& given) {
  if (options.format != "table" && options.format != "json") {
    throw Error(ErrorKind::usage, "MP-E021", "there is no format called '" + options.format + "'", {}, "table or json");
  }
  const std::vector<std::string> names = options.indexer.listed();
  if (names.size() != 1) {
    throw Error(ErrorKind::usage, "MP-E452",
                fmt::format("explain takes one indexer, and --indexer names {}", names.size()), {},
                "--indexer " + names.back());
  }
  const int threads = static_cast<int>(thread_count(options.threads));
  ExplainedRow shown;
  const Workload workload = options.workload.load(&shown.warnings);
  const IndexerSettings settings = options.indexer.settings(workload, options.workload.seed);
  const IndexerSpec spec = options.indexer.specs(settings).front();
  const RunFacts facts{.specs = {spec}, .generated = !options.workload.recorded(), .host = true};
  for (Warning& warning : options_without_effect(given, facts)) shown.warnings.push_back(std::move(warning));
  for (Warning& warning : options_cut(given, facts.specs, outline_of(workload))) {
    shown.warnings.push_back(std::move(warning));
  }

  const auto exact = make_backend("oracle", threads);
  const MemoryLimits memory = options.workload.memory_limits();
  shown.workload = workload.name;
  shown.chosen = !options.row;
  const i64 row =
      options.row ? *options.row : worst_row(*make_backend("cpu", threads), workload, spec, settings, memory);
  shown.explanation = explain({*exact, workload, spec, settings, row, memory});
  write_text("-", options.format == "json"
                      ? explain_json(shown)
                      : explain_text(shown, terminal_width(StandardStream::output),
                                     uses_colour(ColourMode::automatic, terminal_facts(StandardStream::output))));
}

}  // namespace

Work add_explain(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("explain", "Show why an indexer misses tokens of one row");
  const auto options = std::make_shared<ExplainOptions>();
  command.footer(kExplainExamples);
  options->workload.add_trace(command);
  options->workload.add_synthetic(command);
  add_count(command, "--row", options->row, "The row, from 0 (default: the one of lowest recall)", kWorkloadGroup, 0);
  options->indexer.names = {"misa"};
  options->indexer.add(command);
  command.get_option("--indexer")
      ->description(fmt::format("One of: {}", fmt::join(names_of(all_indexers()), ", ")))
      ->type_name("NAME");
  add_count(command, "--threads", options->threads, "Threads (default: the cores available)", kBackendGroup);
  options->workload.add_memory(command);
  add_name(command, "--format", options->format, "table or json", kOutputGroup);
  add_config(command, options->config);
  return [options, &command] {
    if (!options->config.empty()) apply_config(command, options->config);
    run_explain(*options, given_options(command));
  };
}

}  // namespace misa::cli
