#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/report/html.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"

namespace misa::cli {
namespace {

constexpr const char* kReportExamples =
    "\nExamples:\n"
    "  misa-prof report result.json\n"
    "  misa-prof report result.json -o page.html\n"
    "  misa-prof report result.json --figure cost -o cost.svg\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 10 runtime.\n";

struct ReportOptions {
  std::vector<std::string> results;
  std::string figure, output;
};

/// The file to write: of -o, without "html:" or "svg:" before it, or one named after what it holds.
std::string output_path(const ReportOptions& options) {
  const std::string format = options.figure.empty() ? "html" : "svg";
  if (options.output.empty()) return options.figure.empty() ? "report.html" : options.figure + ".svg";
  const std::string path =
      options.output.starts_with(format + ":") ? options.output.substr(format.size() + 1) : options.output;
  const std::string ending = std::filesystem::path(path).extension().string();
  if (path.empty())
    throw Error(ErrorKind::usage, "MP-E023", "-o '" + options.output + "' names no file", {}, "-o page.html");
  if (path == options.output && path != "-" && !ending.empty() && ending != "." + format && ending != ".htm") {
    throw Error(
        ErrorKind::usage, "MP-E054",
        fmt::format("{} has the ending .{}, not '{}'", format == "svg" ? "a drawing" : "a page", format, ending),
        "-o " + options.output, fmt::format("-o {}:{}", format, path));
  }
  return path;
}

/// The drawing of that name as a file of its own.
std::string drawing(const Json& document, const std::string& name, const std::string& path) {
  const std::vector<Exhibit> drawings = drawings_of(document);
  std::vector<std::string> names;
  for (const Exhibit& one : drawings) {
    if (one.name == name) return chart::standalone_svg(*one.figure);
    names.push_back(one.name);
  }
  throw Error(ErrorKind::usage, "MP-E477", "there is no drawing '" + name + "' of this result", path,
              names.empty() ? "a result that has times or quality" : joined(names, ", "));
}

void run_report(const ReportOptions& options) {
  if (options.results.empty()) {
    throw Error(ErrorKind::usage, "MP-E475", "report needs a result", {},
                "misa-prof profile -o json:result.json, then misa-prof report result.json");
  }
  if (options.results.size() > 1) {
    throw Error(ErrorKind::usage, "MP-E476", fmt::format("report takes one result, not {}", options.results.size()), {},
                "misa-prof report " + shell_word(options.results.front()));
  }
  const std::string& path = options.results.front();
  const std::string output = output_path(options);
  if (output != "-") {
    check_no_input(output, options.results);
    check_writable(output);
  }
  const ResultFile result = read_result_file(path, {ResultKind::result, ResultKind::agreement}, true);
  if (!options.figure.empty()) return write_text(output, drawing(result.document, options.figure, path));
  write_text(output, html_page({path, result.document}));
  if (output == "-") return;
  std::vector<std::string> names;
  for (const Exhibit& one : drawings_of(result.document)) names.push_back(one.name);
  write_text("-", fmt::format("{}: {}\n", printable(output),
                              names.empty() ? "tables alone" : "drawings " + printable(joined(names, ", "))));
}

}  // namespace

Work add_report(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("report", "Make a page of drawings and tables of a result");
  const auto options = std::make_shared<ReportOptions>();
  command.footer(kReportExamples);
  command.add_option("RESULT", options->results, "A result that another command wrote as JSON or JSON lines")
      ->check(not_empty());
  add_name(command, "--figure", options->figure, "One drawing alone, as SVG; report names them", kOutputGroup);
  add_text(command, "-o,--output", options->output, "The file to write (default: report.html, or NAME.svg)", "FILE",
           kOutputGroup);
  return [options] { run_report(*options); };
}

}  // namespace misa::cli
