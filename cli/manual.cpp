#include <fmt/format.h>

#include <array>
#include <memory>
#include <sstream>

#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"

// The man page and the shells' completions, read off the same options that the parser reads.

namespace misa::cli {
namespace {

constexpr const char* kManualExamples =
    "\nExamples:\n"
    "  misa-prof manual man > misa-prof.1\n"
    "  misa-prof manual bash > /etc/bash_completion.d/misa-prof\n"
    "  misa-prof manual fish > ~/.config/fish/completions/misa-prof.fish\n"
    "\nExit codes: 0 ok, 2 usage.\n";

/// Options whose values are names that `misa-prof list --names KIND` knows.
struct NamedValues {
  std::string_view option, kind;
};

constexpr auto kNamedValues = std::to_array<NamedValues>({{"indexer", "indexers"},
                                                          {"against-indexer", "indexers"},
                                                          {"router", "routers"},
                                                          {"backend", "backends"},
                                                          {"against", "backends"},
                                                          {"model", "models"},
                                                          {"workload", "workloads"},
                                                          {"preset", "presets"},
                                                          {"trace", "traces"},
                                                          {"arithmetic", "arithmetic"}});

std::string_view kind_of(const CLI::Option& option) {
  for (const NamedValues& one : kNamedValues) {
    if (option.get_items_expected_max() > 0 && option.check_lname(std::string(one.option))) return one.kind;
  }
  return {};
}

/// The option completes to files, alone or besides names.
bool takes_file(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::string& what = option.get_description();
  return type.find("FILE") != std::string::npos || type.find("DIR") != std::string::npos ||
         what.find("file") != std::string::npos;
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  const auto found = app.get_subcommands([](const CLI::App*) { return true; });
  return {found.begin(), found.end()};
}

/// Those with a long name.
std::vector<const CLI::Option*> options_of(const CLI::App& command) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_lnames().empty() && !option->get_group().empty()) options.push_back(option);
  }
  return options;
}

const CLI::Option* positional_of(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) return option;
  }
  return nullptr;
}

std::string long_name(const CLI::Option& option) { return "--" + option.get_lnames().front(); }

/// `-o, --output`
std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// `text` with each marker replaced by its value.
std::string filled(std::string text, const std::vector<std::pair<std::string_view, std::string>>& values) {
  for (const auto& [marker, value] : values) text = replaced(std::move(text), marker, value);
  return text;
}

/// Text as troff prints it: backslashes, hyphens that can be copied, no control lines.
std::string roff(const std::string& text) {
  std::string safe = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  if (!safe.empty() && (safe.front() == '.' || safe.front() == '\'')) safe.insert(0, "\\&");
  return safe;
}

/// The same as a sentence, which a description is but for its stop.
std::string sentence(const std::string& text) {
  const bool ends = !text.empty() && (text.back() == '.' || text.back() == '?');
  return roff(text) + (ends ? "\n" : ".\n");
}

/// The footer of a command's help, line for line.
void add_footer(std::string& page, const CLI::App& command) {
  page += ".nf\n";
  std::istringstream lines(command.get_footer());
  for (std::string line; std::getline(lines, line);) page += line.empty() ? ".sp\n" : roff(line) + "\n";
  page += ".fi\n";
}

void add_options(std::string& page, const CLI::App& command) {
  std::string group;
  for (const CLI::Option* option : options_of(command)) {
    if (option->get_group() != group) {
      group = option->get_group();
      page += ".PP\n" + roff(group) + ":\n";
    }
    page += ".TP\n\\fB" + roff(fmt::format("{}", fmt::join(names_of(*option), ", "))) + "\\fR";
    if (takes_value(*option)) page += " \\fI" + roff(option->get_type_name()) + "\\fR";
    page += "\n" + sentence(option->get_description());
    if (takes_value(*option) && !option->get_default_str().empty()) {
      page += "Default: " + roff(option->get_default_str()) + ".\n";
    }
  }
}

std::string man_page(const CLI::App& app) {
  std::string page = fmt::format(".TH MISA\\-PROF 1 \"\" \"misa\\-prof {}\" \"User Commands\"\n", program_version());
  page += ".SH NAME\nmisa\\-prof \\- " + roff(app.get_description()) + "\n";
  page += ".SH SYNOPSIS\n.B misa\\-prof\n.I COMMAND\n[\\fIOPTIONS\\fR]\n";
  page += ".SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app)) {
    page += ".TP\n.B " + roff(command->get_name()) + "\n" + sentence(command->get_description());
  }
  for (const CLI::App* command : commands_of(app)) {
    page += ".SH MISA\\-PROF " + roff(command->get_name()) + "\n" + sentence(command->get_description());
    if (const CLI::Option* positional = positional_of(*command)) {
      page += ".TP\n.I " + roff(positional->get_name(true)) + "\n" + sentence(positional->get_description());
    }
    add_options(page, *command);
    add_footer(page, *command);
  }
  page += ".SH EXIT STATUS\n";
  add_footer(page, app);
  return page;
}

std::string bash_completion(const CLI::App& app) {
  std::vector<std::string> names;
  std::string cases, values;
  for (const CLI::App* command : commands_of(app)) {
    names.push_back(command->get_name());
    std::vector<std::string> words;
    for (const CLI::Option* option : options_of(*command)) words.push_back(long_name(*option));
    cases += fmt::format("    {}) words='{}' ;;\n", command->get_name(), fmt::join(words, " "));
  }
  for (const NamedValues& one : kNamedValues) {
    values += fmt::format("    --{}) names={} ;;\n", one.option, one.kind);
  }
  return filled(R"sh(# bash completion for misa-prof; made by: misa-prof manual bash
_misa_prof() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words='' names=''
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W '@COMMANDS@ --help --version' -- "$current"))
    return
  fi
  case $previous in
@VALUES@  esac
  if [[ -n $names ]]; then
    local first=''
    if [[ $current == *,* ]]; then first=${current%,*},; fi
    COMPREPLY=($(compgen -P "$first" -W "$(misa-prof list --names "$names" 2>/dev/null)" -- "${current##*,}"))
    COMPREPLY+=($(compgen -f -- "$current"))
    return
  fi
  if [[ $current != -* ]]; then
    COMPREPLY=($(compgen -f -- "$current"))
    return
  fi
  case ${COMP_WORDS[1]} in
@CASES@  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o filenames -F _misa_prof misa-prof
)sh",
                {{"@COMMANDS@", fmt::format("{}", fmt::join(names, " "))}, {"@VALUES@", values}, {"@CASES@", cases}});
}

/// A description between the brackets of zsh's _arguments.
std::string zsh_text(const std::string& text) {
  return replaced(replaced(replaced(replaced(text, "\\", "\\\\"), "[", "\\["), "]", "\\]"), ":", "\\:");
}

std::string zsh_completion(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* command : commands_of(app)) {
    names += "    " + shell_word(command->get_name() + ":" + zsh_text(command->get_description())) + "\n";
    cases += "    " + command->get_name() + ") arguments=(\n";
    for (const CLI::Option* option : options_of(*command)) {
      std::string spec = fmt::format("*{}[{}]", long_name(*option), zsh_text(option->get_description()));
      if (const std::string_view kind = kind_of(*option); !kind.empty()) {
        spec += fmt::format(":{0}:_misa_prof_names {0}", kind);
      } else if (takes_value(*option)) {
        spec += fmt::format(":{}:{}", zsh_text(option->get_type_name()), takes_file(*option) ? "_files" : "");
      }
      cases += "      " + shell_word(spec) + "\n";
    }
    if (positional_of(*command) != nullptr) cases += "      '*:file:_files'\n";
    cases += "      ) ;;\n";
  }
  return filled(R"sh(#compdef misa-prof
# zsh completion for misa-prof; made by: misa-prof manual zsh
_misa_prof_names() {
  local -a names=(${(f)"$(misa-prof list --names $1 2>/dev/null)"})
  _alternative "names:$1:_sequence compadd -a names" 'files:file:_files'
}
_misa_prof() {
  local -a commands=(
@COMMANDS@  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local -a arguments
  case $words[2] in
@CASES@  esac
  shift words
  (( CURRENT-- ))
  _arguments $arguments
}
_misa_prof "$@"
)sh",
                {{"@COMMANDS@", names}, {"@CASES@", cases}});
}

std::string fish_completion(const CLI::App& app) {
  std::string lines = "# fish completion for misa-prof; made by: misa-prof manual fish\n";
  for (const CLI::App* command : commands_of(app)) {
    lines += fmt::format("complete -c misa-prof -f -n __fish_use_subcommand -a {} -d {}\n", command->get_name(),
                         shell_word(command->get_description()));
  }
  for (const CLI::App* command : commands_of(app)) {
    for (const CLI::Option* option : options_of(*command)) {
      std::string line = fmt::format("complete -c misa-prof -n '__fish_seen_subcommand_from {}' -l {}",
                                     command->get_name(), option->get_lnames().front());
      if (!option->get_snames().empty()) line += " -s " + option->get_snames().front();
      if (takes_value(*option)) line += takes_file(*option) ? " -r" : " -x";
      if (const std::string_view kind = kind_of(*option); !kind.empty()) {
        line += fmt::format(" -a '(misa-prof list --names {} 2>/dev/null)'", kind);
      }
      lines += line + " -d " + shell_word(option->get_description()) + "\n";
    }
  }
  return lines;
}

struct ManualFormat {
  std::string_view name;
  std::string (*write)(const CLI::App&);
};

constexpr auto kFormats = std::to_array<ManualFormat>(
    {{"man", man_page}, {"bash", bash_completion}, {"zsh", zsh_completion}, {"fish", fish_completion}});

}  // namespace

Work add_manual(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("manual", "Print the man page, or completions for bash, zsh or fish");
  command.footer(kManualExamples);
  const auto format = std::make_shared<std::string>();
  std::vector<std::string> names;
  for (const ManualFormat& one : kFormats) names.emplace_back(one.name);
  command.add_option("FORMAT", *format, fmt::format("What to print: {}", fmt::join(names, ", ")))
      ->required()
      ->check(CLI::IsMember(names))
      ->type_name("");
  return [format, &app] {
    for (const ManualFormat& one : kFormats) {
      if (one.name == *format) write_text("-", one.write(app));
    }
  };
}

}  // namespace misa::cli
