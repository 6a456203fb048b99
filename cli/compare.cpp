#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>

#include "backends/backends.hpp"
#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/compare_options.hpp"
#include "cli/describe.hpp"
#include "cli/given_options.hpp"
#include "cli/planned.hpp"
#include "core/agreement/compare_sides.hpp"
#include "core/agreement/guarded_backend.hpp"
#include "core/agreement/poison.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/experiment/recorded.hpp"
#include "core/indexer/effective.hpp"
#include "core/indexer/runnable.hpp"
#include "core/platform/file.hpp"
#include "core/platform/folder.hpp"
#include "core/platform/signals.hpp"
#include "core/platform/system.hpp"
#include "core/quality/quality.hpp"
#include "core/report/text.hpp"
#include "core/selection/golden.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kExamples =
    "\nExamples:\n"
    "  misa-prof compare                                 # cpu against the formulas, on the shipped trace\n"
    "  misa-prof compare --write-golden goldens          # what a device selects, for machines without it\n"
    "  misa-prof compare --against goldens --annotate -o - -o junit:agreement.xml\n"
    "  misa-prof compare --indexer misa --against-indexer dsa --min-recall 0.7\n"
    "\nExit codes: 0 agree, 1 miss or violation (or too little recall), 2 usage, 3 input, 4 unavailable,\n"
    "            5 nothing was compared, 7 cannot be judged, 10 runtime, 130 interrupted.\n";

constexpr const char* kBundledInput = "input.safetensors";
constexpr const char* kBundledReport = "report.json";

constexpr double kLongRun = 5;  // seconds that are worth an estimate

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

[[noreturn]] void refuse_folder(const std::string& path, const std::string& reason) {
  throw Error(ErrorKind::runtime, "MP-E605", "the folder cannot be made: " + reason, path,
              "a folder that can be written");
}

void make_folder(const std::string& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (!failure && fs::is_directory(path, failure)) return;
  refuse_folder(path, failure.message());
}

/// True of the options that say what is compared; --indexer only says how much of it.
bool names_inputs(const CLI::Option& option) {
  const std::string& group = option.get_group();
  return (group == kWorkloadGroup || group == kIndexerGroup) && !option.check_lname("indexer");
}

/// Those options as they were given, one `name=value` a line.
std::string made_with(const CLI::App& command) {
  std::string lines;
  for (const CLI::Option* option : command.get_options()) {
    if (!names_inputs(*option)) continue;
    for (const std::string& value : option->results()) lines += option->get_lnames().front() + "=" + value + "\n";
  }
  return lines;
}

/// Without such an option on the command line, those that the golden of --against was made with.
void adopt_made_with(CLI::App& command, const std::string& against) {
  for (const CLI::Option* option : command.get_options()) {
    if (names_inputs(*option) && option->count() > 0) return;
  }
  std::vector<std::string> goldens;
  std::error_code failure;
  if (fs::is_directory(against, failure)) {
    for (const auto& entry : fs::directory_iterator(against, failure)) {
      if (entry.path().extension() == ".safetensors") goldens.push_back(entry.path().string());
    }
  } else if (fs::exists(against, failure)) {
    goldens.push_back(against);
  }
  if (goldens.empty()) return;
  const std::string& path = *std::min_element(goldens.begin(), goldens.end());
  std::istringstream lines(golden_metadata(path)["made_with"]);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = std::min(line.find('='), line.size());
    CLI::Option* option = command.get_option_no_throw("--" + line.substr(0, equals));
    const auto refuse = [&](const std::string& what) {
      throw Error(ErrorKind::input, "MP-E602", "made_with has '" + line + "': " + what, path,
                  "the --trace, or --model, --workload, --seed and --rows, that it was made with");
    };
    if (option == nullptr || equals == line.size() || !names_inputs(*option)) {
      refuse("no option of a workload or an indexer");
    }
    try {
      option->add_result(line.substr(equals + 1));
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      refuse(error.what());
    }
  }
}

/// The indexers of which there are goldens, in the order of `list`.
std::vector<std::string> indexers_of_goldens(const std::string& against) {
  std::error_code failure;
  if (!fs::is_directory(against, failure)) {
    return fs::exists(against, failure) ? std::vector{golden_metadata(against)["indexer"]} : std::vector<std::string>{};
  }
  std::vector<std::string> names;
  for (const IndexerInfo& info : indexers()) {
    const std::string name(info.name);
    if (fs::exists(fs::path(against) / (name + ".safetensors"), failure)) names.push_back(name);
  }
  return names;
}

RunFacts facts_of(const CompareOptions& options) {
  return {.rates = !options.against_indexer.empty(), .mistaken = !options.inject.empty()};
}

class CompareRun {
 public:
  CompareRun(const CompareOptions& options, const GivenOptions& given, std::vector<std::string> words,
             std::string made_with)
      : options_(options),
        words_(std::move(words)),
        made_with_(std::move(made_with)),
        threads_(thread_count(options.threads)),
        choices_(options.choices()),
        targets_(options.output.targets(input_files(options))) {
    check_sides();
    if (!options.inject.empty()) options.mistake();
    oracle_ = make_backend("oracle", static_cast<int>(threads_));
    const int device = options.device_number();
    const auto side = [&](const std::string& name) -> std::unique_ptr<Backend> {
      if (!options.dry) return make_backend(name, static_cast<int>(threads_), device);
      dry_.push_back(dry_side(name, threads_, device));
      return std::move(dry_.back().backend);
    };
    backend_ = side(options.backend);
    guarded_ = std::make_unique<GuardedBackend>(*backend_);
    if (options.against_indexer.empty() && is_backend(options.against) && options.against != "oracle") {
      other_ = side(options.against);
    }
    workload_ = options.workload.load(&report_.warnings);
    if (workload_.rows() == 0) {
      throw Error(ErrorKind::nothing, "MP-E030", "the workload has no query rows", workload_.name);
    }
    settings_ = options.indexer.settings(workload_, options.workload.seed);
    specs_ = options.indexer.specs(settings_);
    std::vector<Refusal> refused;  // each case says so for itself
    runnable_specs(*backend_, shape_of(workload_), specs_, refused);
    RunFacts facts = facts_of(options);
    facts.specs = specs_;
    if (!options.against_indexer.empty()) facts.specs.push_back(make_indexer(options.against_indexer, settings_));
    facts.generated = !options.workload.recorded();
    facts.run_on(options.backend);
    facts.run_on("oracle");  // judges
    facts.run_on(options.against);
    facts.write_to(targets_);
    warn(options_without_effect(given, facts));
    if (leaves_recorded_out()) {
      warn({{"MP-W021", "the recorded topk is not judged: --stages leaves the tokens out", workload_.name}});
    }

    if (!options.against_indexer.empty()) reference_spec_ = make_indexer(options.against_indexer, settings_);
    const bool copied = options.poison || options.robust || !options.inject.empty();
    std::vector<IndexerSpec> run = specs_;
    if (!workload_.topk.empty()) {
      IndexerSettings recorded = settings_;
      recorded.top_k = workload_.topk.shape.at(1);
      recorded_spec_ = make_indexer(options.against_indexer.empty() ? "dsa" : options.against_indexer, recorded);
      run.push_back(*recorded_spec_);
    }
    plan_limits_ =
        comparison_limits(options, *oracle_, *backend_, other_.get(), run, reference_spec_, workload_, copied ? 1 : 0);
    plan_options_.fusion = !options.no_fusion;
    check_folders();
    arbiter_ = std::make_unique<Arbiter>(*oracle_, workload_);
    warn(options_cut(given, facts.specs, arbiter_->problem()));
  }

  /// What the sides would run. A golden runs nothing, and a rating has one side.
  std::string planned() {
    std::string text = planned(*backend_, dry_.front(), report_.warnings);
    if (!options_.against_indexer.empty() || !is_backend(options_.against)) return text;
    if (other_) return text + planned(*other_, dry_.back(), {});
    const DrySide formulas = dry_side("oracle", threads_, 0);
    return text + planned(*formulas.backend, formulas, {});
  }

  void run() {
    describe();
    const auto begun = std::chrono::steady_clock::now();
    for (const IndexerSpec& spec : specs_) {
      if (interrupted()) break;
      plan_options_.max_bytes = plan_limits_[report_.cases.size()] + arbiter_->problem().bytes;
      const std::size_t number = report_.cases.size();
      const double each = number == 0 ? 0 : since(begun) / static_cast<double>(number);
      const double left = each * static_cast<double>(specs_.size() - number);
      if (number == 1 && left > kLongRun) {
        progress_.say(fmt::format("this takes about {:.0f} s more: {} took {:.2g} s, {} left", left,
                                  specs_.front().name, each,
                                  counted(static_cast<i64>(specs_.size()) - 1, "indexer is", "indexers are")));
      }
      progress_.show(fmt::format("{}: {} of {}{}", spec.name, number + 1, specs_.size(),
                                 number == 0 ? std::string() : fmt::format(", about {:.0f} s left", left)));
      const auto start = std::chrono::steady_clock::now();
      AgreementCase& one = report_.cases.emplace_back();
      hints_.emplace_back();
      one.indexer = spec.name;
      if (spec.heads) one.router = router_name(spec.heads->router);
      one.parameters = describe_parameters(spec);
      one.used = describe_parameters(effective(spec, arbiter_->problem()));
      try {
        if (const std::string reason = why_not(spec); !reason.empty()) {
          one.verdict = Conclusion::nothing;
          one.explanation = reason;
        } else if (options_.against_indexer.empty()) {
          compare(spec, one);
        } else {
          rate(spec, one);
        }
      } catch (const Interrupted&) {
      }
      if (interrupted()) end_interrupted(one);
      if (one.verdict != Conclusion::passed) one.reproduce = reproduce(spec);
      one.seconds = since(start);
    }
    if (const std::optional<RecordedTopK> recorded = recorded_topk(workload_);
        recorded && !leaves_recorded_out() && !interrupted()) {
      compare_recorded(*recorded);
      if (interrupted()) end_interrupted(report_.cases.back());
    }
    report_.interrupted = interrupted();
    progress_.clear();
    options_.output.write(targets_, report_.warnings, [&](const std::string& format, const WriterOptions& writer) {
      return write_report(report_, format, writer);
    });
    if (options_.annotate) {
      const std::string text = github_annotations(report_);
      (void)std::fwrite(text.data(), 1, text.size(), stderr);
    }
    if (!report_.interrupted) finish();
  }

 private:
  static std::vector<std::string> input_files(const CompareOptions& options) {
    std::vector<std::string> files = options.workload.profile_files();
    if (options.workload.recorded()) files.push_back(options.workload.trace_path());
    if (!options.config.empty()) files.push_back(options.config);
    if (!is_backend(options.against)) files.push_back(options.against);
    return files;
  }

  std::string planned(Backend& backend, const DrySide& side, const std::vector<Warning>& warnings) const {
    const Placement placement(backend, workload_);
    PlannedRun run;
    run.workload = workload_.name;
    run.backend = side.name;
    run.absent = side.absent;
    run.rows = workload_.rows();
    run.workload_bytes = Placement::bytes_needed(workload_);
    run.warnings = warnings;
    std::vector<IndexerSpec> specs = specs_;
    if (reference_spec_) specs.push_back(*reference_spec_);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (backend.why_not(specs[i], shape_of(workload_))) continue;
      const i64 limit = plan_limits_[i < specs_.size() ? i : 0];
      run.indexers.push_back(
          plan_indexer(backend, specs[i], placement.problem(),
                       {.max_bytes = limit + placement.problem().bytes, .fusion = !options_.no_fusion}));
    }
    return run.text();
  }

  void check_sides() const {
    if (!options_.against_indexer.empty()) {
      if (options_.against != "oracle" || !options_.golden.empty()) {
        throw Error(ErrorKind::usage, "MP-E039",
                    "--against-indexer rates quality on one backend: there is no other side", {},
                    "without --against and --write-golden");
      }
      const std::vector<std::string> names = options_.indexer.listed();
      if (std::find(names.begin(), names.end(), options_.against_indexer) != names.end()) {
        const std::string other = options_.against_indexer == "dsa" ? "misa" : "dsa";
        throw Error(ErrorKind::usage, "MP-E041", options_.against_indexer + " against itself says nothing", {},
                    names.size() > 1 ? "--indexer without " + options_.against_indexer : "--against-indexer " + other);
      }
      return;
    }
    if (options_.min_recall) {
      throw Error(ErrorKind::usage, "MP-E040", "--min-recall needs an indexer to rate against", {},
                  options_.indexer.listed() == std::vector<std::string>{"dsa"} ? "--against-indexer misa"
                                                                               : "--against-indexer dsa");
    }
    if (options_.against == options_.backend) {
      throw Error(ErrorKind::usage, "MP-E041", options_.backend + " against itself says nothing", {},
                  "--against oracle; --repeat-bitwise to see whether it is deterministic");
    }
    std::error_code failure;
    if (is_backend(options_.against) || fs::exists(options_.against, failure)) return;
    std::vector<std::string_view> names;
    for (const BackendInfo& info : backends()) names.push_back(info.name);
    const std::string near = nearest(options_.against, names);
    throw Error(near.empty() ? ErrorKind::input : ErrorKind::usage, "MP-E606",
                "'" + options_.against + "' is no backend, and no file or folder of goldens", "--against",
                near.empty() ? "misa-prof compare --write-golden " + shell_word(options_.against) : near);
  }

  void warn(const std::vector<Warning>& warnings) {
    report_.warnings.insert(report_.warnings.end(), warnings.begin(), warnings.end());
  }

  void describe() {
    report_.tool_version = program_version();
    report_.command_line = words_;
    report_.workload =
        describe_workload(options_.workload, workload_, settings_.top_k, options_.indexer.top_k.has_value());
    std::vector<Backend*> used{backend_.get(), oracle_.get()};
    if (other_) used.push_back(other_.get());
    report_.environment = describe_environment(used, threads_, options_.output.host());
    report_.input_hash = input_hash(workload_);
    const auto side = [&](Backend& backend) {
      const auto arithmetic = backend.arithmetic(shape_of(workload_));
      return ReportSide{std::string(backend.name()), backend.description(),
                        arithmetic ? std::string(arithmetic->name) : std::string()};
    };
    report_.side = side(*backend_);
    report_.against =
        is_backend(options_.against) ? side(other_ ? *other_ : *oracle_) : ReportSide{options_.against, "golden", ""};
    if (!options_.against_indexer.empty()) report_.against = report_.side;
    report_.max_miss = options_.max_miss;
  }

  /// Why a side cannot run an indexer; empty: both can.
  std::string why_not(const IndexerSpec& spec) const {
    for (const Backend* one : {backend_.get(), other_.get()}) {
      if (one == nullptr) continue;
      if (const auto reason = one->why_not(spec, shape_of(workload_))) {
        return fmt::format("backend {} cannot run it: {}", one->name(), *reason);
      }
    }
    return {};
  }

  /// The golden of an indexer; empty: there is none.
  std::string golden_path(const IndexerSpec& spec) const {
    const fs::path path(options_.against);
    std::error_code failure;
    if (fs::is_directory(path, failure)) {
      const fs::path file = path / (spec.name + ".safetensors");
      return fs::exists(file, failure) ? file.string() : std::string();
    }
    return golden_metadata(options_.against)["indexer"] == spec.name ? options_.against : std::string();
  }

  Selection run_against(const IndexerSpec& spec) {
    Backend& backend = other_ ? *other_ : *oracle_;
    const Placement placement(backend, workload_);
    Selection outcome = run_selection(backend, spec, placement.problem(), plan_options_);
    outcome.exact = !other_;
    return outcome;
  }

  void compare(const IndexerSpec& spec, AgreementCase& one) {
    std::string golden;
    if (!is_backend(options_.against)) {
      golden = golden_path(spec);
      if (golden.empty()) {
        one.verdict = Conclusion::nothing;
        one.explanation = fmt::format("{} holds no golden of {}", options_.against, spec.name);
        hints_.back() = "misa-prof compare --indexer " + spec.name + " --write-golden DIR where its device is";
        return;
      }
    }
    const Selection against =
        golden.empty() ? run_against(spec)
                       : read_golden(golden, workload_, spec, options_.workload.memory_limit() - workload_.bytes());
    if (!golden.empty()) {
      report_.against = {options_.against, against.description,
                         against.arithmetic ? std::string(against.arithmetic->name) : std::string()};
    }
    Selection side = run_side(options_, *guarded_, spec, *arbiter_, plan_options_);
    const Agreement agreement = compare_sides(*arbiter_, spec, side, against, choices_);
    one.choices = agreement.choices;
    const Concluded concluded = conclude(agreement, options_.max_miss);
    one.verdict = concluded.conclusion;
    one.explanation = concluded.why;
    hints_.back() = concluded.how;
    check_robustness(spec, side, one);
    if (one.verdict == Conclusion::failed && !options_.bundle.empty()) {
      make_folder(options_.bundle);
      write_golden(bundled(side.name, spec), workload_, spec, side, backend_facts(*backend_, shape_of(workload_)),
                   true);
      write_golden(bundled(golden.empty() ? against.name : "golden", spec), workload_, spec, against, {}, true);
      bundled_ = true;
    }
    if (!options_.golden.empty()) goldens_.emplace_back(spec, std::move(side));
  }

  /// What was found stays; it is no verdict.
  static void end_interrupted(AgreementCase& one) {
    one.verdict = Conclusion::nothing;
    one.explanation = "interrupted";
  }

  /// The file that a golden of `spec` is written to.
  std::string golden_target(const IndexerSpec& spec) const {
    return (fs::path(options_.golden) / (spec.name + ".safetensors")).string();
  }

  /// Files can be written into --write-golden and --bundle, and are not there yet, unless with --force.
  void check_folders() const {
    for (const std::string& folder : {options_.golden, options_.bundle}) {
      if (folder.empty()) continue;
      if (const std::string reason = why_no_folder(folder); !reason.empty()) refuse_folder(folder, reason);
    }
    if (options_.force) return;
    std::vector<std::string> written;
    for (const IndexerSpec& spec : specs_) {
      if (!options_.golden.empty()) written.push_back(golden_target(spec));
      if (options_.bundle.empty()) continue;
      written.push_back(bundled(std::string(backend_->name()), spec));
      written.push_back(bundled(is_backend(options_.against) ? options_.against : "golden", spec));
    }
    if (!options_.bundle.empty()) {
      written.push_back((fs::path(options_.bundle) / kBundledInput).string());
      written.push_back((fs::path(options_.bundle) / kBundledReport).string());
    }
    for (const std::string& path : written) {
      std::error_code failure;
      if (!fs::exists(fs::symlink_status(path, failure))) continue;
      throw Error(ErrorKind::usage, "MP-E640", "'" + path + "' is there already and would be overwritten", {},
                  "another folder, or --force");
    }
  }

  std::string bundled(const std::string& side, const IndexerSpec& spec) const {
    return (fs::path(options_.bundle) / (side + "." + spec.name + ".safetensors")).string();
  }

  /// Runs that must give the same bits, and canaries.
  void check_robustness(const IndexerSpec& spec, const Selection& side, AgreementCase& one) {
    const auto add = [&](std::string name, const std::string& found, const std::string& done) {
      one.checks.push_back({std::move(name), found.empty(), found.empty() ? done : found});
      if (found.empty()) return;
      one.verdict = Conclusion::failed;
      if (!one.explanation.empty()) one.explanation += "; ";
      one.explanation += one.checks.back().name + ": " + found;
    };
    const auto differing = [&](Backend& backend, const Workload& workload, const std::string& how) {
      const Placement placement(backend, workload);
      const Selection again = run_selection(backend, spec, placement.problem(), plan_options_);
      const std::optional<Choice> differs = first_difference(side, again);
      return differs ? fmt::format("the {} differ {}", choice_name(*differs), how) : std::string();
    };
    // A run with a mistake is not the backend's own.
    if (options_.inject.empty()) {
      const i64 repeats = options_.robust ? std::max<i64>(options_.repeats, 3) : options_.repeats;
      std::string found;
      for (i64 i = 0; i < repeats && found.empty() && !interrupted(); ++i) {
        found = differing(*guarded_, workload_, fmt::format("in repeat {}", i + 1));
      }
      if (repeats > 0) add("repeat-bitwise", found, counted(repeats, "more run", "more runs") + " gave the same bits");
      if (options_.sweep || options_.robust) {
        found.clear();
        for (i64 threads = 1; threads <= threads_ && found.empty() && !interrupted(); ++threads) {
          const auto backend = make_backend(options_.backend, static_cast<int>(threads), options_.device_number());
          found = differing(*backend, workload_, "with " + counted(threads, "thread", "threads"));
        }
        add("thread-sweep", found,
            threads_ == 1 ? "1 thread gave the same bits"
                          : fmt::format("1 to {} threads gave the same bits", threads_));
      }
      if (options_.poison || options_.robust) {
        if (spec.block_window == BlockWindow::upstream && (spec.heads || spec.blocks)) {
          add("poison-unseen", "", "not done: block window upstream averages keys that rows do not see");
        } else {
          Workload poisoned = copy_of(workload_);
          const i64 filled = poison_unseen(poisoned);
          add("poison-unseen", differing(*guarded_, poisoned, "when unseen keys are NaN"),
              filled > 0 ? fmt::format("{} unseen keys filled with NaN changed nothing", filled)
                         : std::string("every key is seen by some row"));
        }
      }
    }
    const i64 overwritten = guarded_->overwritten() - overwritten_before_;
    overwritten_before_ += overwritten;
    add("canaries", overwritten > 0 ? fmt::format("{} bytes beside allocations were overwritten", overwritten) : "",
        fmt::format("{} allocations, poisoned and guarded", guarded_->allocations()));
  }

  /// Quality of an indexer against another on the same backend.
  void rate(const IndexerSpec& spec, AgreementCase& one) {
    const Placement placement(*guarded_, workload_);
    if (!reference_) {
      reference_ = run_selection(*guarded_, *reference_spec_, placement.problem(), plan_options_);
    }
    const Selection side = run_selection(*guarded_, spec, placement.problem(), plan_options_);
    const Quality quality =
        compare_selections(workload_, {(*reference_)[Choice::tokens].span<const i32>(), settings_.top_k},
                           {side[Choice::tokens].span<const i32>(), settings_.top_k});
    one.quality = describe_quality(quality, options_.against_indexer);
    one.minimum_recall = options_.min_recall;
    if (quality.rows == 0) {
      one.verdict = Conclusion::nothing;
      one.explanation = options_.against_indexer + " selects nothing";
    } else if (options_.min_recall && *quality.recall.mean < *options_.min_recall) {
      one.verdict = Conclusion::failed;
      one.explanation = fmt::format("the mean recall is {:.4f}, and {:.4f} was asked for", *quality.recall.mean,
                                    *options_.min_recall);
    }
  }

  /// True where the comparison is not of tokens, and the trace recorded some.
  bool leaves_recorded_out() const {
    return !workload_.topk.empty() && options_.against_indexer.empty() &&
           std::find(choices_.begin(), choices_.end(), Choice::tokens) == choices_.end();
  }

  /// The selection that the trace recorded, as one more case: rated against the indexer that was asked for, or judged
  /// by the formulas of dsa.
  void compare_recorded(const RecordedTopK& recorded) {
    progress_.show("recorded topk");
    const auto start = std::chrono::steady_clock::now();
    AgreementCase& one = report_.cases.emplace_back();
    hints_.emplace_back();
    one.indexer = "recorded topk";
    one.parameters.top_k = recorded.k;
    one.used.top_k = effective(*recorded_spec_, arbiter_->problem()).top_k;
    plan_options_.max_bytes = plan_limits_.back() + arbiter_->problem().bytes;
    try {
      if (!options_.against_indexer.empty()) {
        const Placement placement(*guarded_, workload_);
        const Selection reference = run_selection(*guarded_, *recorded_spec_, placement.problem(), plan_options_);
        const Quality quality = rate_recorded(workload_, recorded, reference[Choice::tokens].span<const i32>());
        one.quality = describe_quality(quality, options_.against_indexer);
        if (quality.rows == 0) {
          one.verdict = Conclusion::nothing;
          one.explanation = kNoRecordedRow;
        }
      } else {
        judge_recorded(recorded, *recorded_spec_, one);
      }
    } catch (const Interrupted&) {
    }
    one.seconds = since(start);
  }

  void judge_recorded(const RecordedTopK& recorded, const IndexerSpec& dsa, AgreementCase& one) {
    const Selection exact = run_selection(*oracle_, dsa, arbiter_->problem(), plan_options_);
    const RecordedAgreement judged = misa::judge_recorded(*arbiter_, recorded, dsa, exact);
    one.quality = describe_quality(rate_recorded(workload_, recorded, exact[Choice::tokens].span<const i32>()), "dsa");
    one.choices = judged.agreement.choices;
    const ChoiceAgreement& tokens = one.choices.front();
    const Concluded concluded = conclude(judged.agreement, options_.max_miss);
    one.verdict = concluded.conclusion;
    one.explanation = concluded.why;
    hints_.back() =
        concluded.conclusion == Conclusion::failed ? "docs/traces.md, What goes wrong when recording" : concluded.how;
    if (judged.assumed && tokens.count(Verdict::exact) < tokens.rows) {
      one.explanation += fmt::format(
          "{}the trace does not say its topk_arithmetic, and is judged by the bounds of {}, the "
          "loosest known",
          one.explanation.empty() ? "" : "; ", judged.judged_by.name);
    }
    if (one.verdict != Conclusion::passed) one.reproduce = reproduce(dsa);
  }

  std::string reproduce(const IndexerSpec& spec) const {
    return command_text(words_, {"--indexer", "--output", "--format", "--annotate", "--bundle", "--write-golden",
                                 "--force", "--config"}) +
           " --indexer " + spec.name;
  }

  /// What to do about a case that did not pass: run it alone, unless that is what was done; else look closer.
  std::string hint(const AgreementCase& one) const {
    const std::string& own = hints_[static_cast<std::size_t>(&one - report_.cases.data())];
    if (!own.empty()) return own;
    if (specs_.size() > 1 || one.reproduce != reproduce(specs_.front())) return one.reproduce;
    if (one.verdict != Conclusion::failed) return "";
    if (one.quality) return "a lower --min-recall, or options with which the indexer keeps more";
    const bool shrinks = is_backend(options_.against);
    if (bundled_ && shrinks) return "misa-prof shrink " + shell_word(options_.bundle);
    if (bundled_) return "";
    return shrinks ? "--bundle DIR, then misa-prof shrink DIR" : "--bundle DIR, for the inputs and both sides";
  }

  /// Writes goldens or the bundle, and ends as the verdicts say.
  void finish() {
    const auto count = [&](Conclusion verdict) {
      return std::count_if(report_.cases.begin(), report_.cases.end(),
                           [&](const AgreementCase& one) { return one.verdict == verdict; });
    };
    const auto first = [&](Conclusion verdict) -> const AgreementCase& {
      return *std::find_if(report_.cases.begin(), report_.cases.end(),
                           [&](const AgreementCase& one) { return one.verdict == verdict; });
    };
    if (bundled_) {
      write_trace((fs::path(options_.bundle) / kBundledInput).string(), workload_);
      write_text((fs::path(options_.bundle) / kBundledReport).string(), write_report(report_, "json"));
    }
    const auto end = [&](ErrorKind kind, const char* id, Conclusion verdict, const char* what) {
      if (count(verdict) == 0) return;
      const AgreementCase& one = first(verdict);
      throw Error(kind, id,
                  fmt::format("{} of {} {}: {}: {}", count(verdict),
                              counted(static_cast<i64>(report_.cases.size()), "case", "cases"), what, one.indexer,
                              one.explanation),
                  {}, hint(one));
    };
    end(ErrorKind::mismatch, "MP-E610", Conclusion::failed, "failed");
    end(ErrorKind::nothing, "MP-E611", Conclusion::nothing, "compared nothing");
    end(ErrorKind::inconclusive, "MP-E612", Conclusion::inconclusive, "cannot be judged");
    if (goldens_.empty()) return;
    make_folder(options_.golden);
    auto facts = backend_facts(*backend_, shape_of(workload_));
    facts["made_with"] = made_with_;
    for (const auto& [spec, outcome] : goldens_) {
      write_golden(golden_target(spec), workload_, spec, outcome, facts);
    }
  }

  const CompareOptions& options_;
  std::vector<std::string> words_;
  std::string made_with_;
  i64 threads_;
  std::vector<Choice> choices_;
  std::vector<Target> targets_;
  std::vector<DrySide> dry_;  ///< of --dry-run: the tested side, then the other one if it is not the formulas
  std::unique_ptr<Backend> oracle_, backend_, other_;
  std::unique_ptr<GuardedBackend> guarded_;
  Workload workload_;
  IndexerSettings settings_;
  std::vector<IndexerSpec> specs_;
  std::optional<IndexerSpec> reference_spec_;
  std::optional<IndexerSpec> recorded_spec_;  ///< what a recorded selection is compared with
  std::vector<i64> plan_limits_;              ///< by case
  PlanOptions plan_options_;
  std::unique_ptr<Arbiter> arbiter_;
  std::optional<Selection> reference_;
  std::vector<std::pair<IndexerSpec, Selection>> goldens_;
  i64 overwritten_before_ = 0;
  bool bundled_ = false;
  AgreementReport report_;
  std::vector<std::string> hints_;  ///< by case
  Progress progress_;
};

}  // namespace

Work add_compare(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("compare", "Check what a backend selects, row by row and stage by stage");
  const auto options = std::make_shared<CompareOptions>();
  command.footer(kExamples);
  options->add(command);
  return [options, &command, &app] {
    if (!options->config.empty()) apply_config(command, options->config);
    const GivenOptions given = given_options(command);  // without those that a golden brings
    if (!is_backend(options->against)) {
      adopt_made_with(command, options->against);
      const std::vector<std::string> names = indexers_of_goldens(options->against);
      if (command.get_option("--indexer")->count() == 0 && !names.empty()) options->indexer.names = names;
    }
    // Without --indexer, all of them but the one they are rated against.
    if (command.get_option("--indexer")->count() == 0) {
      std::erase(options->indexer.names, options->against_indexer);
    }
    CompareRun run(*options, given, command_words(app, command), made_with(command));
    if (options->dry) return write_text("-", run.planned());
    run.run();
  };
}

}  // namespace misa::cli
