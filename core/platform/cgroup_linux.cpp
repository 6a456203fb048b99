#include <algorithm>
#include <string_view>
#include <vector>

#include "core/platform/cgroup.hpp"
#include "core/platform/proc_linux.hpp"
#include "core/platform/system.hpp"

namespace misa {
namespace {

/// This process's directories of one cgroup controller (v2: ""), from the innermost to the root. In a container the
/// path of /proc/self/cgroup may not exist under the mount; the root then stands for it.
std::vector<std::string> cgroup_directories(const std::string& root, std::string_view controller) {
  const std::string table = read_all(root + "/proc/self/cgroup");
  std::string path;
  std::string_view rest = table;
  while (!rest.empty()) {
    const std::string_view line = next_line(rest);
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string names = ',' + std::string(line.substr(first + 1, second - first - 1)) + ',';
    const bool wanted =
        controller.empty() ? names == ",," : names.find(',' + std::string(controller) + ',') != names.npos;
    if (wanted) path = line.substr(second + 1);
  }
  const std::string mount = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/") + std::string(controller);
  std::vector<std::string> directories;
  while (path.size() > 1) {
    directories.push_back(mount + path);
    path.erase(path.find_last_of('/'));
  }
  directories.push_back(mount);
  return directories;
}

/// A machine without a limit has numbers near 2^63 in version 1.
constexpr i64 kNoLimit = i64{1} << 60;

void limit_cores(ContainerLimits& limits, std::optional<double> cores) {
  if (cores && (!limits.cores || *cores < *limits.cores)) limits.cores = cores;
}

/// Bytes of cached files that the kernel drops first, by "inactive_file 4096" of memory.stat; version 1 adds "total_"
/// for a group with those below it.
i64 droppable_bytes(std::string_view stat) {
  i64 bytes = 0;
  while (!stat.empty()) {
    std::string_view line = next_line(stat);
    const std::string_view name = next_word(line);
    if (name == "inactive_file" || name == "total_inactive_file") bytes = parse_number<i64>(line).value_or(bytes);
  }
  return bytes;
}

void limit_memory(ContainerLimits& limits, const std::string& directory, const char* limit, const char* in_use) {
  const std::optional<i64> bytes = parse_number<i64>(read_all(directory + limit));
  if (!bytes || *bytes >= kNoLimit || (limits.memory_bytes && *limits.memory_bytes <= *bytes)) return;
  limits.memory_bytes = bytes;
  limits.memory_in_use = parse_number<i64>(read_all(directory + in_use));
  if (!limits.memory_in_use) return;
  const i64 droppable = droppable_bytes(read_all(directory + "/memory.stat"));
  limits.memory_in_use = std::max<i64>(0, *limits.memory_in_use - droppable);
}

}  // namespace

ContainerLimits container_limits(const std::string& root) {
  ContainerLimits limits;
  limits.known = !read_all(root + "/proc/self/cgroup").empty();
  for (const std::string& directory : cgroup_directories(root, "")) {
    limit_cores(limits, parse_cpu_quota(read_all(directory + "/cpu.max")));
    limit_memory(limits, directory, "/memory.max", "/memory.current");
  }
  for (const std::string& directory : cgroup_directories(root, "cpu")) {
    const std::string quota = read_all(directory + "/cpu.cfs_quota_us");
    const std::string period = read_all(directory + "/cpu.cfs_period_us");
    if (!quota.empty() && quota.front() != '-') limit_cores(limits, parse_cpu_quota(quota + ' ' + period));
  }
  for (const std::string& directory : cgroup_directories(root, "memory")) {
    limit_memory(limits, directory, "/memory.limit_in_bytes", "/memory.usage_in_bytes");
  }
  return limits;
}

}  // namespace misa
