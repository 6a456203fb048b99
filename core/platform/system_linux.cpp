#include <dlfcn.h>
#include <link.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>
#include <filesystem>

#include "core/platform/cgroup.hpp"
#include "core/platform/proc_linux.hpp"
#include "core/platform/system.hpp"
#include "core/platform/threads.hpp"

namespace misa {
namespace {

/// Bytes of the last level of cache that the first CPU sees; 0: unknown.
i64 last_level_cache_bytes() {
  i64 level = 0, bytes = 0;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/cpu/cpu0/cache", failure)) {
    const std::optional<i64> size = parse_cache_size(read_all((entry.path() / "size").string()));
    const std::optional<i64> here = parse_number<i64>(read_all((entry.path() / "level").string()));
    if (!size || !here || *here < level) continue;
    bytes = *here > level ? *size : std::max(bytes, *size);
    level = *here;
  }
  return bytes;
}

}  // namespace

std::string parse_cpu_model(std::string_view cpuinfo) {
  for (std::string_view key : {"model name", "Model", "Hardware", "cpu model", "uarch"}) {
    const std::string_view model = key_value(cpuinfo, key);
    if (!model.empty()) return std::string(model);
  }
  const std::string_view implementer = key_value(cpuinfo, "CPU implementer"), part = key_value(cpuinfo, "CPU part");
  if (implementer.empty() || part.empty()) return {};
  return "CPU implementer " + std::string(implementer) + " part " + std::string(part);
}

std::string parse_isa(std::string_view cpuinfo) {
  constexpr std::string_view kSets[] = {"sse4_2",   "avx",         "f16c",        "fma",         "avx2",
                                        "bmi2",     "avx_vnni",    "avx512f",     "avx512bw",    "avx512vl",
                                        "avx512dq", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
                                        "amx_int8", "amx_bf16",    "amx_fp16",    "asimd",       "asimdhp",
                                        "asimddp",  "bf16",        "i8mm",        "sve",         "sve2"};
  std::string_view flags = key_value(cpuinfo, "flags");
  if (flags.empty()) flags = key_value(cpuinfo, "Features");
  const std::string words = ' ' + std::string(flags) + ' ';
  std::string found;
  for (const std::string_view set : kSets) {
    if (words.find(' ' + std::string(set) + ' ') == words.npos) continue;
    found += (found.empty() ? "" : " ") + std::string(set);
  }
  return found;
}

std::optional<double> parse_cpu_quota(std::string_view cpu_max) {
  const std::string_view text = trimmed(cpu_max);
  const std::size_t space = text.find_first_of(" \t\n");
  if (space == std::string_view::npos) return std::nullopt;
  const std::optional<i64> quota = parse_number<i64>(text.substr(0, space)),
                           period = parse_number<i64>(text.substr(space));
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<i64> parse_cache_size(std::string_view size) {
  std::string_view text = trimmed(size);
  if (text.empty()) return std::nullopt;
  const int shift = text.back() == 'K' ? 10 : text.back() == 'M' ? 20 : text.back() == 'G' ? 30 : 0;
  if (shift > 0) text.remove_suffix(1);
  const std::optional<i64> count = parse_number<i64>(text);
  if (!count || *count <= 0 || *count > (i64{1} << 32)) return std::nullopt;
  return *count << shift;
}

std::string executable_path() {
  std::error_code failure;
  return std::filesystem::read_symlink("/proc/self/exe", failure).string();
}

std::string own_path() {
  Dl_info info;
  link_map* file = nullptr;
  const bool found =
      dladdr1(reinterpret_cast<const void*>(&own_path), &info, reinterpret_cast<void**>(&file), RTLD_DL_LINKMAP) != 0;
  const bool is_program = !found || file == nullptr || *file->l_name == '\0';
  std::error_code failure;
  return is_program ? executable_path() : std::filesystem::canonical(file->l_name, failure).string();
}

bool is_limited_by_quota(const SystemInfo& system) { return system.cpu_quota && system.cores < system.allowed_cpus; }

SystemInfo system_info() {
  SystemInfo info;
  utsname names{};
  uname(&names);
  info.os = std::string(names.sysname) + ' ' + names.release + ' ' + names.machine;
  const std::string cpuinfo = read_all("/proc/cpuinfo");
  info.cpu = parse_cpu_model(cpuinfo);
  info.isa = parse_isa(cpuinfo);
  if (info.cpu.empty()) info.cpu = names.machine;

  const ContainerLimits limits = container_limits();
  info.allowed_cpus = allowed_cpus();
  info.cpu_quota = limits.cores;
  info.cores = usable_cores(info.allowed_cpus, limits.cores);

  info.cache_bytes = last_level_cache_bytes();
  info.governor = trimmed(read_all("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));

  struct sysinfo memory {};
  if (sysinfo(&memory) == 0) {
    const i64 total = static_cast<i64>(memory.totalram) * memory.mem_unit;
    info.memory_bytes = std::min(total, limits.memory_bytes.value_or(total));
  }
  return info;
}

}  // namespace misa
