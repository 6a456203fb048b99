#include "cli/python_plugin.hpp"

#include <cstdlib>
#include <filesystem>

#include "backends/backends.hpp"
#include "cli/options.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/platform/system.hpp"
#include "core/report/text.hpp"

namespace misa::cli {
namespace {

constexpr double kImportSeconds = 60;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// PYTHONPATH, with the package that came with the program behind what the user has set.
std::string python_path() {
  std::string path = variable("PYTHONPATH");
  for (const std::string& profiles : profile_directories()) {
    const std::filesystem::path package = std::filesystem::path(profiles) / "recorder";
    std::error_code failure;
    if (!std::filesystem::exists(package / "misa" / "host.py", failure)) continue;
    if (!path.empty()) path += ':';
    path += package.string();
  }
  return path;
}

/// The Python of the virtual environment that the program is installed in, which need not be the active one.
std::string environment_python() {
  const std::filesystem::path folder = std::filesystem::path(executable_path()).parent_path();
  std::error_code failure;
  if (!std::filesystem::exists(folder.parent_path() / "pyvenv.cfg", failure)) return "";
  const std::filesystem::path python = folder / "python3";
  return std::filesystem::exists(python, failure) ? python.string() : "";
}

/// The last line that says something.
std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return printable(text.substr(text.find_last_of('\n') + 1));
}

/// Error where Python or the package is not there.
void check_python(const ChildCommand& command) {
  const ChildResult result = run_child({.words = {command.words.front(), "-c", "import misa.host"},
                                        .environment = command.environment,
                                        .limit_seconds = kImportSeconds});
  const std::string& python = command.words.front();
  if (result.end == ChildEnd::not_started) {
    throw Error(ErrorKind::unavailable, "MP-E440", "a plug-in that is a Python file needs Python: " + result.reason,
                python, "MISA_PYTHON=PROGRAM in the environment");
  }
  if (result.end == ChildEnd::interrupted || (result.end == ChildEnd::exited && result.status == 0)) return;
  throw Error(ErrorKind::unavailable, "MP-E441",
              "this Python cannot import misa.host, the package that runs plug-ins: " + last_line(result.errors.tail),
              python, "pip install profiles/recorder, or MISA_PYTHON=PROGRAM of an environment that has it");
}

}  // namespace

std::string plugin_python() {
  if (std::string stated = variable("MISA_PYTHON"); !stated.empty()) return stated;
  std::string own = environment_python();
  return own.empty() ? "python3" : own;
}

ChildCommand python_command(std::string_view backend, const std::vector<std::string>& arguments) {
  ChildCommand command{
      .words = {plugin_python(), "-m", "misa.host", std::string(backend.substr(kPluginPrefix.size()))},
      .environment = {{"PYTHONPATH", python_path()}, {"MISA_PROF", executable_path()}},
  };
  check_python(command);
  command.words.insert(command.words.end(), arguments.begin(), arguments.end());
  return command;
}

}  // namespace misa::cli
