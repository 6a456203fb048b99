#include "core/experiment/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/compare_options.hpp"
#include "cli/given_options.hpp"
#include "cli/options.hpp"
#include "cli/supervised.hpp"
#include "cli/user_program.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/experiment/describe.hpp"
#include "core/platform/file.hpp"
#include "core/report/text.hpp"
#include "core/selection/golden.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCompareExamples =
    "\nExamples:\n"
    "  misa-prof compare                                 # cpu against the formulas, on the shipped trace\n"
    "  misa-prof compare --write-golden goldens          # what a device selects, for machines without it\n"
    "  misa-prof compare --against goldens --annotate -o - -o junit:agreement.xml\n"
    "  misa-prof compare --indexer misa --against-indexer dsa --min-recall 0.7\n"
    "  misa-prof compare --trace layer3.safetensors --selection ids.npy --arithmetic fp8-mma\n"
    "  misa-prof compare --trace layer3.safetensors --backend 'exec:python3 my.py {trace} {selection}'\n"
    "\nExit codes: 0 agree, 1 miss or violation (or too little recall), 2 usage, 3 input, 4 unavailable,\n"
    "            5 nothing was compared, 7 cannot be judged, 10 runtime, 130 interrupted.\n";

/// Error(usage) MP-E056 where rows are to be written, and the run rates none.
void refuse_empty_rows(const std::vector<Target>& targets, const RunFacts& facts) {
  const bool rates = facts.rates || facts.selects || facts.recorded;
  for (const Target& target : targets) {
    if (target.format != "rows" || rates) continue;
    throw Error(ErrorKind::usage, "MP-E056", "rows would be empty: a comparison of backends rates no quality",
                target.path, "--against-indexer dsa, or profile -o rows:FILE");
  }
}

/// What options cannot change, and what they leave out.
std::vector<Warning> warnings_of(const CompareOptions& options, const GivenOptions& given,
                                 const std::vector<Target>& targets, const CompareRequest& request) {
  RunFacts facts{.specs = request.specs,
                 .generated = !options.workload.recorded(),
                 .rates = !options.against_indexer.empty(),
                 .mistaken = !options.inject.empty(),
                 .selects = request.judges_ids(),
                 .child = request.program || request.isolation,
                 .recorded = !request.workload.topk.empty() || request.program};
  if (facts.rates) facts.specs.push_back(make_indexer(options.against_indexer, request.settings));
  if (!facts.selects) facts.run_on(options.backend);
  facts.run_on("oracle");  // judges
  facts.run_on(options.against);
  facts.write_to(targets);
  refuse_empty_rows(targets, facts);
  std::vector<Warning> warnings = options_without_effect(given, facts);
  if (!request.workload.topk.empty() && request.program) {
    warnings.push_back({"MP-W021", "the recorded topk is not judged: a program's selection is", request.workload.name});
  } else if (!request.workload.topk.empty() && !request.recorded) {
    warnings.push_back(
        {"MP-W021", "the recorded topk is not judged: --stages leaves the tokens out", request.workload.name});
  }
  if (request.selection && facts.recorded) {
    const i64 wanted = default_top_k(request.workload).k, k = request.settings.top_k;
    const Shape shape = shape_of(request.workload);
    if (!options.indexer.top_k && k < std::min(wanted, shape.max_window)) {
      warnings.push_back({"MP-W022",
                          fmt::format("index_topk is {}, and the selection has {}: each row keeps {}", wanted,
                                      counted(k, "column", "columns"), k),
                          options.selection});
    }
  }
  const std::vector<Warning> cut = options_cut(given, facts.specs, outline_of(request.workload));
  warnings.insert(warnings.end(), cut.begin(), cut.end());
  return warnings;
}

void show(Progress& line, const CompareProgress& progress, const std::vector<IndexerSpec>& specs) {
  const i64 all = static_cast<i64>(specs.size()), left = all - progress.done;
  if (left == 0) return line.show(std::string(progress.indexer));
  const double each = progress.done == 0 ? 0 : progress.seconds / static_cast<double>(progress.done);
  const double seconds_left = each * static_cast<double>(left);
  if (progress.done == 1 && seconds_left > kLongRun) {
    line.say(fmt::format("this takes about {:.0f} s more: {} took {:.2g} s, {} left", seconds_left, specs.front().name,
                         each, counted(left, "indexer is", "indexers are")));
  }
  line.show(fmt::format("{}: {} of {}{}", progress.indexer, progress.done + 1, all,
                        progress.done == 0 ? std::string() : fmt::format(", about {:.0f} s left", seconds_left)));
}

/// The folders of --write-golden and --bundle.
class Folders {
 public:
  /// Error where one cannot be made, or without --force a file that would be written is there.
  Folders(const CompareOptions& options, const CompareRequest& request) : options_(options), request_(request) {
    for (const std::string& folder : {options.golden, options.bundle}) {
      const std::string reason = folder.empty() ? std::string() : why_no_folder(folder);
      if (!reason.empty()) refuse(folder, reason);
    }
    std::vector<std::string> written;
    for (const IndexerSpec& spec : request.specs) {
      if (!options.golden.empty()) written.push_back(golden(spec));
      if (options.bundle.empty()) continue;
      written.push_back(bundled(file_of(request.backend), spec));
      written.push_back(bundled(request.golden.empty() ? options.against : "golden", spec));
    }
    if (!options.bundle.empty()) written.insert(written.end(), {bundled(kBundledInput), bundled(kBundledReport)});
    for (const std::string& path : written) {
      std::error_code failure;
      if (options.force || !fs::exists(fs::symlink_status(path, failure))) continue;
      throw Error(ErrorKind::usage, "MP-E640", "'" + path + "' is there already and would be overwritten", {},
                  "another folder, or --force");
    }
  }

  void bundle(const IndexerSpec& spec, const Selection& side, const Selection& against) {
    make(options_.bundle);
    write_golden(bundled(file_of(request_.backend), spec), request_.workload, spec, side, facts(), true);
    write_golden(bundled(request_.golden.empty() ? against.name : "golden", spec), request_.workload, spec, against, {},
                 true);
    has_bundle_ = true;
  }

  void finish_bundle(const AgreementReport& report) const {
    if (!has_bundle_) return;
    write_trace(bundled(kBundledInput), request_.workload);
    write_text(bundled(kBundledReport), write_report(report, "json"));
  }

  /// What becomes a golden if all cases pass.
  void keep(const IndexerSpec& spec, Selection side) { kept_.emplace_back(spec, std::move(side)); }

  void write_goldens(const std::string& made_with) const {
    if (kept_.empty()) return;
    make(options_.golden);
    std::map<std::string, std::string> origin = facts();
    origin["made_with"] = made_with;
    for (const auto& [spec, side] : kept_) write_golden(golden(spec), request_.workload, spec, side, origin);
  }

 private:
  [[noreturn]] static void refuse(const std::string& folder, const std::string& reason) {
    throw Error(ErrorKind::runtime, "MP-E605", "the folder cannot be made: " + reason, folder,
                "a folder that can be written");
  }

  static void make(const std::string& folder) {
    std::error_code failure;
    fs::create_directories(folder, failure);
    if (failure || !fs::is_directory(folder, failure)) refuse(folder, failure.message());
  }

  std::map<std::string, std::string> facts() const {
    return backend_facts(request_.backend, shape_of(request_.workload), request_.origin);
  }
  /// "cpu"; of a plug-in, whose name may be a path: "plugin".
  static std::string file_of(const Backend& backend) {
    return std::string(backend.name().substr(0, backend.name().find(':')));
  }
  std::string golden(const IndexerSpec& spec) const {
    return (fs::path(options_.golden) / (spec.name + ".safetensors")).string();
  }
  std::string bundled(const std::string& name) const { return (fs::path(options_.bundle) / name).string(); }
  std::string bundled(const std::string& side, const IndexerSpec& spec) const {
    return bundled(side + "." + spec.name + ".safetensors");
  }

  const CompareOptions& options_;
  const CompareRequest& request_;
  std::vector<std::pair<IndexerSpec, Selection>> kept_;
  bool has_bundle_ = false;
};

/// What to do about a case that did not pass: run it alone, unless that is what was done; else look closer.
std::string hint(const CompareOptions& options, const CompareRequest& request, const AgreementCase& one) {
  if (!one.how.empty()) return one.how;
  if (request.specs.size() > 1 || one.reproduce != request.reproduce(request.specs.front())) return one.reproduce;
  if (one.verdict != Conclusion::failed) return "";
  if (one.quality) return "a lower --min-recall, or options with which the indexer keeps more";
  const bool shrinks = is_backend(options.against);
  if (request.judges_ids()) return "";
  if (request.isolation) return "docs/own-kernel.md, What the verdicts mean";
  if (!options.bundle.empty()) return shrinks ? "misa-prof shrink " + shell_word(options.bundle) : "";
  return shrinks ? "--bundle DIR, then misa-prof shrink DIR" : "--bundle DIR, for the inputs and both sides";
}

/// Throws what the verdicts come to, unless all cases passed.
void end_as_judged(const AgreementReport& report, const std::function<std::string(const AgreementCase&)>& hint_of) {
  const auto end = [&](ErrorKind kind, const char* id, Conclusion verdict, const char* what) {
    const auto is = [&](const AgreementCase& one) { return one.verdict == verdict; };
    const auto first = std::find_if(report.cases.begin(), report.cases.end(), is);
    if (first == report.cases.end()) return;
    throw Error(kind, id,
                fmt::format("{} of {} {}: {}: {}", std::count_if(first, report.cases.end(), is),
                            counted(static_cast<i64>(report.cases.size()), "case", "cases"), what, first->indexer,
                            first->explanation),
                {}, hint_of(*first));
  };
  end(ErrorKind::mismatch, "MP-E610", Conclusion::failed, "failed");
  end(ErrorKind::nothing, "MP-E611", Conclusion::nothing, "compared nothing");
  end(ErrorKind::inconclusive, "MP-E612", Conclusion::inconclusive, "cannot be judged");
}

/// Tests a plug-in in this process of its own.
void test_plugin(const CompareOptions& options) {
  try {
    options.check();
    const i64 threads = thread_count(options.threads);
    const Sides sides = options.sides(threads);
    const Workload workload = options.workload.load(nullptr);
    test_into(options.isolated, options.request(sides, workload, threads));
  } catch (const Error& error) {
    fail_into(options.isolated, error);
  }
}

void run_compare(const CompareOptions& options, const GivenOptions& given, const std::vector<std::string>& words,
                 const std::string& made_with) {
  const i64 threads = thread_count(options.threads);
  const std::vector<Target> targets = options.output.targets(options.input_files());
  options.check();
  const Sides sides = options.sides(threads);
  Origin origin = origin_of(options.workload, options.output.host(), options.indexer.top_k.has_value());
  origin.command_line = words;
  const Workload workload = options.workload.load(
      &origin.warnings, [&](Workload& loaded) { options.add_selection(loaded, origin.warnings); });
  CompareRequest request = options.request(sides, workload, threads);
  for (Warning& warning : warnings_of(options, given, targets, request)) origin.warnings.push_back(std::move(warning));
  request.origin = std::move(origin);
  request.reproduce = [&](const IndexerSpec& spec) {
    return command_text(words, {"--indexer", "--output", "--format", "--annotate", "--bundle", "--write-golden",
                                "--force", "--config"}) +
           " --indexer " + spec.name;
  };
  Folders folders(options, request);
  Progress progress;
  request.sinks.progress = [&](const CompareProgress& begins) { show(progress, begins, request.specs); };
  if (!options.bundle.empty()) {
    request.sinks.failed = [&](const IndexerSpec& spec, const Selection& side, const Selection& against) {
      folders.bundle(spec, side, against);
    };
  }
  if (!options.golden.empty()) {
    request.sinks.selected = [&](const IndexerSpec& spec, Selection side) { folders.keep(spec, std::move(side)); };
  }
  if (options.dry) return write_text("-", planned_text(plan_comparison(request), sides.dry));

  const AgreementReport report = compare(request);
  progress.clear();
  options.output.write(targets, report.warnings, [&](const std::string& format, const WriterOptions& writer) {
    return write_report(report, format, writer);
  });
  if (options.annotate) {
    const std::string text = github_annotations(report);
    (void)std::fwrite(text.data(), 1, text.size(), stderr);
  }
  if (report.interrupted) return;
  folders.finish_bundle(report);
  end_as_judged(report, [&](const AgreementCase& one) { return hint(options, request, one); });
  folders.write_goldens(made_with);
}

}  // namespace

Work add_compare(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("compare", "Check what a backend selects, row by row and stage by stage");
  const auto options = std::make_shared<CompareOptions>();
  command.footer(kCompareExamples);
  options->add(command);
  return [options, &command, &app] {
    if (!options->config.empty()) apply_config(command, options->config);
    const GivenOptions given = given_options(command);  // without those that a golden brings
    options->complete(command);
    if (!options->isolated.empty() && !options->dry) return test_plugin(*options);
    if (is_plugin(options->backend) && options->isolated.empty() && options->dry) {
      supervise(options->backend, command_words(app, command), options->limit_seconds);
    }
    run_compare(*options, given, command_words(app, command), CompareOptions::made_with(command));
  };
}

}  // namespace misa::cli
