#include "core/platform/machine_facts.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "core/platform/system.hpp"
#include "tests/support/temporary.hpp"

namespace misa {
namespace {

/// A folder that stands for /, which is gone with the test.
class FakeRoot {
 public:
  ~FakeRoot() { std::filesystem::remove_all(folder_.path); }

  FakeRoot& file(const std::string& path, const std::string& text) {
    const std::filesystem::path whole = folder_.path + path;
    std::filesystem::create_directories(whole.parent_path());
    std::ofstream(whole, std::ios::binary) << text;
    return *this;
  }
  const std::string& path() const { return folder_.path; }

 private:
  testing::TemporaryPath folder_;
};

}  // namespace

TEST_CASE("the least quota of nested control groups counts, and memory is that of the group that limits it") {
  FakeRoot root;
  root.file("/proc/self/cgroup", "0::/slice/job\n")
      .file("/sys/fs/cgroup/slice/cpu.max", "150000 100000\n")
      .file("/sys/fs/cgroup/slice/job/cpu.max", "max 100000\n")
      .file("/sys/fs/cgroup/slice/memory.max", "4294967296\n")
      .file("/sys/fs/cgroup/slice/memory.current", "2147483648\n")
      .file("/sys/fs/cgroup/slice/memory.stat", "anon 5\ninactive_file 1073741824\nactive_file 9\n")
      .file("/sys/fs/cgroup/slice/job/memory.max", "max\n")
      .file("/sys/fs/cgroup/slice/job/memory.current", "7\n");
  const ContainerLimits limits = container_limits(root.path());
  CHECK(limits.known);
  CHECK(limits.cores == 1.5);
  CHECK(limits.memory_bytes == i64{4} << 30);
  CHECK(limits.memory_in_use == i64{1} << 30);
  root.file("/sys/fs/cgroup/slice/job/cpu.max", "50000 100000\n");
  CHECK(container_limits(root.path()).cores == 0.5);
}

TEST_CASE("control groups of version 1 have their quota and memory in controllers") {
  FakeRoot root;
  root.file("/proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n")
      .file("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "250000\n")
      .file("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
      .file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
      .file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
      .file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2147483648\n")
      .file("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "4096\n")
      .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const ContainerLimits limits = container_limits(root.path());
  CHECK(limits.cores == 2.5);
  CHECK(limits.memory_bytes == i64{2} << 30);
  CHECK(limits.memory_in_use == 4096);
}

TEST_CASE("a system that says nothing leaves every fact empty") {
  const FakeRoot root;
  const MachineFacts facts = machine_facts(root.path());
  CHECK_FALSE(facts.cpus.has_value());
  CHECK(facts.governors.empty());
  CHECK_FALSE(facts.smt.has_value());
  CHECK_FALSE(facts.turbo.has_value());
  CHECK_FALSE(facts.memory_available.has_value());
  CHECK_FALSE(facts.container.known);
  CHECK_FALSE(facts.container.cores.has_value());
  CHECK_FALSE(facts.has_amx);
  CHECK_FALSE(facts.nvidia_driver.has_value());
  CHECK_FALSE(facts.counters_for_all.has_value());
  CHECK_FALSE(facts.administrator.has_value());
}

TEST_CASE("governors, turbo, memory, AMX, driver and permission of counters are read from their files") {
  FakeRoot root;
  const std::string cpu = "/sys/devices/system/cpu";
  root.file(cpu + "/online", "0-3,8\n")
      .file(cpu + "/cpu0/cpufreq/scaling_governor", "powersave\n")
      .file(cpu + "/cpu1/cpufreq/scaling_governor", "performance\n")
      .file(cpu + "/cpu2/cpufreq/scaling_governor", "powersave\n")
      .file(cpu + "/smt/active", "1\n")
      .file(cpu + "/intel_pstate/no_turbo", "1\n")
      .file("/proc/meminfo", "MemTotal:  16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n")
      .file("/proc/cpuinfo", "processor : 0\nflags\t\t: fpu avx2 amx_tile amx_bf16\n")
      .file("/proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC version: 15.3.0\n")
      .file("/proc/driver/nvidia/params", "EnableMSI: 1\nRmProfilingAdminOnly: 1\n")
      .file("/proc/self/status", "Name:\tx\nCapEff:\t0000000000200000\n");
  const MachineFacts facts = machine_facts(root.path());
  CHECK(facts.cpus == 5);
  CHECK(facts.governors == std::vector<std::string>{"performance", "powersave"});
  CHECK(facts.smt == true);
  CHECK(facts.turbo == false);
  CHECK(facts.memory_available == 8192 << 10);
  CHECK(facts.has_amx);
  CHECK_FALSE(facts.amx_permitted.has_value());  // this is not the machine that runs the test
  CHECK(facts.nvidia_driver == "580.159.04");
  CHECK(facts.counters_for_all == false);
  CHECK(facts.administrator == true);
  root.file("/proc/driver/nvidia/params", "RmProfilingAdminOnly: 0\n").file("/proc/self/status", "CapEff:\t0\n");
  CHECK(machine_facts(root.path()).counters_for_all == true);
  CHECK(machine_facts(root.path()).administrator == false);
}

TEST_CASE("lists of CPUs, instruction sets and the ticks of a process are parsed") {
  CHECK(parse_cpu_list("0\n") == 1);
  CHECK(parse_cpu_list("0-3,8,10-11\n") == 7);
  for (const char* none : {"", "\n", "a", "3-1", "0-", "-1", "0,,1"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_cpu_list(none).has_value());
  }
  CHECK(parse_isa("flags : avx512_fp16 avx2 fma fmax\n") == "fma avx2 avx512_fp16");
  CHECK(parse_isa("Features : fp asimd sve\n") == "asimd sve");
  CHECK(parse_isa("").empty());
  const auto task = parse_task_ticks("123 (a) (b) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20\n");
  REQUIRE(task.has_value());
  CHECK(task->name == "a) (b");
  CHECK(task->ticks == 42);
  CHECK_FALSE(parse_task_ticks("123 (a) S 1 2").has_value());
}

}  // namespace misa
