#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/commands.hpp"
#include "cli/indexer_options.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/planned.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/platform/system.hpp"
#include "core/ranges/ranges.hpp"
#include "core/report/text.hpp"

namespace misa::cli {
namespace {

constexpr const char* kNsightGroup = "Nsight";
constexpr std::string_view kGpuBackend = "cuda";  // the one whose kernels ncu sees
constexpr const char* kNsightExamples =
    "\nExamples:\n"
    "  misa-prof nsight --indexer misa --stage score          # the shipped trace\n"
    "  misa-prof nsight --model glm-5 --workload prefill-32k --tool nsys | sh\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 4 unavailable, 10 runtime.\n";

struct NsightOptions {
  WorkloadOptions workload;
  IndexerOptions indexer;
  std::string backend{kGpuBackend}, stage, tool;
  std::optional<i64> threads, device;
  bool no_fusion = false;
};

std::string expected_ranges(i64 number, const std::string& range) {
  return fmt::format("{} range{} {}", number, number == 1 ? "" : "s", range);
}

/// A range of ours for ncu's filter: the slash says that it is pushed and popped; what the filter means by these
/// characters is taken back by a backslash.
std::string ncu_filter(const std::string& range) {
  std::string text = fmt::format("{}@", kRangeDomain);
  for (const char c : range) {
    if (std::string_view("\\/[]*+@,").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text + "/";
}

class Nsight {
 public:
  Nsight(const NsightOptions& options, const GivenOptions& given) : options_(options) {
    if (!options.tool.empty() && options.tool != "nsys" && options.tool != "ncu") {
      throw Error(ErrorKind::usage, "MP-E052", "--tool is '" + options.tool + "'", {}, "nsys or ncu");
    }
    if (options.tool == "ncu" && options.backend != kGpuBackend) {
      throw Error(ErrorKind::usage, "MP-E053", fmt::format("ncu sees no kernels of backend {}", options.backend), {},
                  fmt::format("--backend {}, or --tool nsys", kGpuBackend));
    }
    if (const auto reason = ranges_why_not()) {
      throw Error(ErrorKind::unavailable, "MP-E404", "a profiler would see no ranges: " + *reason, {},
                  "a build where CMake finds nvtx3/nvToolsExt.h (MISA_NVTX_INCLUDE)");
    }
    planned_ = plan_profile(options.workload, options.indexer, options.backend, thread_count(options.threads),
                            device_number(options.device, {options.backend}), !options.no_fusion, given);
    check_stage();
  }

  /// What the tools should find, as comments of a shell.
  std::string expectations() const {
    i64 stages = 0;
    std::string lines;
    for (const PlannedIndexer& one : planned_.indexers) {
      std::vector<std::string> ranges;
      for (const auto& [name, number] : one.spans) ranges.push_back(fmt::format("{} {}{}", number, kStageRange, name));
      stages += one.count(options_.stage);
      lines += fmt::format("# {}: {} ({} of {} at a time)\n", one.name, fmt::join(ranges, ", "), one.rows_per_chunk,
                           counted(planned_.rows, "row", "rows"));
    }
    const i64 runs = number_of_runs();
    lines += "# expect " + expected_ranges(runs, kMeasureRange);
    if (!options_.stage.empty()) {
      lines += fmt::format(", in {} {} with a kernel or more in each", runs == 1 ? "it" : "them",
                           expected_ranges(stages, kStageRange + options_.stage));
    }
    lines += "\n# a filter that matches nothing is no error: compare the numbers\n";
    for (const Warning& warning : planned_.warnings) lines += "# " + warning_line(warning) + "\n";
    if (!planned_.absent.empty()) {
      lines += fmt::format("# backend {} is absent here ({}): for a machine with this one's memory\n", options_.backend,
                           planned_.absent);
    }
    return lines;
  }

  /// The commands. `words`: the command line that asks for them.
  std::string commands(std::vector<std::string> words) const {
    words.at(0) = executable_path();
    words.at(1) = "profile";
    if (std::find(words.begin(), words.end(), "--backend") == words.end()) {
      words.insert(words.end(), {"--backend", options_.backend});
    }
    words.emplace_back("--profile-once");
    const std::string profile = command_text(words, {"--stage", "--tool"});
    std::string lines;
    if (options_.tool != "ncu") {
      // Several indexers on one timeline: nsys would end the capture, or begin another report, after each.
      lines += fmt::format(
          "nsys profile --trace=cuda,nvtx --sample=none --cpuctxsw=none --capture-range=nvtx --nvtx-capture={}@{} "
          "--capture-range-end={} {}\n",
          kMeasureRange, kRangeDomain, number_of_runs() == 1 ? "stop" : "none", profile);
    }
    if (options_.tool != "nsys" && options_.backend == kGpuBackend) {
      const std::string range = options_.stage.empty() ? kMeasureRange : kStageRange + options_.stage;
      lines +=
          fmt::format("ncu --nvtx --nvtx-include {} --clock-control none {}\n", shell_word(ncu_filter(range)), profile);
    }
    return lines;
  }

 private:
  i64 number_of_runs() const { return static_cast<i64>(planned_.indexers.size()); }

  void check_stage() const {
    if (options_.stage.empty()) return;
    std::vector<std::string> names, lists;
    for (const PlannedIndexer& one : planned_.indexers) {
      if (one.count(options_.stage) > 0) return;
      std::vector<std::string> stages;
      for (const auto& [name, number] : one.spans) stages.push_back(name);
      lists.push_back(fmt::format("{} has {}", one.name, fmt::join(stages, ", ")));
      names.insert(names.end(), stages.begin(), stages.end());
    }
    throw Error(ErrorKind::usage, "MP-E050",
                fmt::format("there is no stage '{}': {}", options_.stage, fmt::join(lists, "; ")), {},
                suggestion(options_.stage, names, "one of these"));
  }

  const NsightOptions& options_;
  PlannedRun planned_;
};

}  // namespace

Work add_nsight(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("nsight", "Print the nsys and ncu commands that profile a stage");
  const auto options = std::make_shared<NsightOptions>();
  command.footer(kNsightExamples);
  add_text(command, "--stage", options->stage, "Only this stage, e.g. score (default: all)", "NAME", kNsightGroup);
  add_text(command, "--tool", options->tool, "nsys or ncu (default: both)", "NAME", kNsightGroup);
  options->workload.add_trace(command);
  options->workload.add_synthetic(command);
  options->indexer.add(command);
  add_backend(command, options->backend, "The backend to look at", kBackendGroup);
  add_count(command, "--threads", options->threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, options->device);
  options->workload.add_memory(command);
  add_flag(command, "--no-fusion", options->no_fusion, "One kernel per stage", kBackendGroup);
  return [options, &command, &app] {
    const Nsight nsight(*options, given_options(command));
    write_text("-", nsight.expectations() + nsight.commands(command_words(app, command)));
  };
}

}  // namespace misa::cli
