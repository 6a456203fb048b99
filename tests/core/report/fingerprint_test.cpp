#include "core/report/fingerprint.hpp"

#include <doctest/doctest.h>

#include <set>

#include "tests/core/report/sample_report.hpp"

namespace misa {

TEST_CASE("a fingerprint changes with all that makes times comparable, and with nothing else") {
  const ReportEnvironment base = sample_report().environment;
  std::set<std::string> seen{fingerprint(base)};
  CHECK(seen.begin()->size() == 16);
  CHECK(seen.begin()->find_first_not_of("0123456789abcdef") == std::string::npos);
  const auto changes = [&](const char* what, const auto& change) {
    ReportEnvironment other = base;
    change(other);
    CHECK_MESSAGE(seen.insert(fingerprint(other)).second, what);
  };
  using E = ReportEnvironment;
  changes("cpu", [](E& e) { e.machine.cpu += "x"; });
  changes("isa", [](E& e) { e.machine.isa = "avx2"; });
  changes("cores", [](E& e) { e.machine.cores = 3; });
  changes("quota", [](E& e) { e.machine.cpu_quota = 1.5; });
  changes("governor", [](E& e) { e.machine.governor = "powersave"; });
  changes("compiler", [](E& e) { e.build.compiler = "GNU 13"; });
  changes("type", [](E& e) { e.build.type = "Debug"; });
  changes("flags", [](E& e) { e.build.flags = ""; });
  changes("kernel flags", [](E& e) { e.build.kernel_flags = ""; });
  changes("libraries", [](E& e) { e.build.libraries.clear(); });
  changes("version", [](E& e) { e.build.libraries.front().version = "3"; });
  changes("backends", [](E& e) { e.backends.clear(); });
  changes("driver", [](E& e) { e.backends.front().description += ", driver for CUDA 13.0"; });
  changes("where one text ends", [](E& e) {
    e.machine.isa = e.machine.cpu.back();
    e.machine.cpu.pop_back();
  });

  ReportEnvironment same = base;
  same.build.commit = "other";
  same.build.changed = false;
  same.threads = 1;
  same.load_average = 9;
  same.timestamp_utc = "2027-01-01T00:00:00Z";
  same.host = "name";
  same.machine.memory_bytes = 1;
  same.machine.os = "other";
  same.backends.front().roofs.reset();
  CHECK(fingerprint(same) == fingerprint(base));
}

}  // namespace misa
