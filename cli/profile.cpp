#include "core/experiment/profile.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <memory>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/gate.hpp"
#include "cli/given_options.hpp"
#include "cli/indexer_options.hpp"
#include "cli/layers.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/planned.hpp"
#include "cli/side_options.hpp"
#include "cli/supervised.hpp"
#include "cli/user_program.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/experiment/describe.hpp"
#include "core/experiment/isolated_side.hpp"
#include "core/experiment/layers.hpp"
#include "core/indexer/runnable.hpp"
#include "core/platform/file.hpp"
#include "core/report/text.hpp"
#include "core/selection/golden.hpp"
#include "core/selection/selection_file.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {
namespace {

constexpr double kBudget = 4, kBudgetOfSides = 60;  // seconds
constexpr const char* kSidesGroup = "Two sides";
constexpr const char* kProfileExamples =
    "\nExamples:\n"
    "  misa-prof profile                                     # the shipped trace, on the CPU\n"
    "  misa-prof profile --model glm-5 --workload decode-8k --indexer dsa,misa --active-heads 4\n"
    "  misa-prof profile --trace layer3.safetensors -o - -o json:result.json\n"
    "  misa-prof profile --indexer misa --ab '--active-heads 4' --max-slowdown 5%\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 4 unavailable, 6 or 7 as --max-slowdown says, 10 runtime,\n"
    "            130 interrupted (partial results are written).\n";

struct ProfileOptions : SideOptions {
  WorkloadOptions workload;
  OutputOptions output;
  std::optional<i64> device, samples, warm_up;
  std::optional<double> budget_seconds, max_slowdown, same_within;
  double limit_seconds = 60;
  std::string ab;        ///< the options of side B; empty: there is none, but for --aa
  bool aa = false;       ///< side B is side A
  std::string isolated;  ///< of the process that measures a plug-in: where it meets the one that watches it
  bool warm = false, once = false, dry = false;
  std::string selection_path, trace_out, config;
  std::string layers;  ///< where traces of several layers are; empty: one workload is profiled

  bool two_sides() const { return aa || !ab.empty(); }
  /// Refuses what two sides exclude, and what takes two.
  void check_sides() const;
  /// Refuses what --layers excludes.
  void check_layers(const CLI::App& command) const;
};

void ProfileOptions::check_sides() const {
  const auto refuse = [](const std::string& what, const std::string& how) {
    throw Error(ErrorKind::usage, "MP-E496", what, {}, how);
  };
  if (aa && !ab.empty()) refuse("--aa measures A twice, and --ab says what B is", "one of them");
  if (!two_sides() && max_slowdown) refuse("--max-slowdown takes two sides", "--ab, or misa-prof diff for two results");
  if (!two_sides() && same_within) refuse("--same-within takes two sides", "--ab or --aa");
  if (two_sides() && once) refuse("--profile-once takes one sample, and two sides are compared by many", "one of them");
  if (two_sides() && !trace_out.empty())
    refuse("--trace-out shows stages, which two sides are not timed by", "one of them");
  if (two_sides() && dry) refuse("--dry-run shows one side", "it without --ab and --aa");
}

void ProfileOptions::check_layers(const CLI::App& command) const {
  for (const char* option : {"--trace", "--layer", "--model", "--workload", "--preset", "--phase", "--context",
                             "--sequences", "--next-n", "--page-size", "--dtype", "--row", "--ab", "--aa",
                             "--profile-once", "--dry-run", "--dump-selection", "--trace-out"}) {
    if (command.get_option(option)->count() == 0) continue;
    throw Error(ErrorKind::usage, "MP-E568", fmt::format("--layers profiles recorded layers, without {}", option), {},
                "one of them; --trace FILE --layer N is one layer alone");
  }
  if (!is_plugin(backend)) return;
  throw Error(ErrorKind::usage, "MP-E568", "--layers profiles our backends, and not a plug-in", "--backend",
              "--trace with one layer");
}

/// Side B of a run, and what it stands on.
class OtherSide {
 public:
  OtherSide(const ProfileOptions& options, const Workload& workload, Backend& a)
      : b_(options.aa ? SideB{options, {}, {}} : side_b(options, options.ab)) {
    if (is_plugin(b_.options.backend) || is_program(b_.options.backend)) {
      throw Error(ErrorKind::usage, "MP-E495", "a plug-in or a program cannot be a side", "--backend",
                  "profile --backend plugin:FILE alone, which measures the plug-in beside ours");
    }
    const i64 threads = thread_count(b_.options.threads);
    backend_ = make_backend(b_.options.backend, static_cast<int>(threads),
                            device_number(options.device, {options.backend, b_.options.backend}),
                            forced_kernels(b_.options.kernels));
    if (backend_->free_bytes().has_value() != a.free_bytes().has_value()) {
      throw Error(ErrorKind::usage, "MP-E495", "one side is on the host and the other on a device", "--ab",
                  "two runs and misa-prof diff --allow-different-run");
    }
    const IndexerSettings settings = b_.options.indexer.settings(workload, options.workload.seed);
    side_.emplace(ProfileSide{.backend = *backend_,
                              .specs = b_.options.indexer.specs(settings),
                              .threads = threads,
                              .fusion = !b_.options.no_fusion,
                              .graphs = !b_.options.no_graph,
                              .told = {.b = b_.words, .max_slowdown = options.max_slowdown}});
    if (options.same_within) side_->told.same_within = *options.same_within;
  }

  const ProfileSide& side() const { return *side_; }

  /// Of options of side B that do nothing.
  std::vector<Warning> warnings(RunFacts facts, const Workload& workload) const {
    facts.specs = side_->specs;
    facts.run_on(b_.options.backend);
    std::vector<Warning> found = options_without_effect(b_.given, facts);
    for (Warning& warning : options_cut(b_.given, facts.specs, outline_of(workload)))
      found.push_back(std::move(warning));
    for (Warning& warning : found) warning.where += warning.where.empty() ? "side B" : ", side B";
    return found;
  }

 private:
  SideB b_;
  std::unique_ptr<Backend> backend_;
  std::optional<ProfileSide> side_;
};

/// Ends as --max-slowdown says of side B.
void end_as_gated(const Report& report) {
  std::vector<Gated> gated;
  for (const ReportCase& one : report.cases) {
    if (one.gate) gated.push_back({one.spec.name, *one.change, *one.gate, {}});
  }
  end_as_gated(gated, *report.sides->max_slowdown, "a longer --budget, or a quieter machine");
}

/// FILE, or with several indexers FILE with the indexer's name before its ending.
std::string selection_path(const std::string& path, const std::string& indexer, bool several) {
  if (!several) return path;
  const std::filesystem::path file(path);
  return (file.parent_path() / (file.stem().string() + "." + indexer + file.extension().string())).string();
}

/// The files that no output may overwrite.
std::vector<std::string> input_files(const ProfileOptions& options) {
  std::vector<std::string> files = options.workload.profile_files();
  if (options.workload.recorded()) files.push_back(options.workload.trace_path());
  if (!options.config.empty()) files.push_back(options.config);
  return files;
}

void check_selection_paths(const ProfileOptions& options, const std::vector<std::string>& inputs,
                           const std::vector<Target>& targets) {
  const std::string& given = options.selection_path;
  if (given == "-" || given.back() == '/') {
    throw Error(ErrorKind::usage, "MP-E023", "--dump-selection '" + given + "' names no file", {},
                "--dump-selection selected.safetensors");
  }
  check_trace_name("--dump-selection", given);
  const std::vector<std::string> names = options.indexer.listed();
  for (const std::string& name : names) {
    const std::string path = selection_path(given, name, names.size() > 1);
    check_no_input(path, inputs);
    for (const Target& target : targets) {
      if (!same_target(target.path, path)) continue;
      throw Error(ErrorKind::usage, "MP-E024", "two outputs go to '" + path + "'", {}, "two names");
    }
    check_writable(path);
  }
}

void check_trace_out(const std::string& path, const std::vector<std::string>& inputs,
                     const std::vector<Target>& targets) {
  if (path == "-" || path.back() == '/') {
    throw Error(ErrorKind::usage, "MP-E023", "--trace-out '" + path + "' names no file", {}, "--trace-out trace.json");
  }
  const std::string ending = std::filesystem::path(path).extension().string();
  if (!ending.empty() && ending != ".json") {
    throw Error(ErrorKind::usage, "MP-E054", "a timeline has the ending .json, not '" + ending + "'",
                "--trace-out " + path,
                "--trace-out " + std::filesystem::path(path).replace_extension(".json").string());
  }
  check_no_input(path, inputs);
  for (const Target& target : targets) {
    if (!same_target(target.path, path)) continue;
    throw Error(ErrorKind::usage, "MP-E024", "two outputs go to '" + path + "'", {}, "two names");
  }
  check_writable(path);
}

/// The places results go to. Refuses options that contradict each other, and names of files that cannot be written.
std::vector<Target> checked_targets(const ProfileOptions& options) {
  const std::vector<std::string> inputs = input_files(options);
  std::vector<Target> targets = options.output.targets(inputs);
  if (options.once && options.samples) {
    throw Error(ErrorKind::usage, "MP-E051", "--profile-once takes one sample, and --samples says how many", {},
                "one of them");
  }
  if (!options.selection_path.empty()) check_selection_paths(options, inputs, targets);
  if (!options.trace_out.empty()) check_trace_out(options.trace_out, inputs, targets);
  return targets;
}

void show(Progress& line, const ProfileProgress& progress) {
  if (progress.reference) return line.show("dsa: reference");
  const SamplingProgress& done = progress.done;
  const double all = done.seconds + done.seconds_left;
  if (done.runs == 1 && all > kLongRun) {
    line.say(fmt::format("this takes about {:.0f} s: the first of at most {} runs took {:.2g} s", all, done.most_runs,
                         done.seconds));
  }
  const std::string what = done.samples == 0 ? std::string("warming up")
                                             : fmt::format("sample {} of {}", done.samples, progress.most_samples);
  line.show(fmt::format("{}: {}, run {} of {}, {:.0f} s left", progress.indexer, what, done.runs, done.most_runs,
                        done.seconds_left));
}

/// Runs nothing: prints what would run.
void print_plan(const ProfileOptions& options, const GivenOptions& given) {
  RunFacts facts{.once = options.once};
  facts.write_to(checked_targets(options));
  const int device = device_number(options.device, {options.backend});
  write_text("-", plan_profile(options.workload, options.indexer, options.backend, thread_count(options.threads),
                               device, !options.no_fusion, given, facts)
                      .text());
}

/// Profiles each layer that --layers names.
void run_layers(const ProfileOptions& options, std::vector<std::string> command_line) {
  const std::vector<LayerTrace> traces = layer_traces(options.layers);
  std::vector<std::string> inputs{options.config};
  for (const LayerTrace& trace : traces) inputs.push_back(trace.path);
  const std::vector<Target> targets = options.output.targets(inputs);
  const std::vector<std::string_view> formats = layers_format_names();
  for (const Target& target : targets) {
    if (std::find(formats.begin(), formats.end(), target.format) != formats.end()) continue;
    throw Error(ErrorKind::usage, "MP-E568", "--layers has no format '" + target.format + "'", {},
                fmt::format("{}", fmt::join(formats, ", ")));
  }
  const i64 threads = thread_count(options.threads);
  const std::unique_ptr<Backend> backend =
      make_backend(options.backend, static_cast<int>(threads), device_number(options.device, {options.backend}),
                   forced_kernels(options.kernels));
  Progress progress;
  const std::vector<std::string> names = options.indexer.listed();
  LayersProfile layers(std::find(names.begin(), names.end(), "given") != names.end());
  for (const LayerTrace& trace : traces) {
    WorkloadOptions one = options.workload;
    one.trace = trace.path;
    one.layer = trace.layer;
    Origin origin = origin_of(one, options.output.host(), options.indexer.top_k.has_value());
    Workload workload = one.load(&origin.warnings);
    const IndexerSettings settings = options.indexer.settings(workload, one.seed);
    std::vector<IndexerSpec> specs = options.indexer.specs(settings);
    const bool has_dsa = std::any_of(specs.begin(), specs.end(), [](auto& spec) { return spec.name == "dsa"; });
    if (!has_dsa) specs.insert(specs.begin(), make_indexer("dsa", settings));
    if (workload.candidates.empty() && !layers.give(workload) &&
        std::erase_if(specs, [](const IndexerSpec& spec) { return spec.given; }) > 0) {
      layers.report().skipped.push_back(trace.name + ": given: no layer before it has candidates for its rows");
    }
    ProfileRequest request{.backend = *backend,
                           .workload = workload,
                           .specs = specs,
                           .settings = settings,
                           .threads = threads,
                           .memory = one.memory_limits(),
                           .samples = options.samples,
                           .warm_up = options.warm_up,
                           .budget_seconds = options.budget_seconds.value_or(kBudget),
                           .cold = !options.warm,
                           .fusion = !options.no_fusion,
                           .graphs = !options.no_graph,
                           .origin = std::move(origin)};
    request.sinks.progress = [&](const ProfileProgress& done) {
      progress.show(fmt::format("{}: {}", trace.name, done.indexer));
    };
    layers.add(trace.name, std::move(request));
    if (layers.report().interrupted) break;
  }
  progress.clear();
  LayersReport& report = layers.report();
  report.command_line = std::move(command_line);
  options.output.write(targets, report.warnings, [&](const std::string& format, const WriterOptions& writing) {
    return write_report(report, format, writing);
  });
}

/// The command that explains rows of what `command` was told to profile.
std::string explaining(const CLI::App& app, const CLI::App& command) {
  std::vector<std::string> words{app.get_name(), "explain"};
  for (const CLI::Option* option : command.get_options()) {
    const std::string& group = option->get_group();
    if ((group != kWorkloadGroup && group != kIndexerGroup) || option->check_lname("indexer")) continue;
    for (const std::string& value : option->results()) {
      words.push_back("--" + option->get_lnames().front());
      words.push_back(value);
    }
  }
  return command_text(words, {});
}

void run_profile(const ProfileOptions& options, const GivenOptions& given, std::vector<std::string> command_line,
                 std::string explains) {
  const i64 threads = thread_count(options.threads);
  const std::vector<Target> targets = checked_targets(options);
  StreamedTargets streamed(targets, kStreamed);
  const auto watched = options.isolated.empty() ? nullptr : std::make_unique<Supervised>(options.isolated);
  std::function<void(std::string_view)> note;
  if (watched) note = [&](std::string_view function) { watched->note_step(function); };
  const std::unique_ptr<Backend> backend =
      make_backend(options.backend, static_cast<int>(threads), device_number(options.device, {options.backend}),
                   forced_kernels(options.kernels), note);
  Origin origin = origin_of(options.workload, options.output.host(), options.indexer.top_k.has_value());
  if (!options.workload.row && !is_plugin(options.backend)) {
    origin.explain_row = [explains = std::move(explains)](const std::string& indexer, i64 row) {
      return fmt::format("{} --indexer {} --row {}", explains, indexer, row);
    };
  }
  origin.command_line = std::move(command_line);
  const Workload workload = options.workload.load(&origin.warnings);
  const IndexerSettings settings = options.indexer.settings(workload, options.workload.seed);
  const std::vector<IndexerSpec> specs = options.indexer.specs(settings);

  RunFacts facts{.generated = !options.workload.recorded(), .once = options.once, .child = watched != nullptr};
  std::vector<Refusal> refused;  // the report says which
  facts.specs = runnable_specs(*backend, shape_of(workload), specs, refused);
  facts.run_on(options.backend);
  facts.write_to(targets);
  for (Warning& warning : options_without_effect(given, facts)) origin.warnings.push_back(std::move(warning));
  for (Warning& warning : options_cut(given, facts.specs, outline_of(workload))) {
    origin.warnings.push_back(std::move(warning));
  }
  std::optional<OtherSide> other;
  if (options.two_sides()) {
    other.emplace(options, workload, *backend);
    for (Warning& warning : other->warnings(facts, workload)) origin.warnings.push_back(std::move(warning));
  }

  Progress progress;
  JsonLinesWriter lines([&](std::string_view line) { streamed.write(line); });
  ProfileRequest request{.backend = *backend,
                         .workload = workload,
                         .specs = specs,
                         .settings = settings,
                         .threads = threads,
                         .memory = options.workload.memory_limits(),
                         .samples = options.samples,
                         .warm_up = options.warm_up,
                         .budget_seconds = options.budget_seconds.value_or(other ? kBudgetOfSides : kBudget),
                         .cold = !options.warm,
                         .fusion = !options.no_fusion,
                         .graphs = !options.no_graph,
                         .once = options.once,
                         .b = other ? &other->side() : nullptr,
                         .origin = std::move(origin)};
  request.sinks.progress = [&](const ProfileProgress& done) { show(progress, done); };
  // The header waits for the first result: a supervised measurement that fails begins again.
  std::optional<Report> begun;
  const auto write_header = [&] {
    if (begun) lines.header(*begun);
    begun.reset();
  };
  request.sinks.started = [&](const Report& report) {
    begun = report;
    if (!watched) write_header();
  };
  request.sinks.finished = [&](const ReportCase& one) {
    progress.clear();
    write_header();
    lines.add(one);
  };
  if (watched) {
    request.failed = watched->failed(backend->name());
    request.sinks.loaded_work = [&](std::string_view indexer) { watched->note_work(indexer); };
  }
  request.sinks.reported = [&](const Report& report) {
    progress.clear();
    write_header();
    lines.footer(report);
    streamed.finish();
    options.output.write(
        targets, report.warnings,
        [&](const std::string& format, const WriterOptions& writing) { return write_report(report, format, writing); },
        kStreamed);
    if (watched) watched->note_written();
  };
  if (!options.trace_out.empty()) {
    request.sinks.timeline = [&](const Timeline& timeline) { write_text(options.trace_out, write_timeline(timeline)); };
  }
  if (!options.selection_path.empty()) {
    request.sinks.selected = [&](const IndexerSpec& spec, const Selection& selection) {
      std::map<std::string, std::string> metadata = golden_facts(spec, workload);
      metadata.merge(backend_facts(*backend, shape_of(workload), request.origin));
      write_selection(selection_path(options.selection_path, spec.name, facts.specs.size() > 1), workload, selection,
                      metadata);
    };
  }
  try {
    const Report report = profile(request);
    if (options.max_slowdown && !report.interrupted) end_as_gated(report);
  } catch (const Error& error) {
    if (!watched || !blames_plugin(error)) throw;
    progress.clear();
    watched->note_error(std::string(error.id()) + ": " + error.what());
    throw EndedAs{static_cast<int>(error.kind())};
  }
  if (request.failed.empty()) return;
  const Refusal& first = request.failed.front();
  throw Error(
      ErrorKind::mismatch, "MP-E422",
      fmt::format("the plug-in failed in {}: {}: {}",
                  counted(static_cast<i64>(request.failed.size()), "indexer", "indexers"), first.indexer, first.reason),
      options.backend, "misa-prof compare --indexer " + first.indexer + ", which tests it alone");
}

}  // namespace

Work add_profile(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("profile", "Time indexers stage by stage and rate what they select");
  const auto options = std::make_shared<ProfileOptions>();
  command.footer(kProfileExamples);
  options->workload.add_trace(command);
  add_text(command, "--layers", options->layers,
           "Recorded layers, one after the other: a folder of traces, or a file that holds several", "PATH",
           kWorkloadGroup);
  options->workload.add_synthetic(command);
  options->workload.add_row(command);

  options->indexer.add(command);
  options->SideOptions::add(command);
  add_device(command, options->device);
  options->workload.add_memory(command);
  add_count(command, "--samples", options->samples, "Samples of each indexer, if the budget holds them (default: 50)",
            kTimingGroup);
  add_flag(command, "--profile-once", options->once, "For a profiler: one run of each indexer, its stages marked",
           kTimingGroup);
  add_count(command, "--warm-up", options->warm_up, "Runs that are thrown away first (default: 1)", kTimingGroup, 0);
  add_flag(command, "--warm", options->warm, "On cuda: leave in the cache what the last run left there", kTimingGroup);
  add_flag(command, "--dry-run", options->dry, "Run nothing: print what would run, and its memory", kTimingGroup);
  add_decimal(command, "--budget", options->budget_seconds,
              "Seconds for all runs together, first calls, warm-up and stages too; a sample of each indexer is always "
              "taken (default: 4; 60 with two sides)",
              "SECONDS", kTimingGroup, 0, 1e6);

  add_decimal(command, "--time-limit", options->limit_seconds, "Seconds that a plug-in may take for a run", "SECONDS",
              kTimingGroup, 0, 1e6);

  add_text(command, "--ab", options->ab, "Measure side B beside this, with these options changed, in the same rounds",
           "'OPTIONS'", kSidesGroup);
  add_flag(command, "--aa", options->aa, "Measure this beside itself: how small a difference this machine tells",
           kSidesGroup);
  add_share(command, "--max-slowdown", options->max_slowdown,
            "End with status 6 or 7 unless side B is at most so much slower", kSidesGroup);
  add_share(command, "--same-within", options->same_within, "What counts as the same (default: 1%)", kSidesGroup);

  options->output.add(command);
  add_text(command, "--dump-selection", options->selection_path,
           "Write selected tokens, heads and blocks; with several indexers out.safetensors becomes "
           "out.INDEXER.safetensors",
           "FILE", kOutputGroup);
  add_text(command, "--trace-out", options->trace_out,
           "Write the first sample of each indexer as a timeline, for ui.perfetto.dev", "FILE", kOutputGroup);
  add_config(command, options->config);
  command.add_option("--isolated", options->isolated)->group("");  // hidden: no user types it

  return [options, &command, &app] {
    if (!options->config.empty()) apply_config(command, options->config);
    if (!options->layers.empty()) {
      options->check_layers(command);
      return run_layers(*options, command_words(app, command));
    }
    options->check_sides();
    if (is_program(options->backend)) {
      throw Error(ErrorKind::usage, "MP-E067", "a program cannot be timed: its time is that of starting and of files",
                  "--backend exec:", "misa-prof compare, which judges it; profile times --backend plugin:FILE");
    }
    if (is_plugin(options->backend) && options->two_sides()) {
      throw Error(ErrorKind::usage, "MP-E495", "a plug-in or a program cannot be a side", "--backend",
                  "profile --backend plugin:FILE alone, which measures the plug-in beside ours");
    }
    if (is_plugin(options->backend) && options->isolated.empty()) {
      supervise(options->backend, command_words(app, command), options->limit_seconds);
    }
    if (options->dry) return print_plan(*options, given_options(command));
    run_profile(*options, given_options(command), command_words(app, command), explaining(app, command));
  };
}

}  // namespace misa::cli
