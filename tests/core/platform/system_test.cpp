#include "core/platform/system.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "core/platform/threads.hpp"

namespace misa {

TEST_CASE("this machine has a processor, cores and memory") {
  const SystemInfo info = system_info();
  CHECK_FALSE(info.cpu.empty());
  CHECK(info.cores >= 1);
  CHECK(info.cores <= static_cast<i64>(std::thread::hardware_concurrency()));
  CHECK(info.memory_bytes > 1 << 20);
  CHECK(info.os.find(' ') != std::string::npos);
}

TEST_CASE("timestamps are ISO 8601 in UTC") {
  CHECK(utc_timestamp(0) == "1970-01-01T00:00:00Z");
  CHECK(utc_timestamp(951827696) == "2000-02-29T12:34:56Z");
  CHECK(utc_timestamp(4102444799) == "2099-12-31T23:59:59Z");
  CHECK(utc_timestamp().size() == 20);
}

TEST_CASE("the model of a processor is found where each architecture writes it") {
  CHECK(parse_cpu_model("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654\nstepping\t: 1\n") ==
        "AMD EPYC 9654");
  CHECK(parse_cpu_model("processor\t: 0\nBogoMIPS\t: 50.0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n") ==
        "CPU implementer 0x41 part 0xd4f");
  CHECK(parse_cpu_model("Hardware\t: BCM2711\nModel\t\t: Raspberry Pi 4\n") == "Raspberry Pi 4");
  CHECK(parse_cpu_model("").empty());
  CHECK(parse_cpu_model("model name").empty());
  CHECK(parse_cpu_model("model name :   \n").empty());
}

TEST_CASE("the cores of a process are those it may run on, and no more than the quota, rounded up") {
  CHECK(usable_cores(8, std::nullopt) == 8);
  CHECK(usable_cores(8, 1.5) == 2);
  CHECK(usable_cores(8, 2) == 2);
  CHECK(usable_cores(8, 2.01) == 3);
  CHECK(usable_cores(8, 64) == 8);
  CHECK(usable_cores(8, 0.01) == 1);
  CHECK(usable_cores(0, std::nullopt) == 1);
}

TEST_CASE("cores are limited by a quota only where it gives fewer than the scheduler") {
  SystemInfo info;
  info.cores = info.allowed_cpus = 8;
  CHECK_FALSE(is_limited_by_quota(info));
  info.cpu_quota = 8;
  CHECK_FALSE(is_limited_by_quota(info));
  info.cores = 2;
  info.cpu_quota = 1.5;
  CHECK(is_limited_by_quota(info));
}

TEST_CASE("a container's quota is read as cores") {
  CHECK(parse_cpu_quota("200000 100000\n") == 2);
  CHECK(parse_cpu_quota("150000 100000\n") == 1.5);
  CHECK(parse_cpu_quota("1000 100000") == 0.01);
  CHECK(parse_cpu_quota("50000\n 100000\n") == 0.5);
  for (const char* none : {"max 100000\n", "", "100000", "0 100000", "-1 100000", "100000 0", "1e5 100000"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_cpu_quota(none).has_value());
  }
}

}  // namespace misa
