#include "core/experiment/diff.hpp"

#include <fmt/format.h>

#include <memory>

#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/gate.hpp"
#include "cli/indexer_options.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/report/text.hpp"

namespace misa::cli {
namespace {

constexpr const char* kDiffExamples =
    "\nExamples:\n"
    "  misa-prof diff before.json after.json --max-slowdown 5%\n"
    "  misa-prof diff --a a1.json,a2.json,a3.json --b b1.json,b2.json,b3.json\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, or the results are not alike, 5 nothing in common,\n"
    "            6 slower than --max-slowdown, 7 noise hides whether it is, 10 runtime.\n";

struct DiffOptions {
  std::string first, second;
  std::vector<std::string> a, b;
  std::optional<double> max_slowdown, same_within, noise;
  DiffAllowed allowed;
  bool incomplete = false;
  OutputOptions output{diff_format_names()};
};

/// The files of both sides.
std::pair<std::vector<std::string>, std::vector<std::string>> sides_of(const DiffOptions& options) {
  std::vector<std::string> a = split_at_commas(options.a), b = split_at_commas(options.b);
  const bool positional = !options.first.empty() && !options.second.empty();
  if (a.empty() && b.empty() && positional) return {{options.first}, {options.second}};
  if (a.empty() || b.empty() || !options.first.empty()) {
    throw Error(ErrorKind::usage, "MP-E493", "diff takes two results, or the files of both sides", {},
                "misa-prof diff A.json B.json, or --a A1.json,A2.json --b B1.json,B2.json");
  }
  return {std::move(a), std::move(b)};
}

std::vector<ResultFile> read_all_of(const std::vector<std::string>& paths, bool incomplete) {
  std::vector<ResultFile> files;
  for (const std::string& path : paths) {
    try {
      files.push_back(read_result_file(path, {ResultKind::result, ResultKind::sweep}, incomplete));
    } catch (const Error& error) {
      if (error.id() != "MP-E487") throw;
      throw Error(error.kind(), error.id(), error.what(), error.where(),
                  "the run again, or --allow-incomplete for the cases that it has");
    }
  }
  return files;
}

void run_diff(const DiffOptions& options, std::vector<std::string> command_line) {
  const auto [a, b] = sides_of(options);
  std::vector<std::string> inputs = a;
  inputs.insert(inputs.end(), b.begin(), b.end());
  const std::vector<Target> targets = options.output.targets(inputs);
  DiffRequest request{.a = read_all_of(a, options.incomplete), .b = read_all_of(b, options.incomplete)};
  request.allowed = options.allowed;
  request.max_slowdown = options.max_slowdown;
  request.same_within = options.same_within.value_or(request.same_within);
  request.noise = options.noise.value_or(request.noise);
  request.tool_version = program_version();
  request.command_line = std::move(command_line);
  const DiffReport report = diff(request);
  options.output.write(targets, report.warnings, [&](const std::string& format, const WriterOptions& writing) {
    return write_diff(report, format, writing);
  });
  if (!options.max_slowdown) return;
  std::vector<Gated> gated;
  for (const DiffCase& one : report.cases) {
    gated.push_back({one.name, one.time, one.gate.value_or(Gate::passed), one.reason});
  }
  end_as_gated(gated, *options.max_slowdown,
               "several runs per side (--a, --b), or profile --ab, which needs no second run");
}

}  // namespace

Work add_diff(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("diff", "Compare two results: faster, slower, same, or not known");
  const auto options = std::make_shared<DiffOptions>();
  command.footer(kDiffExamples);
  constexpr const char* kFilesGroup = "Results";
  add_text(command, "A", options->first, "A result of profile or sweep, JSON or JSON Lines", "", kFilesGroup);
  add_text(command, "B", options->second, "The result that is compared with it", "", kFilesGroup);
  add_list(command, "--a", options->a, "Comma-separated: several runs of side A", "FILES", kFilesGroup);
  add_list(command, "--b", options->b, "Comma-separated: several runs of side B", "FILES", kFilesGroup);
  constexpr const char* kJudgingGroup = "Judging";
  add_share(command, "--max-slowdown", options->max_slowdown,
            "End with status 6 or 7 unless B is at most so much slower", kJudgingGroup);
  add_share(command, "--same-within", options->same_within, "What counts as the same (default: 5%)", kJudgingGroup);
  add_share(command, "--noise", options->noise, "How much runs differ, where a side is one run (default: 1%)",
            kJudgingGroup);
  constexpr const char* kAlikeGroup = "Like with like";
  add_flag(command, "--allow-different-inputs", options->allowed.inputs, "Compare other workloads or values too",
           kAlikeGroup);
  add_flag(command, "--allow-different-host", options->allowed.host, "Compare other machines or devices too",
           kAlikeGroup);
  add_flag(command, "--allow-different-build", options->allowed.build, "Compare other compilers or flags too",
           kAlikeGroup);
  add_flag(command, "--allow-different-run", options->allowed.run, "Compare other threads, caches or launches too",
           kAlikeGroup);
  add_flag(command, "--allow-incomplete", options->incomplete, "Take results of interrupted runs", kAlikeGroup);
  options->output.add(command, false);
  return [options, &command, &app] { run_diff(*options, command_words(app, command)); };
}

}  // namespace misa::cli
