#include "cli/output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>

#include "cli/options.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/report/text.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

/// ".json" of "a.b/report.JSON"; empty where the name has none, as that of a pipe or a device.
std::string ending_of(const std::string& path) {
  std::string ending = fs::path(path).extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return ending;
}

/// A terminal that went away does not end the run.
void draw(const std::string& line) {
  const std::string text = "\r\x1b[K" + line;
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

bool OutputOptions::known(std::string_view name) const {
  return std::find(formats_.begin(), formats_.end(), name) != formats_.end();
}

std::string OutputOptions::format_of(const std::string& name) const {
  if (known(name)) return name;
  throw Error(ErrorKind::usage, "MP-E021", "there is no format called '" + name + "'", {}, suggestion(name, formats_));
}

std::string OutputOptions::format_of_ending(const std::string& path) const {
  const std::string ending = ending_of(path);
  if (ending.empty()) return "";
  std::vector<std::string> endings;
  for (const ReportFormat& format : report_formats()) {
    if (!known(format.name)) continue;
    for (const std::string& one : words_of(std::string(format.endings))) {
      if (one == ending) return std::string(format.name);
      endings.push_back(one);
    }
  }
  throw Error(ErrorKind::usage, "MP-E054", "no format has the ending '" + ending + "'", "-o " + path,
              fmt::format("-o {}:{}, or one of {}", formats_.front(), path, fmt::join(endings, ", ")));
}

void OutputOptions::add(CLI::App& command, bool host) {
  add_name(command, "--format", format_, fmt::format("{}", fmt::join(formats_, ", ")), kOutputGroup);
  add_list(command, "-o,--output", outputs_,
           "[FORMAT:]FILE, repeatable; '-' is standard output. Without FORMAT: the file's ending says which; without "
           "an ending, --format",
           "[FORMAT:]FILE", kOutputGroup);
  command.add_option("--color", colour_, "auto, always or never (NO_COLOR is honoured)")
      ->type_name("WHEN")
      ->capture_default_str()
      ->group(kOutputGroup);
  if (host) add_flag(command, "--host", host_, "Write the name of this machine into results", kOutputGroup);
}

std::vector<Target> OutputOptions::targets(const std::vector<std::string>& inputs) const {
  if (!find_colour_mode(colour_)) {
    throw Error(ErrorKind::usage, "MP-E022", "--color is '" + colour_ + "'", {}, "auto, always or never");
  }
  const std::string usual = format_of(format_);
  if (outputs_.empty()) return {{usual}};
  std::vector<Target> targets;
  for (const std::string& output : outputs_) {
    Target target{"", output};
    const std::size_t colon = output.find(':');
    if (colon != std::string::npos && known(output.substr(0, colon))) {
      target = {output.substr(0, colon), output.substr(colon + 1), false};
    } else if (colon != std::string::npos && output.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == colon) {
      const std::string near = nearest(output.substr(0, colon), formats_);
      throw Error(ErrorKind::usage, "MP-E021", "there is no format called '" + output.substr(0, colon) + "'",
                  "-o " + output,
                  near.empty() ? "-o ./" + output + " for a file of that name" : "-o " + near + output.substr(colon));
    }
    if (target.path.empty()) {
      throw Error(ErrorKind::usage, "MP-E023", "-o '" + output + "' names no file", {}, "-o json:report.json");
    }
    for (const Target& other : targets) {
      if (same_target(other.path, target.path)) {
        throw Error(ErrorKind::usage, "MP-E024", "two outputs go to '" + target.path + "'", {}, "two names");
      }
    }
    if (target.path != "-") check_no_input(target.path, inputs);
    if (target.format.empty()) target.format = format_of_ending(target.path);
    target.own_format = !target.format.empty();
    if (target.format.empty()) target.format = usual;
    check_writable(target.path);
    targets.push_back(target);
  }
  return targets;
}

void OutputOptions::write(const std::vector<Target>& targets, const std::vector<Warning>& warnings,
                          const std::function<std::string(const std::string& format, const WriterOptions&)>& text,
                          std::string_view streamed) const {
  for (const Target& target : targets) {
    if (target.format == streamed) continue;
    WriterOptions options;
    if (target.path == "-") {
      options.colour = uses_colour(*find_colour_mode(colour_), terminal_facts(StandardStream::output));
      options.width = terminal_width(StandardStream::output);
    }
    write_text(target.path, text(target.format, options));
  }
  if (std::none_of(targets.begin(), targets.end(), [](const Target& target) { return target.path == "-"; })) {
    show_warnings(warnings);
  }
}

void show_warnings(const std::vector<Warning>& warnings) {
  std::string text;
  for (const Warning& warning : warnings) text += "misa-prof: " + warning_line(warning) + "\n";
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

StreamedTargets::StreamedTargets(const std::vector<Target>& targets, std::string_view format) {
  for (const Target& target : targets) {
    if (target.format == format) paths_.push_back(target.path);
  }
}

void StreamedTargets::write(std::string_view piece) {
  const bool first = files_.empty();
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (first) files_.push_back(std::make_unique<OutputFile>(paths_[i]));
    files_[i]->write(piece);
    files_[i]->publish();
  }
}

void StreamedTargets::finish() {
  for (const auto& file : files_) file->commit();
}

void check_trace_name(const std::string& option, const std::string& path) {
  const std::string ending = ending_of(path);
  if (ending.empty() || ending == ".safetensors") return;
  throw Error(ErrorKind::usage, "MP-E054", "a trace or a selection has the ending .safetensors, not '" + ending + "'",
              option + " " + path, option + " " + fs::path(path).replace_extension(".safetensors").string());
}

void check_writable(const std::string& path) {
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  // Nothing is tried on pipes and devices: a reader would take the end of the trial for the end of the result.
  if (path != "-" && (!fs::exists(status) || fs::is_regular_file(status) || fs::is_directory(status))) OutputFile{path};
}

void check_no_input(const std::string& path, const std::vector<std::string>& inputs) {
  if (std::none_of(inputs.begin(), inputs.end(), [&](const std::string& input) { return same_file(path, input); }))
    return;
  throw Error(ErrorKind::usage, "MP-E025", "'" + path + "' is an input and would be overwritten", {}, "another name");
}

bool same_target(const std::string& a, const std::string& b) {
  if (a == b || a == "-" || b == "-") return a == b;
  std::error_code failure;
  return same_file(a, b) || fs::weakly_canonical(fs::absolute(a, failure), failure) ==
                                fs::weakly_canonical(fs::absolute(b, failure), failure);
}

void write_text(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

Progress::Progress() : visible_(shows_progress(terminal_facts(StandardStream::error))) {}
Progress::~Progress() { clear(); }

void Progress::show(const std::string& line) {
  if (!visible_) return;
  draw(shortened(line, terminal_width(StandardStream::error) - 1));
  shown_ = true;
}

void Progress::say(const std::string& line) {
  clear();
  const std::string text = "misa-prof: " + line + "\n";
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

void Progress::clear() {
  if (!shown_) return;
  draw("");
  shown_ = false;
}

}  // namespace misa::cli
