#include "core/experiment/doctor.hpp"

#include <cstdlib>
#include <exception>
#include <memory>
#include <utility>

#include "backends/backends.hpp"
#include "cli/build_facts.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/python_plugin.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/experiment/describe.hpp"
#include "core/platform/child.hpp"
#include "core/ranges/ranges.hpp"
#include "core/report/fingerprint.hpp"

namespace misa::cli {
namespace {

constexpr const char* kDoctorExamples =
    "\nExamples:\n"
    "  misa-prof doctor\n"
    "  misa-prof doctor --format json\n"
    "\nExit codes: 0 ok, warnings too; 2 usage, 4 there are no profiles.\n";

constexpr double kWatchSeconds = 0.2;
constexpr double kChildSeconds = 10;

/// The environment variables that this program and its libraries read.
constexpr const char* kVariables[] = {"MISA_PROF_PROFILES",
                                      "MISA_PYTHON",
                                      "PYTHONPATH",
                                      "OMP_NUM_THREADS",
                                      "OMP_WAIT_POLICY",
                                      "OMP_PROC_BIND",
                                      "OMP_PLACES",
                                      "GOMP_CPU_AFFINITY",
                                      "ONEDNN_MAX_CPU_ISA",
                                      "CUDA_VISIBLE_DEVICES",
                                      "TMPDIR",
                                      "NO_COLOR",
                                      "CI",
                                      "TERM"};

/// What a program prints; nothing where it does not run or fails.
std::optional<std::string> output_of(std::vector<std::string> words) {
  const ChildResult result = run_child({.words = std::move(words), .limit_seconds = kChildSeconds});
  if (result.end != ChildEnd::exited || result.status != 0) return std::nullopt;
  return result.output.tail.empty() ? result.errors.tail : result.output.tail;
}

/// The backends, and the fingerprint of results on each that is here.
void look_at_backends(DoctorFacts& facts, DoctorReport& report) {
  Origin origin;
  origin.build = facts.build;
  for (const BackendInfo& info : backends()) {
    DoctorBackend found{.name = std::string(info.name), .absent = info.why_absent(0), .devices = info.devices};
    if (!found.absent) {
      try {
        const std::unique_ptr<Backend> backend = make_backend(info.name, static_cast<int>(facts.system.cores));
        const ReportEnvironment environment = describe_environment({backend.get()}, facts.system.cores, origin);
        found.description = backend->description();
        report.fingerprints.emplace_back(found.name, fingerprint(environment));
        if (const std::optional<DeviceState> state = backend->device_state()) found.throttled = state->throttled;
      } catch (const Error& error) {
        found.absent = error.what();
      }
    }
    facts.backends.push_back(std::move(found));
  }
}

void run_doctor(const OutputOptions& output, std::vector<std::string> command_line) {
  const std::vector<Target> targets = output.targets({});
  DoctorFacts facts;
  DoctorReport report;
  report.tool_version = program_version();
  report.command_line = std::move(command_line);
  facts.load_average = read_load().load_average;
  facts.busy = busy_processes(kWatchSeconds);
  facts.system = system_info();
  facts.machine = machine_facts();
  facts.build = build_facts();
  facts.no_ranges = ranges_why_not();
  for (const char* name : kVariables) {
    const char* const value = std::getenv(name);
    facts.variables.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
  }
  look_at_backends(facts, report);
  facts.nvidia_smi = output_of({"nvidia-smi", kNvidiaSmiQuery, "--format=csv,noheader,nounits"});
  facts.python = plugin_python();
  facts.python_version = output_of({facts.python, "--version"}).value_or("");
  while (!facts.python_version.empty() && facts.python_version.back() == '\n') facts.python_version.pop_back();

  std::exception_ptr failure;
  try {
    facts.profiles = profile_directories();
    if (facts.profiles.empty()) failure = std::make_exception_ptr(no_profiles());
  } catch (const Error&) {  // MISA_PROF_PROFILES names no folder of profiles
    failure = std::current_exception();
  }
  report.checks = examine(facts);
  output.write(targets, {}, [&](const std::string& format, const WriterOptions& writing) {
    return write_report(report, format, writing);
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Work add_doctor(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("doctor", "What of this machine makes measurements good or bad");
  const auto output = std::make_shared<OutputOptions>(std::vector<std::string_view>{"table", "json"});
  command.footer(kDoctorExamples);
  output->add(command, false);
  return [&app, &command, output] { run_doctor(*output, command_words(app, command)); };
}

}  // namespace misa::cli
