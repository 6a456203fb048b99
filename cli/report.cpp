#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/experiment/diff.hpp"
#include "core/report/diff_report.hpp"
#include "core/report/html.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"
#include "core/selection/selection_file.hpp"

namespace misa::cli {
namespace {

constexpr const char* kReportExamples =
    "\nExamples:\n"
    "  misa-prof report result.json\n"
    "  misa-prof report result.json -o page.html\n"
    "  misa-prof report before.json after.json -o difference.html\n"
    "  misa-prof report result.json --figure cost -o cost.svg\n"
    "\nExit codes: 0 ok, 2 usage, 3 input, 5 the two have no case in common, 10 runtime.\n";

struct ReportOptions {
  std::vector<std::string> results;
  std::string figure, output;
};

/// The file to write: of -o, without "html:" or "svg:" before it, or one named after what it holds.
std::string output_path(const ReportOptions& options) {
  const std::string format = options.figure.empty() ? "html" : "svg";
  if (options.output.empty()) return options.figure.empty() ? "report.html" : options.figure + ".svg";
  std::string path =
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

/// What is shown, as a page and as drawings.
struct Shown {
  std::string page;
  std::vector<Exhibit> drawings;
};

Shown show(const std::string& path) {
  if (std::filesystem::path(path).extension() == ".safetensors") {
    const SelectionFile file = read_selection(path);
    return {html_selection(path, file), drawings_of(selection_sections(file))};
  }
  const ResultFile result =
      read_result_file(path, {ResultKind::result, ResultKind::agreement, ResultKind::sweep, ResultKind::niah}, true);
  return {html_page({path, result.document}), drawings_of(result.document)};
}

/// Whatever differs between them, the page says so.
Shown show_difference(const std::string& path_a, const std::string& path_b) {
  const auto read = [](const std::string& path) {
    return read_result_file(path, {ResultKind::result, ResultKind::sweep}, true);
  };
  const DiffRequest request{
      .a = {read(path_a)}, .b = {read(path_b)}, .allowed = {.inputs = true, .host = true, .build = true, .run = true}};
  const DiffReport difference = diff(request);
  return {html_difference({path_a, request.a.front().document}, {path_b, request.b.front().document}, difference),
          drawings_of(difference_sections(difference))};
}

/// The drawing of that name as a file of its own.
std::string drawing(const Shown& shown, const std::string& name) {
  std::vector<std::string> names;
  for (const Exhibit& one : shown.drawings) {
    if (one.name == name) return chart::standalone_svg(*one.figure);
    names.push_back(one.name);
  }
  throw Error(ErrorKind::usage, "MP-E477", "there is no drawing '" + name + "' of this result", {},
              names.empty() ? "a result that has times or quality" : joined(names, ", "));
}

void run_report(const ReportOptions& options) {
  const std::vector<std::string>& results = options.results;
  if (results.empty()) {
    throw Error(ErrorKind::usage, "MP-E475", "report needs a result", {},
                "misa-prof profile -o json:result.json, then misa-prof report result.json");
  }
  if (results.size() > 2) {
    throw Error(ErrorKind::usage, "MP-E476", fmt::format("report takes one result or two, not {}", results.size()), {},
                "misa-prof diff --a A1.json,A2.json --b B1.json,B2.json");
  }
  const std::string output = output_path(options);
  if (output != "-") {
    check_no_input(output, results);
    check_writable(output);
  }
  const Shown shown = results.size() == 1 ? show(results[0]) : show_difference(results[0], results[1]);
  if (!options.figure.empty()) return write_text(output, drawing(shown, options.figure));
  write_text(output, shown.page);
  if (output == "-") return;
  std::vector<std::string> names;
  for (const Exhibit& one : shown.drawings) names.push_back(one.name);
  write_text("-", fmt::format("{}: {}\n", printable(output),
                              names.empty() ? "tables alone" : "drawings " + printable(joined(names, ", "))));
}

}  // namespace

Work add_report(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("report", "Make a page of drawings and tables of a result, or of the difference of two");
  const auto options = std::make_shared<ReportOptions>();
  command.footer(kReportExamples);
  command
      .add_option("RESULT", options->results,
                  "A result that another command wrote as JSON or JSON lines, or a selection that profile dumped; two "
                  "results: their "
                  "difference")
      ->check(not_empty());
  add_name(command, "--figure", options->figure, "One drawing alone, as SVG; report names them", kOutputGroup);
  add_text(command, "-o,--output", options->output, "The file to write (default: report.html, or NAME.svg)", "FILE",
           kOutputGroup);
  return [options] { run_report(*options); };
}

}  // namespace misa::cli
