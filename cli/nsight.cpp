#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/describe.hpp"
#include "cli/indexer_options.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/indexer/dry_backend.hpp"
#include "core/indexer/plan.hpp"
#include "core/platform/executable.hpp"
#include "core/ranges/stage_ranges.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {
namespace {

constexpr const char* kNsightGroup = "Nsight";
constexpr std::string_view kGpuBackend = "cuda";  // the one whose kernels ncu sees
constexpr const char* kExamples =
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

/// How often each stage's range begins, in the order of the first.
class SpanCounter final : public Observer {
 public:
  void begin(StageSet stages) override {
    const std::string name = stage_set_name(stages);
    const auto known = std::find_if(spans.begin(), spans.end(), [&](const auto& span) { return span.first == name; });
    if (known == spans.end()) {
      spans.emplace_back(name, 1);
    } else {
      ++known->second;
    }
  }
  void end() override {}

  std::vector<std::pair<std::string, i64>> spans;
};

/// An indexer, and the ranges of one run of it.
struct Expected {
  std::string indexer;
  i64 rows_per_chunk = 0;
  std::vector<std::pair<std::string, i64>> spans;

  i64 count(const std::string& stage) const {
    for (const auto& [name, number] : spans) {
      if (name == stage) return number;
    }
    return 0;
  }
  std::vector<std::string> stages() const {
    std::vector<std::string> names;
    for (const auto& [name, number] : spans) names.push_back(name);
    return names;
  }
};

std::string counted(i64 number, const std::string& range) {
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
  explicit Nsight(const NsightOptions& options) : options_(options) {
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
    count_ranges();
    check_stage();
  }

  /// What the tools should find, as comments of a shell.
  std::string expectations() const {
    i64 stages = 0;
    std::string lines;
    for (const Expected& one : expected_) {
      std::vector<std::string> ranges;
      for (const auto& [name, number] : one.spans) ranges.push_back(fmt::format("{} {}{}", number, kStageRange, name));
      stages += one.count(options_.stage);
      lines += fmt::format("# {}: {} ({} of {} rows at a time)\n", one.indexer, fmt::join(ranges, ", "),
                           one.rows_per_chunk, rows_);
    }
    const i64 runs = number_of_runs();
    lines += "# expect " + counted(runs, kMeasureRange);
    if (!options_.stage.empty()) {
      lines += fmt::format(", in {} {} with a kernel or more in each", runs == 1 ? "it" : "them",
                           counted(stages, kStageRange + options_.stage));
    }
    lines += "; a filter that matches nothing is no error\n";
    if (!absent_.empty()) {
      lines += fmt::format("# backend {} is absent here ({}): for a machine with this one's memory\n", options_.backend,
                           absent_);
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
  i64 number_of_runs() const { return static_cast<i64>(expected_.size()); }

  /// Runs the plans that profile would run, on a backend that computes nothing.
  void count_ranges() {
    const Workload workload = options_.workload.load(nullptr);
    rows_ = workload.rows();
    const IndexerSettings settings = options_.indexer.settings(workload, options_.workload.seed);
    const std::vector<IndexerSpec> specs = options_.indexer.specs(settings);
    i64 workspace = kWorkspaceBytes;
    const auto like = planning_backend(workspace);
    DryBackend backend(*like, workspace);
    const i64 each = memory_per_indexer(options_.workload, backend, workload, specs);
    const Placement placement(backend, workload);
    for (const IndexerSpec& spec : specs) {
      Plan plan(backend, spec, placement.problem(),
                {.max_bytes = each + placement.problem().bytes, .fusion = !options_.no_fusion});
      SpanCounter counter;
      plan.run(&counter);
      expected_.push_back({spec.name, plan.rows_per_chunk(), std::move(counter.spans)});
    }
  }

  /// The backend itself, or where it is absent one that plans as it does in `workspace` bytes: f32 logits, nothing
  /// fused.
  std::unique_ptr<Backend> planning_backend(i64& workspace) {
    const int threads = static_cast<int>(thread_count(options_.threads));
    const int device = device_number(options_.device, {options_.backend});
    for (const BackendInfo& info : backends()) {
      if (info.name != options_.backend) continue;
      workspace = info.workspace_bytes;
      if (const auto reason = info.why_absent(device)) {
        absent_ = *reason;
        return make_backend("cpu", threads);
      }
    }
    return make_backend(options_.backend, threads, device);
  }

  void check_stage() const {
    if (options_.stage.empty()) return;
    std::vector<std::string> names, lists;
    for (const Expected& one : expected_) {
      if (one.count(options_.stage) > 0) return;
      lists.push_back(fmt::format("{} has {}", one.indexer, fmt::join(one.stages(), ", ")));
      for (const std::string& name : one.stages()) names.push_back(name);
    }
    const std::string near = nearest(options_.stage, std::vector<std::string_view>(names.begin(), names.end()));
    throw Error(ErrorKind::usage, "MP-E050",
                fmt::format("there is no stage '{}': {}", options_.stage, fmt::join(lists, "; ")), {},
                near.empty() ? "one of these" : near);
  }

  const NsightOptions& options_;
  i64 rows_ = 0;
  std::vector<Expected> expected_;
  std::string absent_;
};

}  // namespace

Work add_nsight(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("nsight", "Print the nsys and ncu commands that profile a stage");
  const auto options = std::make_shared<NsightOptions>();
  command.footer(kExamples);
  command.add_option("--stage", options->stage, "Only this stage, e.g. score (default: all)")
      ->check(not_empty())
      ->type_name("NAME")
      ->group(kNsightGroup);
  command.add_option("--tool", options->tool, "nsys or ncu (default: both)")
      ->check(not_empty())
      ->type_name("NAME")
      ->group(kNsightGroup);
  options->workload.add_trace(command);
  options->workload.add_synthetic(command);
  options->indexer.add(command);
  add_name(command, "--backend", options->backend, "cuda, or cpu or oracle for nsys", kBackendGroup);
  add_count(command, "--threads", options->threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, options->device);
  options->workload.add_memory(command);
  command.add_flag("--no-fusion", options->no_fusion, "One kernel per stage")
      ->disable_flag_override()
      ->group(kBackendGroup);
  return [options, &command, &app] {
    const Nsight nsight(*options);
    write_text("-", nsight.expectations() + nsight.commands(command_words(app, command)));
  };
}

}  // namespace misa::cli
