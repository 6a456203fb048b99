#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/platform/file.hpp"
#include "core/platform/terminal.hpp"
#include "core/report/write.hpp"

namespace misa::cli {

/// One place results go to.
struct Target {
  std::string format;
  std::string path = "-";
  bool own_format = false;  ///< named before the path, or by its ending; else --format says
};

/// --format, -o and --color, and where they send a report.
class OutputOptions {
 public:
  /// `formats`: the first is the default.
  explicit OutputOptions(std::vector<std::string_view> formats = profile_format_names())
      : formats_(std::move(formats)) {}

  /// `host`: with --host, for results that say where they were made.
  void add(CLI::App& command, bool host = true);

  /// Results name this machine.
  bool host() const { return host_; }

  /// Every place, standard output included; throws Error(usage) for unknown formats and when a file would overwrite one
  /// of `inputs` or is named twice.
  std::vector<Target> targets(const std::vector<std::string>& inputs) const;
  /// `text` makes the text of a format. Where no target is standard output, `warnings` are shown on standard error too:
  /// whoever started the run would not see them otherwise. Targets of the format `streamed` are written already.
  void write(const std::vector<Target>& targets, const std::vector<Warning>& warnings,
             const std::function<std::string(const std::string& format, const WriterOptions&)>& text,
             std::string_view streamed = {}) const;

 private:
  std::string format_of(const std::string& name) const;
  /// Empty: the path has no ending. Error(usage) for an ending that no format has.
  std::string format_of_ending(const std::string& path) const;
  bool known(std::string_view name) const;

  std::vector<std::string_view> formats_;
  std::string format_ = "table", colour_ = "auto";
  std::vector<std::string> outputs_;
  bool host_ = false;
};

/// The format that is written while a run goes on.
inline constexpr std::string_view kStreamed = "jsonl";

/// The places of some targets, written piece by piece: each piece is there once it is written, whatever ends the
/// process.
class StreamedTargets {
 public:
  /// Of `targets` those of `format`.
  StreamedTargets(const std::vector<Target>& targets, std::string_view format);

  /// The first piece replaces a file that is there; later ones are added to it.
  void write(std::string_view piece);
  void finish();

 private:
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<OutputFile>> files_;
};

/// `text` to the file, or standard output; atomically.
void write_text(const std::string& path, const std::string& text);

/// "misa-prof: warning: MP-W001: what; where" on standard error, a line each: for what writes no report.
void show_warnings(const std::vector<Warning>& warnings);

/// Refuses a file for tensors that looks like something else: Error(usage). A name without an ending will do.
void check_trace_name(const std::string& option, const std::string& path);

/// Refuses now what could not be written later, without touching `path`: a directory, one that is missing, no
/// permission.
void check_writable(const std::string& path);

/// Refuses a file that is one of `inputs`: Error(usage).
void check_no_input(const std::string& path, const std::vector<std::string>& inputs);

/// True when both paths will be one file, whether it is there yet or not.
bool same_target(const std::string& a, const std::string& b);

/// Seconds of a run that are worth an estimate beforehand.
inline constexpr double kLongRun = 5;

/// One line on standard error that overwrites itself; silent unless a person is watching.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(const std::string& line);
  /// A line that stays, whoever watches.
  void say(const std::string& line);
  void clear();

 private:
  bool visible_ = false, shown_ = false;
};

}  // namespace misa::cli
