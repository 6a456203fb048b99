#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <thread>
#include <type_traits>

#include "backends/backends.hpp"
#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/describe.hpp"
#include "cli/given_options.hpp"
#include "cli/indexer_options.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/planned.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/suggest.hpp"
#include "core/experiment/recorded.hpp"
#include "core/indexer/effective.hpp"
#include "core/indexer/plan.hpp"
#include "core/indexer/runnable.hpp"
#include "core/measure/contention.hpp"
#include "core/measure/device_watch.hpp"
#include "core/measure/doubt.hpp"
#include "core/measure/paired_ratio.hpp"
#include "core/measure/roofline.hpp"
#include "core/measure/sampler.hpp"
#include "core/measure/timed_run.hpp"
#include "core/platform/file.hpp"
#include "core/platform/signals.hpp"
#include "core/platform/system.hpp"
#include "core/quality/quality.hpp"
#include "core/ranges/ranges.hpp"
#include "core/selection/golden.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace {

constexpr i64 kMostSamples = 50;
constexpr double kLongRun = 5;  // seconds that are worth an estimate
constexpr std::string_view kStreamed = "jsonl";
constexpr double kBusyLaunch = 1e-3;  // seconds
constexpr const char* kExamples =
    "\nExamples:\n"
    "  misa-prof profile                                     # the shipped trace, on the CPU\n"
    "  misa-prof profile --model glm-5 --workload decode-8k --indexer dsa,misa --active-heads 4\n"
    "  misa-prof profile --trace layer3.safetensors -o - -o json:result.json\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 4 unavailable, 10 runtime,\n"
    "            130 interrupted (partial results are written).\n";

struct ProfileOptions {
  WorkloadOptions workload;
  IndexerOptions indexer;
  OutputOptions output;
  std::string backend = "cpu";
  std::optional<i64> threads, device, samples, warm_up;
  double budget_seconds = 10;
  bool no_fusion = false, no_graph = false, warm = false, once = false, dry = false;
  std::string selection_path, config;
};

/// An indexer under measurement.
struct Contender {
  IndexerSpec spec;
  std::unique_ptr<Plan> plan;
  RangeName range;
};

ReportTime to_report(const Summary& summary, std::vector<double> raw) {
  return {.median_s = summary.median,
          .p10_s = summary.p10,
          .p90_s = summary.p90,
          .samples = summary.samples,
          .raw_s = std::move(raw)};
}

std::vector<ReportStage> describe_stages(const std::vector<StageSummary>& stages, const IndexerSpec& spec,
                                         const Problem& problem, const std::optional<Roofs>& roofs, bool recorded,
                                         const Circumstances& circumstances) {
  const std::vector<StageCost> costs = stage_costs(spec, problem);
  const double pairs = static_cast<double>(visible_pairs(problem));
  double total = 0;
  for (const StageSummary& stage : stages) total += stage.seconds.median;
  std::vector<ReportStage> described;
  for (const StageSummary& stage : stages) {
    const double seconds = stage.seconds.median;
    ReportStage row;
    row.name = stage_set_name(stage.stages);
    row.time = to_report(stage.seconds, stage.raw);
    if (total > 0) row.share = seconds / total;
    if (pairs > 0) row.seconds_per_pair = seconds / pairs;
    if (const auto cost = cost_of(stage.stages, costs)) {
      row.flops = cost->flops;
      row.bytes = cost->bytes;
      if (seconds > 0) {
        row.flops_per_second = static_cast<double>(cost->flops) / seconds;
        row.bytes_per_second = static_cast<double>(cost->bytes) / seconds;
      }
      if (roofs) {
        if (const auto roof = roofline(seconds, *cost, *roofs, problem.shape.dtype, recorded)) {
          row.roof_fraction = roof->fraction;
          row.bound = bound_name(roof->bound);
          if (const auto doubt = doubt_roof(*roof, stage.seconds, *cost, circumstances)) {
            row.roof_doubt = describe_doubt(*doubt);
          }
        }
      }
    }
    described.push_back(row);
  }
  return described;
}

/// FILE, or with several indexers FILE with the indexer's name before its ending.
std::string selection_path(const std::string& path, const std::string& indexer, bool several) {
  if (!several) return path;
  const std::filesystem::path file(path);
  return (file.parent_path() / (file.stem().string() + "." + indexer + file.extension().string())).string();
}

class ProfileRun {
 public:
  ProfileRun(const ProfileOptions& options, const GivenOptions& given)
      : options_(options),
        threads_(thread_count(options.threads)),
        inputs_(input_files(options)),
        targets_(options.output.targets(inputs_)),
        streamed_(targets_, kStreamed) {
    check(options, inputs_, targets_);
    backend_ =
        make_backend(options.backend, static_cast<int>(threads_), device_number(options.device, {options.backend}));
    workload_ = options.workload.load(&report_.warnings);
    settings_ = options.indexer.settings(workload_, options.workload.seed);
    if (workload_.rows() == 0) {
      throw Error(ErrorKind::nothing, "MP-E030", "the workload has no query rows", workload_.name);
    }
    std::vector<Refusal> refused;
    specs_ = runnable_specs(*backend_, shape_of(workload_), options.indexer.specs(settings_), refused);
    for (Refusal& one : refused) {
      report_.skipped.push_back({std::move(one.indexer), std::string(backend_->name()), std::move(one.reason)});
    }
    RunFacts facts{.specs = specs_, .generated = !options.workload.recorded(), .once = options.once};
    facts.run_on(options.backend);
    facts.write_to(targets_);
    warn(options_without_effect(given, facts));

    // These two want memory of their own, which on a device then is not free any more.
    if (const i64 needed = workload_.bytes() + backend_->roofs_bytes(); needed <= options.workload.memory_limit()) {
      ContentionWatch roof_watch(threads_, system_info().cores);
      roofs_ = backend_->roofs();
      const Contention at_roofs = roof_watch.finish();
      if (on_host()) roofs_loaded_ = why_loaded(at_roofs);
    } else {
      report_.warnings.push_back(
          {"MP-W050", fmt::format("roofs were not measured: workload and roofs need {} bytes, the limit is {}", needed,
                                  options.workload.memory_limit())});
    }
    backend_->prepare_run(!options.warm);
    plan_limits_ = plan_limits(options.workload, *backend_, workload_, specs_, settings_);
    placement_ = std::make_unique<Placement>(*backend_, workload_);
    warn(options_cut(given, specs_, placement_->problem()));
  }

  void run() {
    for (const IndexerSpec& spec : specs_) {
      const PlanOptions plan_options = options_of_plan(contenders_.size());
      contenders_.push_back({spec, std::make_unique<Plan>(*backend_, spec, placement_->problem(), plan_options),
                             RangeName(fmt::format("case {} {} {}", spec.name, backend_->name(), workload_.name))});
    }
    report_.tool_version = program_version();
    report_.workload =
        describe_workload(options_.workload, workload_, settings_.top_k, options_.indexer.top_k.has_value());
    report_.environment = describe_environment({backend_.get()}, threads_, options_.output.host(),
                                               roofs_ ? std::optional(workload_.q.dtype) : std::nullopt);
    if (auto& roofs = report_.environment.backends.front().roofs) roofs->loaded = roofs_loaded_;
    warn_if_busy();

    JsonLinesWriter lines([&](std::string_view line) { streamed_.write(line); });
    lines.header(report_);

    DeviceWatch watch(*backend_);
    const SampleSet samples = take_samples(watch);
    report_.interrupted = samples.interrupted;
    report_.measurement.cache = runs_.front()->cold() ? "cold" : "warm";
    report_.measurement.launch = recorded() ? "graph" : "calls";
    report_.measurement.device = describe_device(watch.finish());
    if (contention_watch_) report_.measurement.contention = describe_contention(contention_watch_->finish());
    warn_if_throttled();
    warn_if_loaded();
    note_circumstances();
    const std::size_t modes = samples.subjects.size() / contenders_.size();
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      report_.cases.push_back(
          describe_case(contenders_[i], samples.subjects[modes * i], samples.subjects[modes * i + modes - 1]));
    }
    warn_if_cut(samples);
    compare_with_dsa(samples);
    progress_.clear();
    for (const ReportCase& one : report_.cases) lines.add(one);
    lines.footer(report_);
    streamed_.finish();
    options_.output.write(
        targets_, report_.warnings,
        [&](const std::string& format, const WriterOptions& options) {
          return write_report(report_, *find_format(format), options);
        },
        kStreamed);
    if (!options_.selection_path.empty() && !report_.interrupted) write_selections();
  }

  /// The files that no output may overwrite.
  static std::vector<std::string> input_files(const ProfileOptions& options) {
    std::vector<std::string> files = options.workload.profile_files();
    if (options.workload.recorded()) files.push_back(options.workload.trace_path());
    if (!options.config.empty()) files.push_back(options.config);
    return files;
  }

  /// Refuses options that contradict each other, and names of selections that cannot be written.
  static void check(const ProfileOptions& options, const std::vector<std::string>& inputs,
                    const std::vector<Target>& targets) {
    if (options.once && options.samples) {
      throw Error(ErrorKind::usage, "MP-E051", "--profile-once takes one sample, and --samples says how many", {},
                  "one of them");
    }
    if (!options.selection_path.empty()) check_selection_paths(options, inputs, targets);
  }

  void set_command_line(std::vector<std::string> words) { report_.command_line = std::move(words); }

 private:
  static void check_selection_paths(const ProfileOptions& options, const std::vector<std::string>& inputs,
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
      for (const std::string& input : inputs) {
        if (!same_file(path, input)) continue;
        throw Error(ErrorKind::usage, "MP-E025", "'" + path + "' is an input and would be overwritten", {},
                    "another name");
      }
      for (const Target& target : targets) {
        if (!same_target(target.path, path)) continue;
        throw Error(ErrorKind::usage, "MP-E024", "two outputs go to '" + path + "'", {}, "two names");
      }
      check_writable(path);
    }
  }

  void warn(const std::vector<Warning>& warnings) {
    report_.warnings.insert(report_.warnings.end(), warnings.begin(), warnings.end());
  }

  /// The work runs on the cores of this machine, and not on a device that has memory of its own.
  bool on_host() const { return !backend_->free_bytes(); }

  /// On a device the host only queues: what else runs there does not change times.
  void warn_if_loaded() {
    std::optional<ReportContention>& contention = report_.measurement.contention;
    if (!contention) return;
    if (!on_host()) contention->loaded.reset();
    if (contention->loaded) {
      report_.warnings.push_back(
          {"MP-W060", fmt::format("other work shared the cores while it was measured ({}): do not trust times and "
                                  "ratios of this run",
                                  *contention->loaded)});
    } else if (on_host() && contention->clock_drift > kCpuClockTolerance) {
      report_.warnings.push_back({"MP-W061", fmt::format("the cores' clock moved by {:.0f} % between samples: compare "
                                                         "ratios of this run, not times",
                                                         100 * contention->clock_drift)});
    }
    if (roofs_loaded_) {
      report_.warnings.push_back(
          {"MP-W062", fmt::format("other work shared the cores while roofs were measured ({}): do not trust % roof",
                                  *roofs_loaded_)});
    }
  }

  /// What explains figures that cannot be true.
  void note_circumstances() {
    circumstances_ = {.loaded = report_.measurement.contention && report_.measurement.contention->loaded,
                      .roofs_loaded = roofs_loaded_ || (on_host() && roofs_ && roofs_->launch_seconds >= kBusyLaunch),
                      .mark_seconds = on_host() ? mark_seconds(*backend_->clock()) : 0,
                      .cache_bytes = on_host() ? system_info().cache_bytes : 0};
  }

  /// The options of contender `i`'s plan; one past the last contender: of the reference's.
  PlanOptions options_of_plan(std::size_t i) const {
    return {.max_bytes = plan_limits_[i] + placement_->problem().bytes, .fusion = !options_.no_fusion};
  }

  /// An empty parallel region takes microseconds; milliseconds mean that threads wait for a core.
  void warn_if_busy() {
    if (!roofs_ || roofs_->launch_seconds < kBusyLaunch) return;
    report_.warnings.push_back({"MP-W001", fmt::format("other work shares these cores (an empty parallel region took "
                                                       "{:.1f} ms): do not trust times and roofs of this run",
                                                       roofs_->launch_seconds * 1e3)});
  }

  /// Whether what was sampled was replayed. The last to be recorded is the last indexer.
  bool recorded() const { return runs_.back()->recorded(); }

  void warn_if_throttled() {
    const std::optional<ReportDevice>& device = report_.measurement.device;
    if (!device) return;
    if (!device->throttled.empty()) {
      report_.warnings.push_back(
          {"MP-W002", fmt::format("the device was slowed down while it was measured ({}): compare "
                                  "ratios of this run, not times",
                                  fmt::join(device->throttled, ", "))});
    } else if (device->clock_drift > kClockTolerance) {
      report_.warnings.push_back(
          {"MP-W003", fmt::format("the device's clock moved by {:.1f} % between samples: more --warm-up, or compare "
                                  "ratios of this run, not times",
                                  100 * device->clock_drift)});
    }
  }

  bool slow() const { return backend_->logits_dtype() == Dtype::f64; }
  i64 most_samples() const { return options_.samples.value_or(slow() || options_.once ? 1 : kMostSamples); }

  /// A budget that ended sampling before there were the samples asked for, or, where no number was asked for, few.
  void warn_if_cut(const SampleSet& samples) {
    const i64 taken = static_cast<i64>(samples.subjects.front().runs.size());
    if (!samples.cut || (!options_.samples && taken >= kLeastRounds)) return;
    report_.warnings.push_back(
        {"MP-W051", fmt::format("the budget of {:g} s ended sampling after {} of {} samples of each indexer: "
                                "--budget for more",
                                options_.budget_seconds, taken, options_.samples.value_or(kLeastRounds))});
  }

  /// Each indexer twice: as a whole, and with its stages marked; of --profile-once, the latter run is both.
  SampleSet take_samples(DeviceWatch& watch) {
    bool warmed_up = false;
    std::vector<Subject> subjects;
    for (const Contender& contender : contenders_) {
      for (const bool staged : {false, true}) {
        if (options_.once && !staged) continue;
        const auto work = [plan = contender.plan.get()](Observer* observer) { plan->run(observer); };
        runs_.push_back(std::make_unique<TimedRun>(
            *backend_, contender.range, work,
            TimedRunOptions{.stages = staged, .cold = !options_.warm, .record = !options_.no_graph && !options_.once}));
        subjects.push_back({contender.spec.name, [&warmed_up, run = runs_.back().get()] { return (*run)(warmed_up); }});
      }
    }
    SamplerOptions sampling;
    sampling.warm_up = options_.warm_up.value_or(slow() ? 0 : 1);
    sampling.max_samples = most_samples();
    sampling.budget_seconds = options_.budget_seconds;
    sampling.interrupted = interrupted;
    sampling.warmed_up = [&] {
      warmed_up = true;
      contention_watch_.emplace(threads_, system_info().cores);
    };
    sampling.after_run = [&](const SamplingProgress& done) {
      if (done.samples > 0) watch.sampled();
      if (contention_watch_) contention_watch_->sampled();
      const double all = done.seconds + done.seconds_left;
      if (done.runs == 1 && all > kLongRun) {
        progress_.say(fmt::format("this takes about {:.0f} s: the first of at most {} runs took {:.2g} s", all,
                                  done.most_runs, done.seconds));
      }
      const std::string what =
          done.samples == 0 ? std::string("warming up") : fmt::format("sample {} of {}", done.samples, most_samples());
      progress_.show(fmt::format("{}: {}, run {} of {}, {:.0f} s left", subjects[done.subject].name, what, done.runs,
                                 done.most_runs, done.seconds_left));
    };
    return sample(subjects, sampling);
  }

  ReportCase describe_case(const Contender& contender, const Samples& whole, const Samples& staged) const {
    ReportCase described;
    const Problem& problem = placement_->problem();
    const IndexerSpec& spec = contender.plan->spec();
    described.indexer = spec.name;
    if (spec.heads) described.router = router_name(spec.heads->router);
    described.backend = backend_->name();
    described.parameters = describe_parameters(contender.spec);
    described.used = describe_parameters(effective(contender.spec, problem));
    described.shape = {problem.shape.rows,
                       problem.shape.heads,
                       problem.shape.head_dim,
                       problem.shape.keys,
                       problem.shape.max_window,
                       spec.top_k,
                       std::string(dtype_name(problem.shape.dtype)),
                       problem.shape.paged};
    described.threads = threads_;
    if (whole.first) described.first_call_s = whole.first->seconds;
    const std::vector<StageSummary> stages = summarise_stages(staged.runs);
    described.stages = describe_stages(stages, spec, problem, roofs_, recorded(), circumstances_);
    if (!whole.runs.empty()) {
      std::vector<double> raw = seconds_of(whole.runs);
      const Summary summary = summarise(raw);
      described.end_to_end = to_report(summary, std::move(raw));
      if (!stages.empty()) {
        const std::optional<Doubt> doubt = doubt_closure(summary, stages, circumstances_);
        described.closure_residual = closure_residual(summary.median, stages);
        described.closure_ok = !doubt;
        if (doubt) described.closure_doubt = describe_doubt(*doubt);
      }
    }
    return described;
  }

  /// Speed-up and quality of every case, against dsa of the same run.
  void compare_with_dsa(const SampleSet& samples) {
    std::optional<ReportTime> dsa;
    for (const ReportCase& one : report_.cases) {
      if (one.indexer == "dsa" && one.end_to_end) dsa = one.end_to_end;
    }
    const bool ran = std::all_of(samples.subjects.begin(), samples.subjects.end(),
                                 [](const Samples& subject) { return subject.first.has_value(); });
    if (!ran) {
      for (ReportCase& one : report_.cases) one.quality_reason = "interrupted";
      return;
    }
    HostTensor reference;
    try {
      reference = dsa_tokens(settings_.top_k);
      rate_recorded_topk(reference);
    } catch (const Interrupted&) {
      report_.interrupted = true;
      for (ReportCase& one : report_.cases) one.quality_reason = "interrupted";
      return;
    }
    const SelectedTokens wanted{reference.span<const i32>(), settings_.top_k};
    const Baselines blind = baselines(workload_, wanted);
    report_.workload.chance_recall = blind.chance;
    report_.workload.window_recall = blind.window;
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      ReportCase& one = report_.cases[i];
      if (dsa && one.end_to_end) {
        one.speedup_over_dsa = dsa->median_s / one.end_to_end->median_s;
        if (one.indexer != "dsa") one.speedup = describe_speedup(dsa->raw_s, one.end_to_end->raw_s);
      }
      const HostTensor tokens = fetch_ids(*backend_, contenders_[i].plan->tokens());
      one.quality =
          describe_quality(compare_selections(workload_, wanted, {tokens.span<const i32>(), settings_.top_k}), "dsa");
      if (one.indexer == "dsa") one.quality_reason = "is the reference";
    }
  }

  /// The selection that the trace recorded, against dsa of as many tokens; `reference` is dsa's of this run's top-k.
  void rate_recorded_topk(const HostTensor& reference) {
    const std::optional<RecordedTopK> recorded = recorded_topk(workload_);
    if (!recorded) return;
    const HostTensor own = recorded->k == settings_.top_k ? HostTensor() : dsa_tokens(recorded->k);
    const Quality quality = rate_recorded(workload_, *recorded, (own.empty() ? reference : own).span<const i32>());
    report_.recorded_topk = {.top_k = recorded->k, .quality = describe_quality(quality, "dsa")};
  }

  /// What dsa selects when each row keeps `top_k` tokens. [M, top_k]
  HostTensor dsa_tokens(i64 top_k) {
    for (const Contender& contender : contenders_) {
      if (contender.spec.name == "dsa" && contender.spec.top_k == top_k) {
        return fetch_ids(*backend_, contender.plan->tokens());
      }
    }
    progress_.show("dsa: reference");
    IndexerSettings settings = settings_;
    settings.top_k = top_k;
    Plan dsa(*backend_, make_indexer("dsa", settings), placement_->problem(), options_of_plan(contenders_.size()));
    dsa.run(nullptr);
    return fetch_ids(*backend_, dsa.tokens());
  }

  void write_selections() {
    for (const Contender& contender : contenders_) {
      RecordedSelection selection;
      selection.tokens = fetch_ids(*backend_, contender.plan->tokens());
      selection.heads = fetch_ids(*backend_, contender.plan->heads());
      selection.blocks = fetch_ids(*backend_, contender.plan->blocks());
      std::map<std::string, std::string> facts = golden_facts(contender.spec, workload_);
      facts.merge(backend_facts(*backend_, placement_->problem().shape));
      write_selection(selection_path(options_.selection_path, contender.spec.name, contenders_.size() > 1), workload_,
                      selection, facts);
    }
  }

  const ProfileOptions& options_;
  i64 threads_;
  std::vector<std::string> inputs_;
  std::vector<Target> targets_;
  StreamedTargets streamed_;
  std::unique_ptr<Backend> backend_;
  Workload workload_;
  IndexerSettings settings_;
  std::vector<IndexerSpec> specs_;
  std::unique_ptr<Placement> placement_;
  std::vector<i64> plan_limits_;
  std::optional<Roofs> roofs_;
  std::vector<Contender> contenders_;
  std::vector<std::unique_ptr<TimedRun>> runs_;
  std::optional<ContentionWatch> contention_watch_;  ///< from the first sample on
  std::optional<std::string> roofs_loaded_;          ///< what disturbed the roofs
  Circumstances circumstances_;
  Report report_;
  Progress progress_;
};

}  // namespace

Work add_profile(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("profile", "Time indexers stage by stage and rate what they select");
  const auto options = std::make_shared<ProfileOptions>();
  command.footer(kExamples);
  options->workload.add_trace(command);
  options->workload.add_synthetic(command);

  options->indexer.add(command);
  add_backend(command, options->backend, "What the indexers run on", kBackendGroup);
  add_count(command, "--threads", options->threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, options->device);
  options->workload.add_memory(command);
  const auto add_flag = [&](const char* name, bool& value, const char* what, const char* group) {
    command.add_flag(name, value, what)->disable_flag_override()->group(group);
  };
  add_flag("--no-fusion", options->no_fusion, "One kernel per stage", kBackendGroup);
  add_flag("--no-graph", options->no_graph, "On cuda: launch kernel by kernel, not as a graph", kBackendGroup);

  add_count(command, "--samples", options->samples, "Samples of each indexer, if the budget holds them (default: 50)",
            kTimingGroup);
  add_flag("--profile-once", options->once, "For a profiler: one run of each indexer, its stages marked", kTimingGroup);
  add_count(command, "--warm-up", options->warm_up, "Runs that are thrown away first (default: 1)", kTimingGroup, 0);
  add_flag("--warm", options->warm, "On cuda: leave in the cache what the last run left there", kTimingGroup);
  add_flag("--dry-run", options->dry, "Run nothing: print what would run, and its memory", kTimingGroup);
  add_decimal(command, "--budget", options->budget_seconds,
              "Seconds for all runs together, first calls, warm-up and stages too; a sample of each indexer is always "
              "taken",
              "SECONDS", kTimingGroup, 0, 1e6);

  options->output.add(command);
  command
      .add_option("--dump-selection", options->selection_path,
                  "Write selected tokens, heads and blocks; with several indexers out.safetensors becomes "
                  "out.INDEXER.safetensors")
      ->check(not_empty())
      ->type_name("FILE")
      ->group(kOutputGroup);
  command.add_option("--config", options->config, "TOML file of long option names; the command line wins")
      ->check(not_empty())
      ->type_name("FILE")
      ->group(kOutputGroup);

  return [options, &command, &app] {
    if (!options->config.empty()) apply_config(command, options->config);
    if (options->dry) {
      RunFacts facts{.once = options->once};
      const std::vector<std::string> inputs = ProfileRun::input_files(*options);
      const std::vector<Target> targets = options->output.targets(inputs);
      ProfileRun::check(*options, inputs, targets);
      facts.write_to(targets);
      const int device = device_number(options->device, {options->backend});
      return write_text(
          "-", plan_run(options->workload, options->indexer, options->backend, thread_count(options->threads), device,
                        !options->no_fusion, given_options(command), facts)
                   .text());
    }
    ProfileRun run(*options, given_options(command));
    run.set_command_line(command_words(app, command));
    run.run();
  };
}

}  // namespace misa::cli
