#include <memory>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/report/sweep_parts.hpp"
#include "core/report/sweep_report.hpp"

namespace misa::cli {
namespace {

constexpr const char* kMergeExamples =
    "\nExamples:\n"
    "  misa-prof merge part1.jsonl part2.jsonl -o - -o all.json\n"
    "  misa-prof merge part1.jsonl --allow-missing           # what is there so far\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 10 runtime.\n";

struct MergeOptions {
  std::vector<std::string> files;
  OutputOptions output{sweep_format_names()};
  bool allow_missing = false;
};

void run_merge(const MergeOptions& options) {
  if (options.files.empty()) {
    throw Error(ErrorKind::usage, "MP-E470", "there is nothing to merge", {},
                "misa-prof merge part1.jsonl part2.jsonl -o all.json");
  }
  const std::vector<Target> targets = options.output.targets(options.files);
  std::vector<ResultFile> parts;
  for (const std::string& path : options.files) parts.push_back(read_result_file(path, {ResultKind::sweep}, true));
  const SweepReport report = make_sweep_report(merge_sweeps(parts, options.allow_missing), options.files.front());
  options.output.write(targets, {}, [&](const std::string& format, const WriterOptions& writing) {
    return write_report(report, format, writing);
  });
}

}  // namespace

Work add_merge(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("merge", "Put the parts of a sweep together");
  const auto options = std::make_shared<MergeOptions>();
  command.footer(kMergeExamples);
  command.add_option("PART", options->files, "Files of sweep --shard, or of one sweep that was interrupted")
      ->check(not_empty());
  add_flag(command, "--allow-missing", options->allow_missing, "Merge though cases are missing", kOutputGroup);
  options->output.add(command, false);
  return [options] { run_merge(*options); };
}

}  // namespace misa::cli
