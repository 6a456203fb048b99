#include "core/experiment/doctor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/base/decimal.hpp"
#include "core/measure/contention.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

constexpr i64 kLittleMemory = i64{2} << 30;

std::string not_empty_or(const std::string& text, const char* other) { return text.empty() ? other : text; }

/// The checks of one group, in the order in which they are shown.
class CheckList {
 public:
  CheckList(std::vector<DoctorCheck>& checks, const char* group) : checks_(checks), group_(group) {}

  void ok(const std::string& name, const std::string& found, const std::string& why = {}) {
    checks_.push_back({group_, name, found, Health::ok, why, {}});
  }
  void unknown(const std::string& name, const std::string& why, const std::string& fix = {}) {
    checks_.push_back({group_, name, "not known", Health::unknown, why, fix});
  }
  void warn(const std::string& name, const std::string& found, const std::string& why, const std::string& fix) {
    checks_.push_back({group_, name, found, Health::warning, why, fix});
  }
  void problem(const std::string& name, const std::string& found, const std::string& why, const std::string& fix) {
    checks_.push_back({group_, name, found, Health::problem, why, fix});
  }

 private:
  std::vector<DoctorCheck>& checks_;
  std::string group_;
};

bool has_gpu(const DoctorFacts& facts) {
  return facts.machine.nvidia_driver.has_value() || !facts.nvidia_smi.value_or("").empty();
}

void examine_build(const DoctorFacts& facts, CheckList list) {
  const ReportBuild& build = facts.build;
  list.ok("compiler", build.compiler);
  if (build.type == "Release" || build.type == "RelWithDebInfo") {
    list.ok("type", build.type);
  } else {
    list.warn("type", not_empty_or(build.type, "none"), "times are those of code that is not optimised",
              "cmake -B build -DCMAKE_BUILD_TYPE=Release");
  }
  if (build.flags.find("-fsanitize") != std::string::npos) {
    list.warn("flags", build.flags, "sanitizers slow everything down, and not evenly", "cmake --preset release");
  } else {
    list.ok("flags", build.flags);
  }
  list.ok("kernel flags", build.kernel_flags);
  std::vector<std::string> libraries;
  for (const ReportLibrary& library : build.libraries) libraries.push_back(library.name + " " + library.version);
  list.ok("libraries", joined(libraries, ", "));
  if (!facts.no_ranges) {
    list.ok("NVTX", "there");
  } else if (has_gpu(facts)) {
    list.warn("NVTX", *facts.no_ranges, "profilers cannot tell stages apart",
              "cmake -B build -DMISA_NVTX_INCLUDE=/usr/local/cuda/include");
  } else {
    list.ok("NVTX", "absent", "only profilers need it: " + *facts.no_ranges);
  }
}

void examine_amx(const MachineFacts& machine, CheckList& list) {
  if (!machine.has_amx) {
    list.ok("AMX", "absent", "the processor has none, or the system hides it");
  } else if (!machine.amx_permitted) {
    list.unknown("AMX", "it is present, and whether the kernel permits it was not asked");
  } else if (*machine.amx_permitted) {
    list.ok("AMX", "present, permitted");
  } else {
    list.warn("AMX", "present, not permitted", "the kernel refuses its registers to this process",
              "Linux 5.16 or newer, and no seccomp filter on arch_prctl");
  }
}

void examine_processor(const DoctorFacts& facts, CheckList list) {
  const SystemInfo& system = facts.system;
  const MachineFacts& machine = facts.machine;
  list.ok("model", system.cpu);
  if (system.isa.empty()) {
    list.unknown("instruction sets", "/proc/cpuinfo has no flags");
  } else {
    list.ok("instruction sets", system.isa,
            "of the processor; the kernel flags say which our kernels use, oneDNN chooses at run time");
  }
  examine_amx(machine, list);

  if (system.allowed_cpus == 0 || !machine.cpus) {
    list.unknown("cores", fmt::format("{} are used; the machine does not say how many it has", system.cores));
  } else {
    list.ok("cores", fmt::format("{} of {} may be used", system.allowed_cpus, *machine.cpus),
            system.allowed_cpus < *machine.cpus ? "the affinity leaves the others out" : "");
  }
  if (!machine.container.known) {
    list.unknown("quota", "/proc/self/cgroup is not there");
  } else if (!machine.container.cores) {
    list.ok("quota", "none");
  } else if (*machine.container.cores < static_cast<double>(std::max<i64>(1, system.allowed_cpus))) {
    list.warn("quota", fmt::format("{:.2f} cores of CPU time", *machine.container.cores),
              "when it is used up, all threads stand still until the next period",
              "docker run --cpuset-cpus 0-3 in place of --cpus; Kubernetes: whole CPUs and the static CPU manager");
  } else {
    list.ok("quota", fmt::format("{:.2f} cores of CPU time", *machine.container.cores), "all that may be used");
  }

  const std::string governors = joined(machine.governors, ", ");
  if (governors.empty()) {
    list.unknown("governor", "the system shows no cpufreq, as virtual machines do");
  } else if (governors == "performance") {
    list.ok("governor", governors);
  } else {
    list.warn("governor", governors, "clocks follow the load, so short runs are slow",
              "sudo cpupower frequency-set -g performance");
  }
  if (!machine.turbo) {
    list.unknown("turbo", "the system shows no switch for it");
  } else {
    list.ok("turbo", *machine.turbo ? "on" : "off",
            *machine.turbo ? "the clock varies with heat and load; results record it" : "");
  }
  if (!machine.smt) {
    list.unknown("SMT", "the system does not say whether two threads share a core");
  } else {
    list.ok("SMT", *machine.smt ? "on" : "off", *machine.smt ? "two of the cores may be one" : "");
  }
}

void examine_load(const DoctorFacts& facts, CheckList list) {
  const double cores = static_cast<double>(std::max<i64>(1, facts.system.cores));
  const char* const kHarm = "other work takes cores, caches and memory bandwidth from what is measured";
  if (!facts.load_average) {
    list.unknown("load average", "/proc/loadavg is not there");
  } else if (*facts.load_average > kOthersTolerance * cores) {
    list.warn("load average", fmt::format("{:.2f} over a minute", *facts.load_average), kHarm,
              "waiting until it is over, or stopping it");
  } else {
    list.ok("load average", fmt::format("{:.2f} over a minute", *facts.load_average));
  }
  std::vector<std::string> names;
  double used = 0;
  for (const BusyProcess& one : facts.busy) {
    used += one.share;
    if (names.size() < 5) names.push_back(fmt::format("{} ({}) {:.0f} %", one.name, one.id, 100 * one.share));
  }
  if (facts.busy.empty()) {
    list.ok("other processes", "none seen to use much", "of those that this process may see");
  } else if (used > kOthersTolerance * cores) {
    list.warn("other processes", joined(names, ", "), kHarm, fmt::format("kill -STOP {}", facts.busy.front().id));
  } else {
    list.ok("other processes", joined(names, ", "));
  }
}

void examine_memory(const DoctorFacts& facts, CheckList list) {
  const ContainerLimits& container = facts.machine.container;
  std::optional<i64> available = facts.machine.memory_available;
  if (container.memory_bytes && container.memory_in_use) {
    const i64 left = std::max<i64>(0, *container.memory_bytes - *container.memory_in_use);
    available = std::min(available.value_or(left), left);
  }
  if (!available) {
    list.unknown("available", "/proc/meminfo does not say");
  } else if (*available < kLittleMemory) {
    list.warn("available", binary_bytes(*available), "large workloads are refused, or pages are swapped",
              "--max-memory, fewer --rows, or ending what uses it");
  } else {
    list.ok("available", binary_bytes(*available));
  }
  if (!container.known) {
    list.unknown("limit", "/proc/self/cgroup is not there");
  } else {
    list.ok("limit", container.memory_bytes ? binary_bytes(*container.memory_bytes) + " of a container" : "none");
  }
}

/// The value of a variable; empty: not set.
std::string variable_of(const DoctorFacts& facts, std::string_view name) {
  for (const auto& [one, value] : facts.variables) {
    if (one == name) return value.value_or("");
  }
  return {};
}

/// What the number of threads follows from where nobody has given one.
std::string cores_reason(const SystemInfo& system) {
  if (!is_limited_by_quota(system)) return "as many as the cores that may be used";
  return fmt::format("the container's quota of {:.2f} cores, rounded up: fewer than the {} that may be used",
                     *system.cpu_quota, system.allowed_cpus);
}

void examine_threads(const DoctorFacts& facts, CheckList list) {
  const std::string given = variable_of(facts, "OMP_NUM_THREADS");
  const std::optional<u64> count = whole_number_of(std::string_view(given).substr(0, given.find(',')));
  const auto cores = static_cast<u64>(std::max<i64>(1, facts.system.cores));
  const bool refused = !given.empty() && (!count || *count < 1 || *count > 4 * cores);
  if (refused) {
    list.unknown("threads", "commands refuse OMP_NUM_THREADS");
  } else if (!given.empty()) {
    list.ok("threads", std::to_string(*count), "OMP_NUM_THREADS");
  } else {
    list.ok("threads", std::to_string(cores), cores_reason(facts.system));
  }
  const std::string fix = fmt::format("unset OMP_NUM_THREADS, or --threads {}", cores);
  if (given.empty()) {
    list.ok("OMP_NUM_THREADS", "not set");
  } else if (refused) {
    list.problem("OMP_NUM_THREADS", given,
                 "commands refuse it: there are " + counted(facts.system.cores, "core", "cores"), fix);
  } else if (*count > cores) {
    list.warn("OMP_NUM_THREADS", given,
              "threads wait for each other on " + counted(facts.system.cores, "core", "cores"), fix);
  } else {
    list.ok("OMP_NUM_THREADS", given);
  }
  const std::string policy = variable_of(facts, "OMP_WAIT_POLICY");
  if (policy == "passive" || policy == "PASSIVE") {
    list.warn("OMP_WAIT_POLICY", policy, "threads sleep between parallel regions, so short stages take longer",
              "unset OMP_WAIT_POLICY, where the machine is otherwise idle");
  } else if ((policy == "active" || policy == "ACTIVE") && facts.machine.container.cores) {
    list.warn("OMP_WAIT_POLICY", policy, "threads that spin use up the container's quota", "unset OMP_WAIT_POLICY");
  } else {
    list.ok("OMP_WAIT_POLICY", not_empty_or(policy, "not set"));
  }
}

/// One line of what kNvidiaSmiQuery prints.
std::vector<std::string> fields_of(std::string_view line) {
  std::vector<std::string> fields;
  while (true) {
    const std::size_t comma = line.find(',');
    std::string_view field = line.substr(0, comma);
    while (!field.empty() && (field.front() == ' ')) field.remove_prefix(1);
    while (!field.empty() && (field.back() == ' ' || field.back() == '\r')) field.remove_suffix(1);
    fields.emplace_back(field);
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

void examine_device(const std::vector<std::string>& device, CheckList& list) {
  const std::string& number = device[0];
  list.ok("device " + number, device[1]);
  const std::string &persistence = device[3], &mig = device[4];
  const std::string persistence_name = "persistence " + number, mig_name = "MIG " + number;
  if (persistence == "Enabled") {
    list.ok(persistence_name, "on");
  } else if (persistence == "Disabled") {
    list.warn(persistence_name, "off", "the driver unloads between runs, and the first call of each waits for it",
              fmt::format("sudo nvidia-smi -i {} -pm 1", number));
  } else {
    list.unknown(persistence_name, "the driver says " + persistence);
  }
  if (mig == "Disabled" || mig == "[N/A]" || mig == "N/A") {
    list.ok(mig_name, "off");
  } else if (mig == "Enabled") {
    list.warn(mig_name, "on", "a slice of the device is measured, beside neighbours",
              fmt::format("sudo nvidia-smi -i {} -mig 0", number));
  } else {
    list.unknown(mig_name, "the driver says " + mig);
  }
  list.ok("clock " + number, fmt::format("SM {} of {} MHz now", device[5], device[6]));
  list.unknown("clocks locked " + number, "the driver does not tell; results record how far the clock drifted",
               fmt::format("sudo nvidia-smi -i {0} -lgc {1},{1}; afterwards -rgc", number, device[6]));
}

void examine_counters(const DoctorFacts& facts, CheckList& list) {
  const MachineFacts& machine = facts.machine;
  if (machine.counters_for_all.value_or(false) || machine.administrator.value_or(false)) {
    const bool all = machine.counters_for_all.value_or(false);
    list.ok("counters", all ? "open to all users" : "for administrators, as this process is one");
  } else if (!machine.counters_for_all) {
    list.unknown("counters", "/proc/driver/nvidia/params does not say whether ncu may read them");
  } else {
    list.warn("counters", "for administrators only", "ncu cannot read them (ERR_NVGPUCTRPERM)",
              "options nvidia NVreg_RestrictProfilingToAdminUsers=0 in /etc/modprobe.d/nvidia.conf, then a restart; or "
              "sudo ncu");
  }
}

void examine_gpu(const DoctorFacts& facts, CheckList list) {
  std::vector<std::vector<std::string>> devices;
  std::string_view rest = facts.nvidia_smi ? std::string_view(*facts.nvidia_smi) : std::string_view();
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (std::vector<std::string> fields = fields_of(line); fields.size() == 7) devices.push_back(std::move(fields));
  }
  const std::string driver = devices.empty() ? facts.machine.nvidia_driver.value_or("") : devices.front()[2];
  if (has_gpu(facts)) {
    if (driver.empty()) {
      list.unknown("driver", "nvidia-smi printed something else than was asked");
    } else {
      list.ok("driver", driver);
    }
    if (!facts.nvidia_smi) list.unknown("devices", "nvidia-smi did not run", "PATH with the folder of nvidia-smi");
    for (const std::vector<std::string>& device : devices) examine_device(device, list);
    examine_counters(facts, list);
  } else {
    list.ok("driver", "none seen", "the cpu backend needs none");
  }
  for (const DoctorBackend& backend : facts.backends) {
    if (!backend.devices || backend.absent) continue;
    if (backend.throttled.empty()) {
      list.ok("throttled", "not seen", "while nothing was measured; results record it for each run");
    } else {
      list.warn("throttled", joined(backend.throttled, ", "), "the device runs below its clocks",
                "cooling or a higher limit (nvidia-smi -pl), and waiting");
    }
  }
}

void examine_program(const DoctorFacts& facts, CheckList list) {
  for (const DoctorBackend& backend : facts.backends) {
    const std::string name = "backend " + backend.name;
    if (!backend.absent) {
      list.ok(name, backend.description);
    } else if (!backend.devices) {
      list.problem(name, "absent", *backend.absent, "a build for this processor: -DMISA_CPU_ARCH=x86-64");
    } else if (has_gpu(facts)) {
      list.warn(name, "absent", *backend.absent, "a build with the CUDA toolkit (cmake -DMISA_CUDA=ON), on Hopper");
    } else {
      list.ok(name, "absent", *backend.absent);
    }
  }
  if (facts.profiles.empty()) {
    list.problem("profiles", "none", "models, workloads and traces are not found",
                 "MISA_PROF_PROFILES=DIR, the profiles folder of the source");
  } else {
    list.ok("profiles", joined(facts.profiles, ", "));
  }
  if (facts.python_version.empty()) {
    list.warn("python", facts.python + " does not run", "plug-ins that are Python files cannot be loaded",
              "MISA_PYTHON=PROGRAM");
  } else {
    list.ok("python", facts.python_version + ", " + facts.python);
  }
}

}  // namespace

std::vector<DoctorCheck> examine(const DoctorFacts& facts) {
  std::vector<DoctorCheck> checks;
  examine_build(facts, {checks, "build"});
  examine_processor(facts, {checks, "processor"});
  examine_load(facts, {checks, "load"});
  examine_memory(facts, {checks, "memory"});
  examine_threads(facts, {checks, "threads"});
  examine_gpu(facts, {checks, "gpu"});
  examine_program(facts, {checks, "program"});
  CheckList variables(checks, "variables");
  for (const auto& [name, value] : facts.variables) variables.ok(name, value ? "\"" + *value + "\"" : "not set");
  return checks;
}

}  // namespace misa
