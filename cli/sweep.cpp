#include "core/experiment/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "backends/backends.hpp"
#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/given_options.hpp"
#include "cli/planned.hpp"
#include "cli/sweep_file.hpp"
#include "cli/sweep_options.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"
#include "core/experiment/describe.hpp"
#include "core/experiment/sweep_records.hpp"
#include "core/report/text.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {
namespace {

constexpr const char* kSweepExamples =
    "\nExamples:\n"
    "  misa-prof sweep                                  # from which context length does misa pay here?\n"
    "  misa-prof sweep --context 4k:128k:*2 --indexer misa,hisa --active-heads 2,4,8 -o sweep.jsonl\n"
    "  misa-prof sweep --indexer all --dry-run\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 4 unavailable, 10 runtime,\n"
    "            130 interrupted (the groups that are whole are written).\n";

class SweepCommand {
 public:
  SweepCommand(const SweepOptions& options, GivenOptions given, std::vector<std::string> words)
      : options_(options),
        given_(std::move(given)),
        threads_(thread_count(options.threads)),
        axes_(options.axes()),
        words_(std::move(words)) {
    plan_ = plan_sweep(axes_, options.zip_names(), [&](const Coordinates& point) { return spec_of(point); });
    if (!options.shard.empty()) shard_ = parse_shard(options.shard);
  }

  void show_plan() {
    for (const PlannedGroup& group : plan_.groups) check_memory(group);
    std::string text = describe_plan();
    try {
      make_backends();
      text += fmt::format("time: about {:.0f} s, estimated from a short run of the smallest group\n",
                          estimate_sweep(request_for(groups_of_shard())).seconds());
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unavailable) throw;
      text += fmt::format("time: not estimated, for {}\n", error.what());
    }
    write_text("-", text);
  }

  void run() {
    const std::vector<std::string> inputs = input_files();
    const std::vector<Target> targets = options_.output.targets(inputs);
    for (const PlannedGroup& group : plan_.groups) check_memory(group);
    const std::vector<Warning> warnings = idle_options(targets);
    SweepFile file(targets, options_.resume, header(inputs));
    make_backends();
    std::vector<const PlannedGroup*> missing;
    for (const PlannedGroup* group : groups_of_shard()) {
      if (!file.has(group->number)) missing.push_back(group);
    }
    const double begun = steady_seconds();
    double estimated = 0;
    SweepRequest request = request_for(missing);
    request.sinks.estimated = [&](double seconds) {
      estimated = seconds;
      const auto there = static_cast<i64>(groups_of_shard().size() - missing.size());
      progress_.say(fmt::format("this takes about {:.0f} s: {} in {}{}", seconds,
                                counted(cases_of(missing), "case", "cases"),
                                counted(static_cast<i64>(missing.size()), "group", "groups"),
                                there > 0 ? fmt::format("; {} there already", counted(there, "is", "are")) : ""));
      file.begin(environment());
    };
    request.sinks.progress = [&](const SweepProgress& done) { show(done, missing); };
    request.sinks.measured = [&](const PlannedGroup& group, const Report& report) {
      progress_.clear();
      file.add(case_records(group, report));
    };
    request.sinks.skipped = [&](const PlannedGroup& group, const std::string& reason) {
      progress_.clear();
      progress_.say(fmt::format("skipped {}: {}", group.key, reason));
      file.skip(skip_records(group, reason));
    };
    bool whole = true;
    if (missing.empty()) {
      file.begin(environment());
    } else {
      whole = sweep(request);
    }
    progress_.clear();
    if (!file.begun()) throw Interrupted();
    for (const SkippedPoint& point : plan_.skipped) file.skip({skip_json(point.key, "", "", point.reason)});
    const SweepReport report =
        file.finish(whole, warnings, {{"estimated_seconds", estimated}, {"spent_seconds", steady_seconds() - begun}});
    options_.output.write(
        targets, warnings,
        [&](const std::string& format, const WriterOptions& writing) { return write_report(report, format, writing); },
        kStreamed);
    if (!whole) say_how_to_resume(targets);
  }

 private:
  // The plan.

  IndexerSpec spec_of(const Coordinates& point) {
    const IndexerOptions indexer = options_.indexer_of(point);
    const IndexerSettings settings = indexer.settings(outline_of_point(point), options_.seed);
    return indexer.specs(settings).front();
  }

  /// The outline of the last workload is kept: points of one workload follow each other.
  const Workload& outline_of_point(const Coordinates& point) {
    Coordinates of_workload;
    std::copy_if(point.begin(), point.end(), std::back_inserter(of_workload),
                 [](const auto& one) { return axis_info(one.first).affects == nullptr && one.first != "backend"; });
    std::string key = coordinates_text(of_workload);
    if (key != outlined_ || !outline_) {
      outline_ = options_.workload_of(point).outline();
      outlined_ = std::move(key);
    }
    return *outline_;
  }

  IndexerSettings settings_of(const PlannedGroup& group, const Workload& workload) const {
    return options_.indexer_of(group.cases.front().coordinates).settings(workload, options_.seed);
  }

  static std::vector<IndexerSpec> specs_of(const PlannedGroup& group) {
    std::vector<IndexerSpec> specs;
    for (const PlannedCase& one : group.cases) specs.push_back(one.spec);
    return specs;
  }

  /// Refuses a group that memory cannot hold, before any is measured.
  MemoryNeed check_memory(const PlannedGroup& group) {
    const std::string backend = value_at(group.coordinates, "backend");
    const DrySide side = dry_side(backend, threads_, device_of(backend));
    const Workload& outline = outline_of_point(group.coordinates);
    const IndexerSettings settings = settings_of(group, outline);
    plan_limits(memory_limits(), *side.backend, outline, specs_of(group), settings);
    return memory_needed(*side.backend, outline, specs_of(group), settings);
  }

  std::string describe_plan() {
    std::string text = fmt::format("{} in {}", counted(plan_.cases(), "case", "cases"),
                                   counted(static_cast<i64>(plan_.groups.size()), "group", "groups"));
    text += fmt::format(": {} of {}", counted(plan_.points, "combination", "combinations"),
                        counted(static_cast<i64>(axes_.size()), "axis", "axes"));
    i64 same = 0;
    for (const PlannedGroup& group : plan_.groups) {
      for (const PlannedCase& one : group.cases) same += std::max<i64>(0, one.points - 1);
    }
    if (same > 0) text += fmt::format(", of which {} differ from another in nothing that affects their indexer", same);
    text += "\n";
    if (shard_.count > 1) {
      text += fmt::format("shard {}/{}: {} in {}\n", shard_.index, shard_.count,
                          counted(cases_of(groups_of_shard()), "case", "cases"),
                          counted(static_cast<i64>(groups_of_shard().size()), "group", "groups"));
    }
    i64 most = 0;
    for (const PlannedGroup* group : groups_of_shard()) {
      const MemoryNeed need = check_memory(*group);
      most = std::max(most, need.on_host + need.on_device);
      std::vector<std::string> names;
      for (const PlannedCase& one : group->cases) names.push_back(one.name);
      text += fmt::format("group {}: {}; {} of memory at least: {}\n", group->number, group->key,
                          binary_bytes(need.on_host + need.on_device), fmt::join(names, ", "));
    }
    for (const SkippedPoint& point : plan_.skipped) text += fmt::format("skipped {}: {}\n", point.key, point.reason);
    return text + fmt::format("memory: {} for the largest group\n", binary_bytes(most));
  }

  std::vector<const PlannedGroup*> groups_of_shard() const {
    std::vector<const PlannedGroup*> groups;
    for (const PlannedGroup& group : plan_.groups) {
      if (shard_.has(group)) groups.push_back(&group);
    }
    return groups;
  }

  static i64 cases_of(const std::vector<const PlannedGroup*>& groups) {
    i64 cases = 0;
    for (const PlannedGroup* group : groups) cases += static_cast<i64>(group->cases.size());
    return cases;
  }

  // The run.

  MemoryLimits memory_limits() const { return options_.workload_of({}).memory_limits(); }

  int device_of(const std::string& backend) const { return device_number(options_.device, {backend}); }

  void make_backends() {
    for (const PlannedGroup& group : plan_.groups) {
      const std::string name = value_at(group.coordinates, "backend");
      if (backends_.find(name) != backends_.end()) continue;
      backends_[name] =
          make_backend(name, static_cast<int>(threads_), device_of(name), forced_kernels(options_.kernels));
      // Roofs are measured once, and are no part of any group's time.
      has_roofs_ = backends_[name]->roofs_bytes() + check_memory(group).on_host <= memory_limits().host;
      if (has_roofs_) backends_[name]->roofs();
    }
  }

  Backend& backend_of(const PlannedGroup& group) { return *backends_.at(value_at(group.coordinates, "backend")); }

  SweepRequest request_for(std::vector<const PlannedGroup*> groups) {
    SweepRequest request;
    request.groups = std::move(groups);
    request.outline = [this](const PlannedGroup& group) { return options_.workload_of(group.coordinates).outline(); };
    request.measure = [this](const PlannedGroup& group, const GroupRun& run) { return measure(group, run); };
    request.sampling = [this](const PlannedGroup& group) {
      const bool slow = backend_of(group).logits_dtype() == Dtype::f64;
      return SweepSampling{.samples = options_.samples.value_or(slow ? 1 : 50),
                           .warm_up = options_.warm_up.value_or(slow ? 0 : 1),
                           .budget_seconds = budget_of(group)};
    };
    return request;
  }

  double budget_of(const PlannedGroup& group) const {
    return options_.budget_seconds * static_cast<double>(group.cases.size());
  }

  MeasuredGroup measure(const PlannedGroup& group, const GroupRun& run) {
    const WorkloadOptions workload_options = options_.workload_of(group.coordinates);
    Backend& backend = backend_of(group);
    Origin origin = origin_of(workload_options, options_.output.host(), !value_at(group.coordinates, "top-k").empty());
    origin.command_line = words_;
    const double begun = steady_seconds();
    const Workload workload = workload_options.load(&origin.warnings);
    const double load_seconds = steady_seconds() - begun;
    ProfileRequest request{.backend = backend,
                           .workload = workload,
                           .specs = specs_of(group),
                           .settings = settings_of(group, workload),
                           .threads = threads_,
                           .memory = memory_limits(),
                           .samples = run.trial ? 1 : options_.samples,
                           .warm_up = run.trial ? 0 : options_.warm_up,
                           .budget_seconds = run.trial ? 0 : budget_of(group),
                           .cold = !options_.warm,
                           .fusion = !options_.no_fusion,
                           .graphs = !options_.no_graph,
                           .origin = std::move(origin)};
    request.sinks.progress = [&](const ProfileProgress& done) {
      if (run.progress) run.progress(done);
    };
    return {profile(request), load_seconds};
  }

  void show(const SweepProgress& done, const std::vector<const PlannedGroup*>& groups) {
    const SamplingProgress& sampling = done.profile.done;
    progress_.show(
        fmt::format("group {} of {}, {}: {}, {:.0f} s left", done.group + 1, groups.size(), done.profile.indexer,
                    sampling.samples == 0 ? std::string("warming up") : fmt::format("sample {}", sampling.samples),
                    done.seconds_left));
  }

  // What is written.

  std::vector<std::string> input_files() const {
    std::vector<std::string> files = options_.input_files(axes_);
    if (!options_.config.empty()) files.push_back(options_.config);
    return files;
  }

  /// What the sweep is, which two files of it have in common.
  Json header(const std::vector<std::string>& inputs) const {
    Json json = identity_json("sweep-1.0.schema.json", "misa-prof/sweep", kSweepSchemaVersion,
                              std::string(program_version()), words_);
    json["environment"] = Json();
    json["axes"] = axes_json(axes_);
    json["zip"] = options_.zip_names();
    json["options"] = options_.shared_json(threads_);
    json["inputs"] = array_of(inputs, [](const std::string& path) {
      return Json{{"path", path}, {"hash", file_hash(path)}};
    });
    json["planned"] = planned_json(plan_);
    json["shard"] = Json{{"index", shard_.index}, {"count", shard_.count}};
    return json;
  }

  /// Known once the backends' roofs were measured.
  Json environment() {
    const Origin origin{
        .tool_version = std::string(program_version()), .build = build_facts(), .host = options_.output.host()};
    std::vector<Backend*> backends;
    for (const auto& [name, backend] : backends_) backends.push_back(backend.get());
    std::optional<Dtype> elements;
    if (has_roofs_) elements = outline_of_point(plan_.groups.front().coordinates).q.dtype;
    return {{"environment", environment_json(describe_environment(backends, threads_, origin, elements))}};
  }

  /// Warnings about options that change nothing in any case of the sweep.
  std::vector<Warning> idle_options(const std::vector<Target>& targets) const {
    RunFacts facts{.generated = value_at(plan_.groups.front().coordinates, "trace").empty()};
    facts.write_to(targets);
    for (const PlannedGroup& group : plan_.groups) {
      facts.run_on(value_at(group.coordinates, "backend"));
      for (const PlannedCase& one : group.cases) facts.specs.push_back(one.spec);
    }
    return options_without_effect(given_, facts);
  }

  void say_how_to_resume(const std::vector<Target>& targets) {
    const auto lines = std::find_if(targets.begin(), targets.end(), [](const Target& target) {
      return target.format == kStreamed && target.path != "-";
    });
    if (lines == targets.end()) {
      progress_.say("a sweep that writes JSON lines (-o sweep.jsonl) can go on with --resume");
      return;
    }
    std::vector<std::string> words = words_;
    if (std::find(words.begin(), words.end(), "--resume") == words.end()) words.emplace_back("--resume");
    progress_.say("to go on: " + command_text(words, {}));
  }

  const SweepOptions& options_;
  GivenOptions given_;
  i64 threads_;
  std::vector<SweepAxis> axes_;
  std::vector<std::string> words_;
  SweepPlan plan_;
  Shard shard_;
  std::map<std::string, std::unique_ptr<Backend>> backends_;
  bool has_roofs_ = false;
  std::string outlined_;
  std::optional<Workload> outline_;
  Progress progress_;
};

}  // namespace

Work add_sweep(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("sweep", "Measure over context lengths and other axes: from where does it pay?");
  const auto options = std::make_shared<SweepOptions>();
  command.footer(kSweepExamples);
  options->add(command);
  return [options, &command, &app] {
    if (!options->config.empty()) apply_config(command, options->config);
    SweepCommand work(*options, given_options(command), command_words(app, command));
    if (options->dry) return work.show_plan();
    work.run();
  };
}

}  // namespace misa::cli
