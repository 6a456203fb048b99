#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/base/types.hpp"

namespace misa {

/// The machine as this process may use it.
struct SystemInfo {
  std::string cpu;       ///< model, as the system calls it
  i64 cores = 1;         ///< logical cores available to this process: affinity, and the container's quota rounded up
  i64 memory_bytes = 0;  ///< the machine's, or the container's limit where that is lower; 0: unknown
  i64 cache_bytes = 0;   ///< of the last level of cache that a core sees; 0: unknown
  std::string governor;  ///< of the first core's clock, "performance"; empty: the system does not say
  std::string os;        ///< kernel name, release and architecture: "Linux 6.1.0 x86_64"
  std::string isa = {};  ///< instruction sets that kernels may use, "avx2 avx512f amx_tile"; empty: unknown
  i64 allowed_cpus = 0;  ///< that the scheduler may give this process; 0: unknown
  std::optional<double> cpu_quota = {};  ///< cores that a container's quota amounts to; empty: there is none
};

SystemInfo system_info();

/// Whether `cores` are fewer than the scheduler would give because of the container's quota.
bool is_limited_by_quota(const SystemInfo& system);

/// Asked for by the user only: results travel.
std::string host_name();

/// The path of the running program; empty when the system does not say.
std::string executable_path();
/// The path of the file that this code was loaded from: the running program, or a library that another one loaded.
std::string own_path();

/// Now, as ISO 8601 to the second: "2026-01-31T23:59:59Z".
std::string utc_timestamp();
/// The same for `seconds` since 1970.
std::string utc_timestamp(i64 seconds);

/// The text of /proc/cpuinfo -> the model; empty when it does not say. x86 and aarch64 spell it differently.
std::string parse_cpu_model(std::string_view cpuinfo);

/// "32768K", "16M" of /sys/devices/system/cpu/cpu0/cache -> bytes.
std::optional<i64> parse_cache_size(std::string_view size);

/// The text of /proc/cpuinfo -> the instruction sets that matter to kernels, in a fixed order.
std::string parse_isa(std::string_view cpuinfo);

/// cgroup v2's cpu.max ("150000 100000", "max 100000") -> cores, 1.5; nothing without a limit.
std::optional<double> parse_cpu_quota(std::string_view cpu_max);

}  // namespace misa
