#include "cli/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "backends/backends.hpp"
#include "core/base/decimal.hpp"
#include "core/base/suggest.hpp"
#include "core/platform/system.hpp"
#include "core/workload/profile.hpp"

namespace misa::cli {
namespace {

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group().empty()) continue;
    names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  return names;
}

/// Where the option `name` stands when it is another one's: before or behind the command's name.
std::string elsewhere(const CLI::App& command, const std::string& name) {
  const CLI::App* program = command.get_parent();
  if (program != nullptr) return program->get_option_no_throw("--" + name) ? "misa-prof --" + name : "";
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_option_no_throw("--" + name) != nullptr) return "misa-prof " + sub->get_name() + " --" + name;
  }
  return "";
}

CLI::Validator whole_number(u64 least, u64 most, std::optional<u64> (*read)(std::string_view)) {
  const auto check = [=](const std::string& text) {
    const std::optional<u64> value = read(text);
    if (value && *value >= least && *value <= most) return std::string();
    return fmt::format("'{}' is not a whole number from {} to {} in digits", text, least, most);
  };
  return {check, ""};
}

CLI::Validator decimal(double least, double most) {
  const auto check = [least, most](const std::string& text) {
    const std::optional<double> value = decimal_number_of(text);
    if (value && *value >= least && *value <= most) return std::string();
    return fmt::format("'{}' is not a number from {:.0f} to {:.0f} such as 0.5", text, least, most);
  };
  return {check, ""};
}

/// "5%" and "0.05" -> 0.05; nothing for other text or more than all.
std::optional<double> share_of(const std::string& text) {
  const bool percent = !text.empty() && text.back() == '%';
  const std::optional<double> value = decimal_number_of(percent ? text.substr(0, text.size() - 1) : text);
  if (!value) return std::nullopt;
  const double share = percent ? *value / 100 : *value;
  return share <= 1 ? std::optional(share) : std::nullopt;
}

CLI::Validator is_share() {
  const auto check = [](const std::string& text) {
    return share_of(text) ? std::string() : fmt::format("'{}' is not a share such as 5% or 0.05", text);
  };
  return {check, ""};
}

/// An option whose text `read` turns into the value; CLI11's own conversion would read "010" as 8 and depend on the
/// locale. The help shows the value as the default where it is not optional.
template <class Value, class Read>
CLI::Option* add_number(CLI::App& command, const char* name, Value& value, const char* what, const Read& read) {
  const auto assign = [&value, read](const CLI::results_t& results) {
    const auto number = read(results.front());
    if (number) value = static_cast<std::decay_t<decltype(*number)>>(*number);
    return number.has_value();
  };
  if constexpr (std::is_arithmetic_v<Value>) {
    return command.add_option(name, assign, what, true, [&value] { return fmt::format("{}", value); });
  } else {
    return command.add_option(name, assign, what);
  }
}

}  // namespace

CLI::Validator not_empty() {
  return {[](const std::string& text) { return text.empty() ? std::string("the name is empty") : std::string(); }, ""};
}

void refuse_program(const std::string& value, const std::string& where) {
  for (const std::string_view program : {kPluginPrefix, std::string_view("exec:")}) {
    if (value.substr(0, program.size()) != program) continue;
    throw Error(ErrorKind::usage, "MP-E065", "'" + value + "' would start a program, which a file may not do", where,
                "--backend " + shell_word(value) + " on the command line");
  }
}

void apply_config(CLI::App& command, const std::string& path) {
  for (const ConfigEntry& entry : load_config(path)) {
    CLI::Option* option = command.get_option_no_throw("--" + entry.key);
    if (option == nullptr || entry.key == "config" || entry.key == "help") {
      const std::string help = "misa-prof " + command.get_name() + " --help";
      throw Error(ErrorKind::usage, "MP-E018",
                  "'" + entry.key + "' is not an option of " + command.get_name() + " that a file may set",
                  location(path, entry), option == nullptr ? suggestion(entry.key, option_names(command), help) : help);
    }
    for (const std::string& value : entry.values) refuse_program(value, location(path, entry));
    if (option->count() > 0) continue;  // the command line wins
    const auto refuse = [&](const char* what, const char* how) {
      throw Error(ErrorKind::usage, "MP-E019", option->get_name() + what, location(path, entry), how);
    };
    try {
      if (entry.list && option->get_multi_option_policy() != CLI::MultiOptionPolicy::TakeAll) {
        refuse(" takes one value and no list", "the value without brackets");
      }
      if (option->get_items_expected_max() == 0) {
        if (entry.values == std::vector<std::string>{"false"}) continue;
        if (entry.values != std::vector<std::string>{"true"}) refuse(" is switched on or off", "true or false");
      } else if (entry.values.empty()) {
        refuse(" needs a value", "one or more values, or leave the key out");
      }
      for (const std::string& value : entry.values) option->add_result(value);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      throw Error(ErrorKind::usage, "MP-E019", error.what(), location(path, entry),
                  "misa-prof " + command.get_name() + " --help");
    } catch (const Error& error) {
      if (!error.where().empty() && error.where() != option->get_name()) throw;
      throw Error(error.kind(), error.id(), error.what(), location(path, entry), error.how());
    }
  }
}

void refuse_extras(const CLI::App& command) {
  const std::vector<std::string> extras = command.remaining();
  if (extras.empty()) return;
  std::string word = extras.front();
  const bool is_option = word.size() > 1 && word.find_first_not_of('-') != std::string::npos && word.front() == '-';
  for (const CLI::App* sub : command.get_subcommands()) {
    // A command takes all options up to "--"; those before the command and after "--" come here.
    if (!is_option || sub->get_option_no_throw(word.substr(0, word.find('='))) == nullptr) continue;
    throw Error(ErrorKind::usage, "MP-E020", "'" + word + "' is after -- or before its command", {},
                "misa-prof " + sub->get_name() + " " + word);
  }
  std::string near;
  if (is_option) {
    const std::string bare = word.substr(word.find_first_not_of('-'));
    const std::string name = bare.substr(0, bare.find('='));
    near = nearest(name, option_names(command));
    near = near.empty() ? elsewhere(command, name) : "--" + near;
  } else {
    std::vector<std::string> names;
    for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(sub->get_name());
    }
    near = nearest(word, names);
  }
  const std::string name = command.get_parent() == nullptr ? command.get_name() : "misa-prof " + command.get_name();
  const bool names_command = !is_option && command.get_parent() == nullptr && command.get_subcommands().empty();
  const char* what = is_option ? "option" : names_command ? "command" : "argument";
  throw Error(ErrorKind::usage, "MP-E020", fmt::format("unknown {} '{}'", what, word), {},
              near.empty() ? name + " --help" : near);
}

CLI::Option* add_text(CLI::App& command, const char* name, std::string& value, const std::string& what,
                      const char* type, const char* group) {
  return command.add_option(name, value, what)->check(not_empty())->type_name(type)->group(group);
}

CLI::Option* add_list(CLI::App& command, const char* name, std::vector<std::string>& values, const std::string& what,
                      const char* type, const char* group) {
  CLI::Option* option = command.add_option(name, values, what)->type_name(type)->group(group);
  return option->expected(1)->allow_extra_args(false)->take_all();
}

void add_flag(CLI::App& command, const char* name, bool& value, const char* what, const char* group) {
  command.add_flag(name, value, what)->disable_flag_override()->group(group);
}

void add_config(CLI::App& command, std::string& path) {
  add_text(command, "--config", path, "TOML file of long option names; the command line wins", "FILE", kOutputGroup);
}

void add_name(CLI::App& command, const char* name, std::string& value, const std::string& what, const char* group) {
  command.add_option(name, value, what)->type_name("NAME")->capture_default_str()->group(group);
}

void add_kernels(CLI::App& command, std::vector<std::string>& values) {
  add_list(command, "--kernel", values,
           "Kernel that a primitive must use, repeatable: a primitive with several uses the first of them that accepts "
           "its task (misa-prof list --kernels)",
           "PRIMITIVE=NAME", kBackendGroup)
      ->check(not_empty());
}

ForcedKernels forced_kernels(const std::vector<std::string>& values) {
  ForcedKernels forced;
  for (const std::string& value : values) {
    const std::string name = value.substr(0, value.find('='));
    const auto primitive = std::find_if(kPrimitives.begin(), kPrimitives.end(),
                                        [&](Primitive one) { return primitive_name(one) == name; });
    if (primitive == kPrimitives.end() || name.size() + 1 >= value.size()) {
      std::vector<std::string_view> names;
      for (const Primitive one : kPrimitives) names.push_back(primitive_name(one));
      throw Error(ErrorKind::usage, "MP-E059", "--kernel '" + value + "' is not PRIMITIVE=NAME", {},
                  fmt::format("one of {} before the '='", fmt::join(names, ", ")));
    }
    forced.push_back({*primitive, value.substr(name.size() + 1)});
  }
  return forced;
}

void add_backend(CLI::App& command, std::string& value, const std::string& what, const char* group) {
  add_name(command, "--backend", value,
           fmt::format("{}: {}, or plugin:FILE, kernels of yours", what, fmt::join(names_of(backends()), ", ")), group);
}

template <class Value>
void add_count(CLI::App& command, const char* name, Value& value, const char* what, const char* group, u64 least) {
  add_number(command, name, value, what, count_of)
      ->check(whole_number(least, 0x7fffffff, count_of))
      ->type_name("N")
      ->group(group);
}
template void add_count(CLI::App&, const char*, i64&, const char*, const char*, u64);
template void add_count(CLI::App&, const char*, std::optional<i64>&, const char*, const char*, u64);

void add_seed(CLI::App& command, u64& value, const char* what, const char* group) {
  add_number(command, "--seed", value, what, whole_number_of)
      ->check(whole_number(0, std::numeric_limits<u64>::max(), whole_number_of))
      ->type_name("N")
      ->group(group);
}

template <class Value>
void add_decimal(CLI::App& command, const char* name, Value& value, const char* what, const char* type,
                 const char* group, double least, double most) {
  add_number(command, name, value, what, decimal_number_of)->check(decimal(least, most))->type_name(type)->group(group);
}
template void add_decimal(CLI::App&, const char*, double&, const char*, const char*, const char*, double, double);
template void add_decimal(CLI::App&, const char*, std::optional<double>&, const char*, const char*, const char*, double,
                          double);

void add_share(CLI::App& command, const char* name, std::optional<double>& value, const char* what, const char* group) {
  add_number(command, name, value, what, share_of)->check(is_share())->type_name("SHARE")->group(group);
}

void add_device(CLI::App& command, std::optional<i64>& device) {
  add_count(command, "--device", device, "Device of the cuda backend (default: 0)", kBackendGroup, 0);
}

int device_number(std::optional<i64> device, const std::vector<std::string>& names) {
  const bool suits = std::any_of(backends().begin(), backends().end(), [&](const BackendInfo& info) {
    return info.devices && std::find(names.begin(), names.end(), info.name) != names.end();
  });
  const bool loads = std::any_of(names.begin(), names.end(), is_plugin);
  if (!device || suits || loads) return static_cast<int>(device.value_or(0));
  throw Error(ErrorKind::usage, "MP-E044", fmt::format("--device is {}, and {} has no devices", *device, names.front()),
              {}, "--backend cuda");
}

i64 thread_count(std::optional<i64> threads) {
  const i64 cores = system_info().cores;
  std::string name = "--threads", given = threads ? std::to_string(*threads) : "";
  if (!threads) {
    const char* const text = std::getenv("OMP_NUM_THREADS");
    if (text == nullptr || *text == '\0') return cores;
    name = "OMP_NUM_THREADS";
    given = text;
  }
  // The variable has one number for each level of nesting.
  const std::optional<u64> count = whole_number_of(std::string_view(given).substr(0, given.find(',')));
  if (count && *count >= 1 && *count <= static_cast<u64>(4 * cores)) return static_cast<i64>(*count);
  throw Error(ErrorKind::usage, "MP-E029", fmt::format("{} is {}, and there are {} cores", name, given, cores), {},
              fmt::format("--threads {}; {} at most", cores, 4 * cores));
}

std::vector<std::string> command_words(const CLI::App& app, const CLI::App& command) {
  std::vector<std::string> words{app.get_name(), command.get_name()};
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || option->get_lnames().empty() || option->get_group().empty()) continue;
    const std::string name = "--" + option->get_lnames().front();
    for (const std::string& value : option->results()) {
      words.push_back(name);
      if (option->get_items_expected_max() > 0) words.push_back(value);
    }
  }
  return words;
}

std::string command_text(const std::vector<std::string>& words, const std::vector<std::string_view>& without) {
  std::string line;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool option = words[i].substr(0, 2) == "--";
    const bool has_value = option && i + 1 < words.size() && words[i + 1].substr(0, 2) != "--";
    const bool left_out = option && std::find(without.begin(), without.end(), words[i]) != without.end();
    if (!left_out) {
      line += (line.empty() ? "" : " ") + shell_word(words[i]);
      if (has_value) line += " " + shell_word(words[i + 1]);
    }
    if (has_value) ++i;
  }
  return line;
}

}  // namespace misa::cli
