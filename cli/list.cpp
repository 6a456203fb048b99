#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <set>

#include "backends/backends.hpp"
#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/indexer/arithmetic.hpp"
#include "core/platform/terminal.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/workload/profile.hpp"

namespace misa::cli {
namespace {

constexpr const char* kListExamples =
    "\nExamples:\n"
    "  misa-prof list\n"
    "  misa-prof list --format json\n"
    "  misa-prof list --names indexers\n"
    "  misa-prof list --arithmetic\n"
    "\nExit codes: 0 ok, 2 usage, 4 there are no profiles.\n";

/// One thing that can be named on a command line.
struct Entry {
  std::string name, what, source;
};

struct Section {
  std::string name;
  std::vector<Entry> entries;
};

/// A section of the rows of a table.
Section section_of(const char* name, const auto& rows, const auto& what, const auto& source) {
  Section section{name, {}};
  for (const auto& row : rows) section.entries.push_back({std::string(row.name), what(row), source(row)});
  return section;
}

/// What --arithmetic takes: the arithmetics whose bounds are known.
Section arithmetic_section() {
  return section_of(
      "arithmetic", arithmetics(), [](const Arithmetic& one) { return std::string(one.what); },
      [](const Arithmetic&) { return ""; });
}

std::vector<Section> sections() {
  const auto what = [](const auto& row) { return std::string(row.what); };
  const auto source = [](const auto& row) { return std::string(row.source); };
  const auto description = [](const auto& profile) { return profile.description; };
  const auto state = [](const BackendInfo& info) {
    const auto reason = info.why_absent(0);
    return reason ? "absent: " + *reason : std::string(info.what);
  };
  Section build{"build", {{"version", std::string(program_version()), ""}}};
  for (const auto& [name, value] : build_lines()) build.entries.push_back({name, value, ""});
  const std::vector<std::string> directories = profile_directories();
  Section traces{"traces", {}};
  std::set<std::string> names;
  for (const std::string& directory : directories) {
    std::error_code failure;
    for (const auto& file : std::filesystem::directory_iterator(directory + "/traces", failure)) {
      if (file.path().extension() == ".safetensors") names.insert(file.path().stem().string());
    }
  }
  for (const std::string& name : names) {
    traces.entries.push_back({name, "recorded workload; misa-prof inspect shows it", ""});
  }
  return {section_of("indexers", all_indexers(), what, source),
          section_of("routers", routers(), what, source),
          section_of("backends", backends(), state, [](const BackendInfo&) { return ""; }),
          arithmetic_section(),
          section_of("models", list_models(directories), description, source),
          section_of("workloads", list_workloads(directories), description, source),
          section_of("presets", presets(), what, [](const PresetInfo& info) { return std::string(info.expect); }),
          traces,
          build};
}

/// The kernels of each backend, in the order in which a primitive asks them.
std::vector<Section> kernel_sections() {
  std::vector<Section> all;
  for (const BackendInfo& info : backends()) {
    all.push_back({std::string(info.name), {}});
    for (const KernelInfo& kernel : info.kernels()) {
      all.back().entries.push_back(
          {fmt::format("{}={}", primitive_name(kernel.primitive), kernel.name), std::string(kernel.what), ""});
    }
  }
  return all;
}

std::string as_text(const std::vector<Section>& all) {
  const int width = terminal_width(StandardStream::output);
  std::string text;
  for (const Section& section : all) {
    text += (text.empty() ? "" : "\n") + section.name + "\n";
    if (section.entries.empty()) text += "  none\n";
    i64 longest = 0;
    for (const Entry& entry : section.entries) longest = std::max(longest, display_width(printable(entry.name)));
    for (const Entry& entry : section.entries) {
      const i64 indent = longest + 4;
      const std::string name = "  " + padded(printable(entry.name), longest, false) + "  ";
      text += hanging(name, indent, words_of(printable(entry.what)), " ", width) + "\n";
      if (entry.source.empty()) continue;
      text += hanging(padded("", indent, false), indent, words_of(printable(entry.source)), " ", width) + "\n";
    }
  }
  return text;
}

/// The names of one section for scripts: a line each, or an array. Error(usage) when there is no such section.
std::string names_in(const std::vector<Section>& all, const std::string& title, bool json) {
  std::string text;
  Json array = Json::array();
  for (const Section& section : all) {
    if (section.name != title) continue;
    for (const Entry& entry : section.entries) {
      array.push_back(entry.name);
      text += printable(entry.name) + "\n";
    }
    return json ? text_of(array, 2) : text;
  }
  throw Error(ErrorKind::usage, "MP-E057", "there is no section '" + title + "'", {}, suggestion(title, names_of(all)));
}

std::string as_json(const std::vector<Section>& all) {
  Json document;
  for (const Section& section : all) {
    document[section.name] = Json::array();
    for (const Entry& entry : section.entries) {
      document[section.name].push_back({{"name", entry.name}, {"what", entry.what}, {"source", entry.source}});
    }
  }
  return text_of(document, 2);
}

}  // namespace

Work add_list(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("list", "What there is: indexers, routers, backends, profiles, traces");
  const auto format = std::make_shared<std::string>("table"), names = std::make_shared<std::string>();
  const auto kernels = std::make_shared<bool>(false), arithmetic = std::make_shared<bool>(false);
  command.footer(kListExamples);
  add_name(command, "--format", *format, "table or json", kOutputGroup);
  add_text(command, "--names", *names, "Only the names of one section, a line each: indexers, routers, traces, ...",
           "SECTION", kOutputGroup);
  add_flag(command, "--kernels", *kernels, "The kernels of each backend, as --kernel takes them", kOutputGroup);
  add_flag(command, "--arithmetic", *arithmetic, "Only how kernels round, as compare --arithmetic takes it",
           kOutputGroup);
  return [format, names, kernels, arithmetic] {
    if (*format != "table" && *format != "json") {
      throw Error(ErrorKind::usage, "MP-E021", "there is no format called '" + *format + "'", {}, "table or json");
    }
    std::vector<Section> all;
    if (*kernels) all = kernel_sections();
    if (*arithmetic) all.push_back(arithmetic_section());
    if (all.empty()) all = sections();
    if (!names->empty()) {
      write_text("-", names_in(all, *names, *format == "json"));
    } else {
      write_text("-", *format == "json" ? as_json(all) : as_text(all));
    }
    if (!*kernels && !*arithmetic && profile_directories().empty()) throw no_profiles();
  };
}

}  // namespace misa::cli
