#include "core/agreement/shrink.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/commands.hpp"
#include "cli/compare_options.hpp"
#include "cli/options.hpp"
#include "core/base/error.hpp"
#include "core/platform/file.hpp"
#include "core/platform/signals.hpp"
#include "core/report/agreement_report.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kShrinkExamples =
    "\nExamples:\n"
    "  misa-prof compare --model tiny --workload ci --inject swapped-token --bundle failure\n"
    "  misa-prof shrink failure -o small.safetensors\n"
    "\nExit codes: 0 a smaller workload that fails was written, 2 usage, 3 input, 5 nothing fails,\n"
    "            10 runtime.\n";

struct ShrinkOptions {
  std::string bundle, path = "small.safetensors";
};

/// The options that the bundle's comparison ran with.
std::shared_ptr<CompareOptions> recorded_options(std::vector<std::string> words, const std::string& report) {
  words.erase(words.begin(), words.begin() + std::min<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(words.size())));
  auto options = std::make_shared<CompareOptions>();
  CLI::App command("", "compare");
  options->add(command);
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  try {
    command.parse(words);
  } catch (const CLI::Error& error) {
    throw Error(ErrorKind::input, "MP-E624", std::string("its command line is not understood: ") + error.what(), report,
                "the version of misa-prof that wrote it");
  }
  options->config.clear();
  for (const std::string& side : {options->backend, options->against}) refuse_program(side, report);
  return options;
}

}  // namespace

Work add_shrink(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("shrink", "Find a smaller workload for which a comparison still fails");
  const auto options = std::make_shared<ShrinkOptions>();
  command.footer(kShrinkExamples);
  command.add_option("BUNDLE", options->bundle, "The folder of a comparison that failed")->check(not_empty());
  add_text(command, "-o,--output", options->path, "The trace to write", "FILE", kOutputGroup)->capture_default_str();
  return [options] {
    if (options->bundle.empty()) {
      throw Error(ErrorKind::usage, "MP-E042", "shrink needs a bundle", {}, "misa-prof compare --bundle DIR");
    }
    check_trace_name("-o", options->path);
    check_writable(options->path);
    const fs::path folder(options->bundle);
    const std::string report = (folder / kBundledReport).string();
    const std::vector<std::string> words = read_agreement_command(read_text_file(report), report);
    const auto compared = recorded_options(words, report);
    if (!is_backend(compared->against) || !compared->against_indexer.empty()) {
      throw Error(ErrorKind::usage, "MP-E043", "a golden's rows cannot be cut: its device is not here", {},
                  "compare --against oracle --bundle DIR");
    }
    const std::string input = (folder / kBundledInput).string();
    const Workload workload = read_trace(input, compared->workload.memory_limit());
    const i64 threads = thread_count(compared->threads);
    const Sides sides = compared->sides(threads);
    const std::vector<IndexerSpec> specs = compared->request(sides, workload, threads).specs;

    Progress progress;
    i64 tried = 0;
    const auto fails_with = [&](const IndexerSpec& spec, const Workload& part) {
      stop_if_interrupted();
      progress.show(fmt::format("{}: try {}", spec.name, ++tried));
      check_workload(part, "a part of the workload");
      CompareRequest request = compared->request(sides, part, threads);
      std::erase_if(request.specs, [&](const IndexerSpec& one) { return one.name != spec.name; });
      request.memory.host -= workload.bytes();
      // Only what is selected counts.
      request.recorded = request.sweep = request.poison = false;
      request.repeats = 0;
      const Conclusion verdict = compare(request).cases.front().verdict;
      stop_if_interrupted();
      return verdict == Conclusion::failed;
    };
    const auto failing =
        std::find_if(specs.begin(), specs.end(), [&](const IndexerSpec& spec) { return fails_with(spec, workload); });
    if (interrupted()) return;
    if (failing == specs.end()) {
      throw Error(ErrorKind::nothing, "MP-E614", "the comparison of this bundle passes here", options->bundle,
                  "the machine and the commit that it failed with (report.json names them)");
    }
    const Workload small = shrink(workload, [&](const Workload& part) { return fails_with(*failing, part); });
    progress.clear();
    write_trace(options->path, small);
    write_text("-", fmt::format("{}: {} -> {} rows, {} -> {} heads, {} -> {} tokens at most, {} tries\n"
                                "{} --trace {} --indexer {}\n",
                                failing->name, workload.rows(), small.rows(), workload.heads(), small.heads(),
                                shape_of(workload).max_window, shape_of(small).max_window, tried,
                                command_text(words, {"--trace", "--model", "--workload", "--preset", "--rows",
                                                     "--indexer", "--output", "--format", "--annotate", "--bundle",
                                                     "--write-golden", "--force", "--config"}),
                                shell_word(options->path), failing->name));
  };
}

}  // namespace misa::cli
