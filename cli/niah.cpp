#include "core/experiment/niah.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/given_options.hpp"
#include "cli/indexer_variants.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/planned.hpp"
#include "cli/ranges.hpp"
#include "cli/workload_options.hpp"
#include "core/base/decimal.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/report/text.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/profile.hpp"

namespace misa::cli {
namespace {

constexpr double kSure = 0.15;  // share of the work from which on its time can be estimated
constexpr u64 kMostDepths = 101, kMostSeeds = 1000, kMostNeedles = 64;
constexpr const char* kNeedleGroup = "Needles";
constexpr const char* kNiahExamples =
    "\nExamples:\n"
    "  misa-prof niah                                        # green maps, and a red one\n"
    "  misa-prof niah --context 4k:32k:*2 --depths 5 --indexer dsa,misa:active-heads=4,misa:router=gate\n"
    "  misa-prof niah --backend cuda --needles 8 -o - -o json:needles.json\n"
    "\nExit codes: 0 ok, 2 usage, 4 unavailable, 5 no needle can be seen, 10 runtime,\n"
    "            130 interrupted (partial results are written).\n";

struct NiahOptions {
  WorkloadOptions workload;  ///< --model, --preset, --seed, --max-memory
  IndexerOptions indexer;
  OutputOptions output{niah_format_names()};
  std::string context = "4k:128k:*2", depths = "11", mode = "top", backend = "cpu", config;
  std::optional<i64> threads, device;
  i64 seeds = 2, needles = 2, length = NeedleRequest{}.length;
  bool no_fusion = false, dry = false;
};

[[noreturn]] void refuse_depths(const std::string& what) {
  throw Error(ErrorKind::usage, "MP-E553", "--depths: " + what, {}, "--depths 11, or --depths 0,0.25,0.5,1");
}

/// "11": so many, evenly from 0 to 1. "0,0.5,1" or "0%,50%,100%": those.
std::vector<double> depths_of(const std::string& text) {
  std::vector<double> depths;
  if (const std::optional<u64> count = whole_number_of(text); count && *count >= 2) {
    if (*count > kMostDepths) refuse_depths(fmt::format("{} are more than {}", *count, kMostDepths));
    for (u64 i = 0; i < *count; ++i) depths.push_back(static_cast<double>(i) / static_cast<double>(*count - 1));
    return depths;
  }
  for (const std::string& part : split_at_commas({text})) {
    const bool percents = !part.empty() && part.back() == '%';
    const std::optional<double> number = decimal_number_of(percents ? part.substr(0, part.size() - 1) : part);
    const double depth = percents ? number.value_or(-1) / 100 : number.value_or(-1);
    if (!(depth >= 0 && depth <= 1)) refuse_depths(fmt::format("'{}' is no depth from 0 to 1, or 0% to 100%", part));
    depths.push_back(depth);
  }
  std::sort(depths.begin(), depths.end());
  if (depths.size() > kMostDepths) refuse_depths(fmt::format("{} are more than {}", depths.size(), kMostDepths));
  if (std::adjacent_find(depths.begin(), depths.end()) != depths.end()) refuse_depths("a depth occurs twice");
  return depths;
}

NeedleMode mode_of(const std::string& name) {
  const auto names = needle_mode_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<NeedleMode>(found - names.begin());
  throw Error(ErrorKind::usage, "MP-E554", "there is no needle mode '" + name + "'", {}, suggestion(name, names));
}

void refuse_programs(const std::string& backend) {
  const auto names = names_of(backends());
  if (std::find(names.begin(), names.end(), backend) != names.end()) return;
  if (!is_plugin(backend) && backend.rfind("exec:", 0) != 0) return;  // make_backend says what there is
  throw Error(ErrorKind::usage, "MP-E555", "niah runs our own backends, and '" + backend + "' is none", "--backend",
              "misa-prof compare, which judges kernels of yours");
}

/// What the options ask for, on a backend.
NiahRequest request_of(const NiahOptions& options, Backend& backend) {
  const std::vector<std::string> directories = profile_directories();
  if (directories.empty()) throw no_profiles();
  const ModelProfile model =
      load_model(options.workload.model.empty() ? "deepseek-v3.2" : options.workload.model, directories);
  WorkloadProfile profile;
  profile.contexts = {1024};  // the map has its own
  profile.rows = 1;
  if (!options.workload.preset.empty()) profile.preset = find_preset(options.workload.preset).name;
  if (find_preset(profile.preset).pattern != Pattern::structured) {
    throw Error(ErrorKind::usage, "MP-E557", fmt::format("preset '{}' has no place for needles", profile.preset), {},
                "--preset natural");
  }
  NiahRequest request{.backend = backend, .drawn = make_request(model, profile, options.workload.seed)};
  request.drawn.name = model.name + "/needles";
  request.contexts = counts_of("--context", options.context);
  std::sort(request.contexts.begin(), request.contexts.end());
  request.depths = depths_of(options.depths);
  request.needles = options.needles;
  request.needle = {.depths = {}, .length = options.length, .mode = mode_of(options.mode)};
  for (i64 i = 0; i < options.seeds; ++i) request.seeds.push_back(options.workload.seed + static_cast<u64>(i));
  for (const IndexerVariant& variant : variants_of(options.indexer)) {
    request.variants.push_back(
        {variant.name, [own = variant.options, seed = options.workload.seed](const Workload& workload) {
           return own.specs(own.settings(workload, seed)).front();
         }});
  }
  request.threads = thread_count(options.threads);
  request.memory = options.workload.memory_limits();
  request.fusion = !options.no_fusion;
  return request;
}

/// What options cannot change, and what they leave out of the longest context.
std::vector<Warning> warnings_of(const NiahOptions& options, const NiahRequest& request, const GivenOptions& given,
                                 const std::vector<Target>& targets) {
  RunFacts facts{.generated = true};
  const Workload longest = undrawn_column(request, request.contexts.back());
  for (const NiahVariant& variant : request.variants) facts.specs.push_back(variant.spec(longest));
  facts.run_on(options.backend);
  facts.write_to(targets);
  std::vector<Warning> warnings = options_without_effect(given, facts);
  for (Warning& warning : options_cut(given, facts.specs, outline_of(longest))) warnings.push_back(std::move(warning));
  return warnings;
}

std::string plan_text(const NiahPlan& plan, const DrySide& side) {
  std::string text = fmt::format(
      "{} of {} and {}: {}; planned for backend {}{}\n", counted(static_cast<i64>(plan.indexers.size()), "map", "maps"),
      counted(plan.cells, "cell", "cells"), counted(plan.runs, "run", "runs"), joined(plan.indexers, ", "), side.name,
      side.absent.empty() ? "" : fmt::format(", which is absent here ({})", side.absent));
  for (const NiahPlan::Context& context : plan.contexts) {
    text += fmt::format("context {}: {}; {} of memory\n", context.tokens, counted(context.rows, "row", "rows"),
                        binary_bytes(context.bytes));
  }
  for (const Refusal& skip : plan.skipped) text += fmt::format("skipped {}: {}\n", skip.indexer, skip.reason);
  return text;
}

void run_niah(const NiahOptions& options, const GivenOptions& given, const std::vector<std::string>& words) {
  refuse_programs(options.backend);
  std::vector<std::string> inputs = options.workload.profile_files();
  if (!options.config.empty()) inputs.push_back(options.config);
  const std::vector<Target> targets = options.output.targets(inputs);
  const int device = device_number(options.device, {options.backend});
  const i64 threads = thread_count(options.threads);
  if (options.dry) {
    const DrySide side = dry_side(options.backend, threads, device);
    const NiahRequest request = request_of(options, *side.backend);
    const std::vector<Warning> warnings = warnings_of(options, request, given, targets);
    std::string text = plan_text(plan_niah(request), side);
    for (const Warning& warning : warnings) text += warning_line(warning) + "\n";
    return write_text("-", text);
  }
  const std::unique_ptr<Backend> backend = make_backend(options.backend, static_cast<int>(threads), device, {});
  NiahRequest request = request_of(options, *backend);
  request.origin = origin_of(options.workload, options.output.host(), options.indexer.top_k.has_value());
  request.origin.command_line = words;
  request.origin.warnings = warnings_of(options, request, given, targets);
  Progress line;
  bool said = false;
  request.progress = [&](const NiahProgress& now) {
    if (!said && now.done >= kSure) {
      said = true;
      if (now.seconds_left > kLongRun) {
        line.say(fmt::format("this takes about {:.0f} s: {:.0f} % took {:.1f} s", now.seconds + now.seconds_left,
                             100 * now.done, now.seconds));
      }
    }
    line.show(fmt::format("context {}, seed {}: {}; {:.0f} %{}", now.context, now.seed, now.doing, 100 * now.done,
                          said ? fmt::format(", {:.0f} s left", now.seconds_left) : std::string()));
  };
  const NiahReport report = niah(request);
  line.clear();
  options.output.write(targets, report.warnings, [&](const std::string& format, const WriterOptions& writing) {
    return write_report(report, format, writing);
  });
  if (report.interrupted || report.knows_any()) return;
  throw Error(ErrorKind::nothing, "MP-E552", "no row sees a needle: every cell of every map is unknown", {},
              "--context 4k:128k:*2");
}

}  // namespace

Work add_niah(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("niah", "Map which needles in a haystack indexers select");
  const auto options = std::make_shared<NiahOptions>();
  command.footer(kNiahExamples);
  add_text(command, "--model", options->workload.model, "Model profile: a name (misa-prof list) or a .toml file",
           "NAME", kWorkloadGroup);
  add_text(command, "--preset", options->workload.preset, "Synthetic preset of the haystack (default: natural)", "NAME",
           kWorkloadGroup);
  add_text(command, "--context", options->context, "Tokens of the haystacks: 4k,32k, or 4k:128k:*2, or 8k:64k:+8k",
           "LIST", kWorkloadGroup)
      ->capture_default_str();
  add_seed(command, options->workload.seed, "The first seed", kWorkloadGroup);
  add_count(command, "--seeds", options->seeds, "Seeds, each a haystack of its own", kWorkloadGroup);
  add_text(command, "--depths", options->depths, "How many, evenly from 0 to 1; or those: 0,0.5,1, or 0%,50%,100%",
           "LIST", kNeedleGroup)
      ->capture_default_str();
  add_count(command, "--needles", options->needles, "Needles of each depth in a haystack", kNeedleGroup);
  add_count(command, "--needle-length", options->length, "Tokens of a needle", kNeedleGroup);
  add_name(command, "--needle-mode", options->mode,
           fmt::format("Which heads look for it: {}", fmt::join(needle_mode_names(), ", ")), kNeedleGroup);
  options->indexer.names = {"dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa:router=qnorm,active-heads=1"};
  options->indexer.add(command);
  command.get_option("--indexer")
      ->description(fmt::format("all, or comma-separated: {}; each with options of its own if need be, as "
                                "misa:router=qnorm,active-heads=1 (default: that, and all but misa-lr-dagger)",
                                fmt::join(names_of(all_indexers()), ", ")))
      ->default_str("");
  add_name(command, "--backend", options->backend,
           fmt::format("What the indexers run on: {}", fmt::join(names_of(backends()), ", ")), kBackendGroup);
  add_count(command, "--threads", options->threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, options->device);
  options->workload.add_memory(command);
  add_flag(command, "--no-fusion", options->no_fusion, "One kernel per stage", kBackendGroup);
  add_flag(command, "--dry-run", options->dry, "Run nothing: print the cases and their memory", kBackendGroup);
  options->output.add(command);
  add_config(command, options->config);
  return [options, &command, &app] {
    if (!options->config.empty()) apply_config(command, options->config);
    if (options->seeds > static_cast<i64>(kMostSeeds) || options->needles > static_cast<i64>(kMostNeedles)) {
      throw Error(ErrorKind::usage, "MP-E556",
                  fmt::format("--seeds is {} of at most {}, --needles {} of at most {}", options->seeds, kMostSeeds,
                              options->needles, kMostNeedles),
                  {}, "--seeds 2 --needles 2");
    }
    run_niah(*options, given_options(command), command_words(app, command));
  };
}

}  // namespace misa::cli
