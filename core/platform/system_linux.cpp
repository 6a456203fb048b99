#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "core/platform/system.hpp"

namespace misa {
namespace {

/// Empty when there is no such file. Files of /proc and /sys have no size to go by.
std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::optional<i64> parse_integer(std::string_view text) {
  text = trimmed(text);
  i64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// This process's directories of one cgroup controller (v2: ""), from the innermost to the root. In a container the
/// path of /proc/self/cgroup may not exist under the mount; the root then stands for it.
std::vector<std::string> cgroup_directories(std::string_view controller) {
  const std::string table = read_all("/proc/self/cgroup");
  std::string path;
  std::string_view rest = table;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string names = ',' + std::string(line.substr(first + 1, second - first - 1)) + ',';
    const bool wanted =
        controller.empty() ? names == ",," : names.find(',' + std::string(controller) + ',') != names.npos;
    if (wanted) path = line.substr(second + 1);
  }
  const std::string mount = controller.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + std::string(controller);
  std::vector<std::string> directories;
  while (path.size() > 1) {
    directories.push_back(mount + path);
    path.erase(path.find_last_of('/'));
  }
  directories.push_back(mount);
  return directories;
}

std::optional<i64> smallest(std::optional<i64> a, std::optional<i64> b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

std::optional<i64> quota_cores() {
  std::optional<i64> cores;
  for (const std::string& directory : cgroup_directories("")) {
    cores = smallest(cores, parse_cpu_quota(read_all(directory + "/cpu.max")));
  }
  for (const std::string& directory : cgroup_directories("cpu")) {
    const std::string quota = read_all(directory + "/cpu.cfs_quota_us");
    const std::string period = read_all(directory + "/cpu.cfs_period_us");
    if (!quota.empty() && quota.front() != '-') cores = smallest(cores, parse_cpu_quota(quota + ' ' + period));
  }
  return cores;
}

std::optional<i64> memory_limit() {
  std::optional<i64> limit;
  for (const std::string& directory : cgroup_directories("")) {
    limit = smallest(limit, parse_integer(read_all(directory + "/memory.max")));
  }
  for (const std::string& directory : cgroup_directories("memory")) {
    limit = smallest(limit, parse_integer(read_all(directory + "/memory.limit_in_bytes")));
  }
  return limit;
}

i64 affinity_cores() {
  // The set must hold as many CPUs as the kernel knows, or the call fails: grow until it does.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, size, set) == 0;
    const i64 count = known ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (known) return count;
  }
  return std::thread::hardware_concurrency();
}

/// The value of the first line "key : value" of /proc/cpuinfo.
std::string_view field(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos && trimmed(line.substr(0, colon)) == key)
      return trimmed(line.substr(colon + 1));
  }
  return {};
}

}  // namespace

std::string parse_cpu_model(std::string_view cpuinfo) {
  for (std::string_view key : {"model name", "Model", "Hardware", "cpu model", "uarch"}) {
    const std::string_view model = field(cpuinfo, key);
    if (!model.empty()) return std::string(model);
  }
  const std::string_view implementer = field(cpuinfo, "CPU implementer"), part = field(cpuinfo, "CPU part");
  if (implementer.empty() || part.empty()) return {};
  return "CPU implementer " + std::string(implementer) + " part " + std::string(part);
}

std::optional<i64> parse_cpu_quota(std::string_view cpu_max) {
  const std::string_view text = trimmed(cpu_max);
  const std::size_t space = text.find_first_of(" \t\n");
  if (space == std::string_view::npos) return std::nullopt;
  const std::optional<i64> quota = parse_integer(text.substr(0, space)), period = parse_integer(text.substr(space));
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return ceil_div(*quota, *period);
}

SystemInfo system_info() {
  SystemInfo info;
  utsname names{};
  uname(&names);
  info.os = std::string(names.sysname) + ' ' + names.release + ' ' + names.machine;
  info.cpu = parse_cpu_model(read_all("/proc/cpuinfo"));
  if (info.cpu.empty()) info.cpu = names.machine;

  const std::optional<i64> cores = smallest(affinity_cores(), quota_cores());
  info.cores = std::max<i64>(1, cores.value_or(1));

  struct sysinfo memory {};
  if (sysinfo(&memory) == 0) {
    const i64 total = static_cast<i64>(memory.totalram) * memory.mem_unit;
    info.memory_bytes = smallest(total, memory_limit()).value_or(total);
  }
  return info;
}

i64 peak_resident_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<i64>(usage.ru_maxrss) * 1024;  // KiB on Linux
}

}  // namespace misa
