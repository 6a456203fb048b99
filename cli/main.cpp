#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/platform/file.hpp"
#include "core/platform/signals.hpp"
#include "core/report/text.hpp"

namespace {

using namespace misa;

constexpr int kUsage = static_cast<int>(ErrorKind::usage);

constexpr const char* kFooter =
    "\nExit codes: 0 ok, 1 mismatch, 2 usage, 3 input, 4 unavailable, 5 nothing, 10 runtime,\n"
    "            70 internal error, 130 interrupted. `misa-prof COMMAND --help` shows examples.\n";

void print_error(const Error& error) {
  std::string line = fmt::format("misa-prof: error: {}: {}", error.id(), error.what());
  if (!error.where().empty()) line += "; " + error.where();
  if (!error.how().empty()) line += "; try: " + error.how();
  fmt::print(stderr, "{}\n", printable(line));
}

int run(int argc, char** argv) {
  CLI::App app("Profiles DSA, MISA and HISA indexers, stage by stage, and checks what they select.", "misa-prof");
  app.set_version_flag("--version", "misa-prof " MISA_VERSION);
  app.set_help_flag("-h,--help", "This text");
  app.footer(kFooter);
  app.allow_extras();
  std::vector<std::pair<CLI::App*, cli::Work>> commands;
  for (const auto add : {cli::add_profile, cli::add_generate, cli::add_inspect, cli::add_list}) {
    cli::Work work = add(app);
    commands.emplace_back(app.get_subcommands({}).back(), std::move(work));
    commands.back().first->allow_extras();
    commands.back().first->set_help_flag("-h,--help", "This text")->group("");
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& call) {
    const auto chosen = app.get_subcommands();
    cli::write_text("-", (chosen.empty() ? &app : chosen.front())->help());
    return 0;
  } catch (const CLI::CallForVersion& call) {
    cli::write_text("-", std::string(call.what()) + "\n");
    return 0;
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    throw Error(ErrorKind::usage, "MP-E001", error.what(), {},
                chosen.empty() ? "misa-prof --help" : "misa-prof " + chosen.front()->get_name() + " --help");
  }
  for (const auto& [command, work] : commands) {
    if (!command->parsed()) continue;
    cli::refuse_extras(*command);
    work();
    return 0;
  }
  cli::refuse_extras(app);
  fmt::print(stderr, "{}", app.help());
  return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
  int status = static_cast<int>(ErrorKind::internal);
  try {
    install_signal_handlers();
    status = run(argc, argv);
  } catch (const ClosedPipe&) {
    status = 0;
  } catch (const Error& error) {
    print_error(error);
    status = static_cast<int>(error.kind());
  } catch (const std::bad_alloc&) {
    print_error(Error(ErrorKind::runtime, "MP-E501", "out of memory", {}, "a smaller workload or --max-memory"));
    status = static_cast<int>(ErrorKind::runtime);
  } catch (const std::exception& error) {
    print_error(Error(ErrorKind::internal, "MP-E700", error.what(), {}, "reporting it: this is a bug of ours"));
  }
  reraise_interrupt();
  return status;
}
