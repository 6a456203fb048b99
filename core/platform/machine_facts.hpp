#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/platform/cgroup.hpp"

namespace misa {

/// What decides how well a machine measures, beside SystemInfo. What the system does not tell is empty.
struct MachineFacts {
  std::optional<i64> cpus;              ///< of the machine that are online
  std::vector<std::string> governors;   ///< of all cores' clocks, each once
  std::optional<bool> smt;              ///< two threads share a core
  std::optional<bool> turbo;            ///< clocks above the nominal one are allowed
  std::optional<i64> memory_available;  ///< bytes that the machine can give without swapping
  ContainerLimits container;
  bool has_amx = false;                      ///< processor and kernel know tiles
  std::optional<bool> amx_permitted;         ///< the kernel lets this process use them
  std::optional<std::string> nvidia_driver;  ///< version of the kernel's module
  std::optional<bool> counters_for_all;      ///< GPU performance counters are not for administrators only
  std::optional<bool> administrator;         ///< this process has CAP_SYS_ADMIN
};

/// `root`: the folder that stands for /, for tests; AMX is asked for only without one.
MachineFacts machine_facts(const std::string& root = "");

/// A process and the share of one core that it used.
struct BusyProcess {
  i64 id = 0;
  std::string name;
  double share = 0;
};

/// Other processes that use more than `least` of a core, the busiest first. Takes `seconds`.
std::vector<BusyProcess> busy_processes(double seconds, double least = 0.1);

/// "0-3,8,10-11" of /sys/devices/system/cpu/online -> 7.
std::optional<i64> parse_cpu_list(std::string_view list);

/// "123 (name) S 1 ..." of /proc/PID/stat -> its name, and user and system ticks.
struct TaskTicks {
  std::string name;
  i64 ticks = 0;
};
std::optional<TaskTicks> parse_task_ticks(std::string_view stat);

}  // namespace misa
