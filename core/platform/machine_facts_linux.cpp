#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <thread>

#include "core/base/steady_seconds.hpp"
#include "core/platform/machine_facts.hpp"
#include "core/platform/proc_linux.hpp"
#include "core/platform/system.hpp"

namespace misa {
namespace {

/// Asks Linux for the registers of tiles, which each process must: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA). The
/// numbers are those of x86-64, the only architecture whose processors have the flag amx_tile.
bool request_amx() {
  constexpr long kArchPrctl = 158, kRequest = 0x1023, kTileData = 18;
  return syscall(kArchPrctl, kRequest, kTileData) == 0;
}

std::optional<bool> switch_of(const std::string& file) {
  const std::optional<i64> value = parse_number<i64>(read_all(file));
  return value ? std::optional(*value != 0) : std::nullopt;
}

std::vector<std::string> governors(const std::string& cpus) {
  std::vector<std::string> found;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(cpus, failure)) {
    const std::string text = read_all((entry.path() / "cpufreq/scaling_governor").string());
    const std::string governor(trimmed(text));
    if (!governor.empty() && std::find(found.begin(), found.end(), governor) == found.end()) found.push_back(governor);
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// CAP_SYS_ADMIN is bit 21 of the hexadecimal mask.
std::optional<bool> has_sys_admin(std::string_view status) {
  const std::string_view mask = key_value(status, "CapEff");
  u64 bits = 0;
  const auto [end, error] = std::from_chars(mask.data(), mask.data() + mask.size(), bits, 16);
  if (mask.empty() || error != std::errc() || end != mask.data() + mask.size()) return std::nullopt;
  return (bits >> 21 & 1) != 0;
}

/// "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build" -> "580.159.04".
std::optional<std::string> driver_version(std::string_view text) {
  while (!text.empty()) {
    const std::string_view word = next_word(text);
    const bool digits =
        std::all_of(word.begin(), word.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
    if (digits && word.find('.') != std::string_view::npos) return std::string(word);
  }
  return std::nullopt;
}

/// The ticks of every process, by its id.
std::map<i64, TaskTicks> all_ticks() {
  std::map<i64, TaskTicks> found;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    const std::optional<i64> id = parse_number<i64>(entry.path().filename().string());
    if (!id || *id == getpid()) continue;
    if (auto ticks = parse_task_ticks(read_all((entry.path() / "stat").string()))) found[*id] = *std::move(ticks);
  }
  return found;
}

}  // namespace

std::optional<i64> parse_cpu_list(std::string_view list) {
  std::string_view text = trimmed(list);
  i64 count = 0;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const std::size_t dash = part.find('-');
    const std::optional<i64> first = parse_number<i64>(part.substr(0, dash));
    const std::optional<i64> last = dash == std::string_view::npos ? first : parse_number<i64>(part.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first) return std::nullopt;
    count += *last - *first + 1;
  }
  return count > 0 ? std::optional(count) : std::nullopt;
}

std::optional<TaskTicks> parse_task_ticks(std::string_view stat) {
  const std::size_t open = stat.find('('), close = stat.rfind(')');  // names may hold both
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  TaskTicks found{.name = std::string(stat.substr(open + 1, close - open - 1))};
  std::string_view rest = stat.substr(close + 1);
  for (int field = 3; field < 14; ++field) next_word(rest);  // utime is the 14th, stime the 15th
  const std::optional<i64> user = parse_number<i64>(next_word(rest)), system = parse_number<i64>(next_word(rest));
  if (!user || !system) return std::nullopt;
  found.ticks = *user + *system;
  return found;
}

MachineFacts machine_facts(const std::string& root) {
  const std::string cpu = root + "/sys/devices/system/cpu";
  MachineFacts facts;
  facts.cpus = parse_cpu_list(read_all(cpu + "/online"));
  facts.governors = governors(cpu);
  facts.smt = switch_of(cpu + "/smt/active");
  if (const std::optional<bool> off = switch_of(cpu + "/intel_pstate/no_turbo")) {
    facts.turbo = !*off;
  } else {
    facts.turbo = switch_of(cpu + "/cpufreq/boost");
  }
  const std::string meminfo = read_all(root + "/proc/meminfo");
  std::string_view available = key_value(meminfo, "MemAvailable");
  if (const std::optional<i64> kib = parse_number<i64>(next_word(available))) facts.memory_available = *kib << 10;
  facts.container = container_limits(root);
  const std::string isa = ' ' + parse_isa(read_all(root + "/proc/cpuinfo")) + ' ';
  facts.has_amx = isa.find(" amx_tile ") != std::string::npos;
  if (facts.has_amx && root.empty()) facts.amx_permitted = request_amx();
  facts.nvidia_driver = driver_version(read_all(root + "/proc/driver/nvidia/version"));
  const std::string params = read_all(root + "/proc/driver/nvidia/params");
  if (const std::optional<i64> only = parse_number<i64>(key_value(params, "RmProfilingAdminOnly"))) {
    facts.counters_for_all = *only == 0;
  }
  facts.administrator = has_sys_admin(read_all(root + "/proc/self/status"));
  return facts;
}

std::vector<BusyProcess> busy_processes(double seconds, double least) {
  const double start = steady_seconds();
  const std::map<i64, TaskTicks> before = all_ticks();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const std::map<i64, TaskTicks> after = all_ticks();
  const double ticks = (steady_seconds() - start) * static_cast<double>(std::max<i64>(1, sysconf(_SC_CLK_TCK)));
  std::vector<BusyProcess> found;
  for (const auto& [id, task] : after) {
    const auto then = before.find(id);
    if (then == before.end()) continue;
    const double share = static_cast<double>(task.ticks - then->second.ticks) / ticks;
    if (share > least) found.push_back({.id = id, .name = task.name, .share = share});
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.share > b.share; });
  return found;
}

}  // namespace misa
