#include "cli/program.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/supervised.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/platform/file.hpp"
#include "core/platform/signals.hpp"
#include "core/report/text.hpp"

namespace misa::cli {
namespace {

constexpr int kUsage = static_cast<int>(ErrorKind::usage);

constexpr const char* kFooter =
    "\nExit codes: 0 ok, 1 mismatch, 2 usage, 3 input, 4 unavailable, 5 nothing,\n"
    "            6 slower, 7 inconclusive, 10 runtime, 70 internal error, 130 interrupted.\n"
    "`misa-prof COMMAND --help` shows examples.\n";

/// A standard error that cannot be written (full, closed) must not change how the program ends.
void to_standard_error(const std::string& text) { (void)std::fwrite(text.data(), 1, text.size(), stderr); }

void print_error(const Error& error) {
  std::string line = fmt::format("misa-prof: error: {}: {}", error.id(), error.what());
  if (!error.where().empty()) line += "; " + error.where();
  if (!error.how().empty()) line += "; try: " + error.how();
  to_standard_error(printable(line) + "\n");
}

/// Descriptions wrapped beside their options.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string prefix = "  " + make_option_name(option, is_positional) + make_option_opts(option);
    std::string text;
    if (display_width(prefix) + 1 >= kNames) {
      text = prefix + "\n";
      prefix.clear();
    }
    const std::vector<std::string> words = words_of(make_option_desc(option));
    return text + hanging(padded(prefix, kNames, false), kNames, words, " ", kWidth) + "\n";
  }

 private:
  static constexpr i64 kNames = 28, kWidth = 100;
};

/// The help of the command that was named, else of the program; without CLI11's runs of empty lines.
std::string help(const CLI::App& app) {
  std::string text = app.help();
  for (std::size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
  return text;
}

/// CLI11's words, but for what people do most: a value forgotten, an option given twice.
Error parse_error(const CLI::App& command, const CLI::ParseError& error) {
  std::string what = error.what(), how = command.get_name() + " --help";
  if (command.get_parent() != nullptr) how = "misa-prof " + how;
  std::string name = what.substr(0, what.find_first_of(": "));
  if (name.front() != '-') name = "--" + name;
  const CLI::Option* option = command.get_option_no_throw(name);
  if (option != nullptr && error.get_name() == "ArgumentMismatch") {
    what = option->get_name() + (option->count() > 1 ? fmt::format(" is given {} times", option->count())
                                 : option->get_items_expected_max() == 0 ? " takes no value"
                                                                         : " needs a value");
  }
  return {ErrorKind::usage, "MP-E001", what, {}, how};
}

/// The version on a line of its own, then what the program was built from.
std::string version_text() {
  std::string text = fmt::format("misa-prof {}", program_version());
  for (const auto& [name, value] : build_lines()) text += fmt::format("\n{:<10} {}", name, value);
  return text;
}

int run(int argc, char** argv) {
  CLI::App app("Profiles DSA, MISA and HISA indexers, stage by stage, and checks what they select.", "misa-prof");
  app.set_version_flag("--version", version_text());
  app.set_help_flag("-h,--help", "This text");
  app.footer(kFooter);
  app.allow_extras();
  app.require_subcommand(0, 1);
  app.formatter(std::make_shared<HelpFormatter>());
  std::vector<std::pair<CLI::App*, Work>> commands;
  for (const auto add :
       {add_profile, add_sweep, add_merge, add_compare, add_diff, add_explain, add_report, add_selftest, add_shrink,
        add_generate, add_inspect, add_nsight, add_niah, add_doctor, add_list, add_manual}) {
    Work work = add(app);
    commands.emplace_back(app.get_subcommands({}).back(), std::move(work));
    commands.back().first->allow_extras();
    commands.back().first->set_help_flag("-h,--help", "This text")->group("Help");
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& call) {
    write_text("-", help(app));
    return 0;
  } catch (const CLI::CallForVersion& call) {
    write_text("-", std::string(call.what()) + "\n");
    return 0;
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    throw parse_error(chosen.empty() ? app : *chosen.front(), error);
  }
  refuse_extras(app);
  for (const auto& [command, work] : commands) {
    if (!command->parsed()) continue;
    refuse_extras(*command);
    work();
    return 0;
  }
  to_standard_error(help(app));
  return kUsage;
}

}  // namespace

int run_program(int argc, char** argv) {
  int status = static_cast<int>(ErrorKind::internal);
  const char* left = "results hold what was done until then; run it again for all of it";
  try {
    reserve_standard_streams();
    install_signal_handlers();
    status = run(argc, argv);
  } catch (const ClosedPipe&) {
    status = 0;
  } catch (const EndedAs& other) {
    status = other.status;
  } catch (const Interrupted&) {  // before a command had anything to write
    status = 0;
    left = "there is no result yet; run it again";
  } catch (const Error& error) {
    print_error(error);
    status = static_cast<int>(error.kind());
  } catch (const std::bad_alloc&) {
    print_error(Error(ErrorKind::runtime, "MP-E501", "out of memory", {}, "a smaller workload or --max-memory"));
    status = static_cast<int>(ErrorKind::runtime);
  } catch (const std::exception& error) {
    print_error(Error(ErrorKind::internal, "MP-E700", error.what(), {}, "reporting it: this is a bug of ours"));
  }
  if (interrupted() && status == 0) {
    to_standard_error(std::string("misa-prof: interrupted: ") + left + "\n");
  }
  reraise_interrupt();
  return status;
}

}  // namespace misa::cli
