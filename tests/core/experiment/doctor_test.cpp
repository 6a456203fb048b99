#include "core/experiment/doctor.hpp"

#include <doctest/doctest.h>

#include <algorithm>

namespace misa {
namespace {

/// A machine on which nothing is wrong.
DoctorFacts healthy() {
  DoctorFacts facts;
  facts.system.cpu = "a processor";
  facts.system.isa = "avx2";
  facts.system.cores = facts.system.allowed_cpus = 4;
  facts.machine.cpus = 8;
  facts.machine.governors = {"performance"};
  facts.machine.smt = facts.machine.turbo = false;
  facts.machine.memory_available = i64{64} << 30;
  facts.machine.container.known = true;
  facts.load_average = 0.1;
  facts.build.compiler = "GNU 12";
  facts.build.type = "Release";
  facts.backends = {{.name = "cpu", .description = "OpenMP"},
                    {.name = "cuda", .absent = "built without the CUDA toolkit", .devices = true}};
  facts.profiles = {"profiles"};
  facts.python = "python3";
  facts.python_version = "Python 3.11";
  facts.variables = {{"OMP_NUM_THREADS", std::nullopt}, {"OMP_WAIT_POLICY", std::nullopt}};
  return facts;
}

DoctorCheck check_of(const DoctorFacts& facts, const std::string& name) {
  const std::vector<DoctorCheck> checks = examine(facts);
  const auto found =
      std::find_if(checks.begin(), checks.end(), [&](const DoctorCheck& check) { return check.name == name; });
  REQUIRE_MESSAGE(found != checks.end(), name);
  return *found;
}

/// What a change to a healthy machine makes of one check. A warning or a problem says why, and what to do.
template <class Change>
Health health_after(const std::string& name, const Change& change) {
  DoctorFacts facts = healthy();
  change(facts);
  const DoctorCheck check = check_of(facts, name);
  if (check.health == Health::warning || check.health == Health::problem) {
    CHECK_MESSAGE(!check.why.empty(), name);
    CHECK_MESSAGE(!check.fix.empty(), name);
  }
  return check.health;
}

}  // namespace

TEST_CASE("a machine on which nothing is wrong has no warning") {
  for (const DoctorCheck& check : examine(healthy())) {
    CAPTURE(check.name);
    CHECK(check.health == Health::ok);
    CHECK(check.fix.empty());
  }
}

TEST_CASE("a fact that the system does not tell is not known, and never ok") {
  DoctorFacts nothing;
  for (const char* name :
       {"instruction sets", "cores", "quota", "governor", "turbo", "SMT", "load average", "available", "limit"}) {
    CAPTURE(name);
    const DoctorCheck check = check_of(nothing, name);
    CHECK(check.health == Health::unknown);
    CHECK(check.found == "not known");
    CHECK_FALSE(check.why.empty());
  }
}

TEST_CASE("each thing that spoils measurements is a warning with what mends it") {
  using Facts = DoctorFacts;
  CHECK(health_after("type", [](Facts& f) { f.build.type = "Debug"; }) == Health::warning);
  CHECK(health_after("flags", [](Facts& f) { f.build.flags = "-O1 -fsanitize=address"; }) == Health::warning);
  CHECK(health_after("governor", [](Facts& f) { f.machine.governors = {"powersave"}; }) == Health::warning);
  CHECK(health_after("governor", [](Facts& f) {
          f.machine.governors = {"performance", "powersave"};
        }) == Health::warning);
  CHECK(health_after("quota", [](Facts& f) { f.machine.container.cores = 1.5; }) == Health::warning);
  CHECK(health_after("quota", [](Facts& f) { f.machine.container.cores = 4; }) == Health::ok);
  CHECK(health_after("AMX", [](Facts& f) { f.machine.has_amx = true; }) == Health::unknown);
  CHECK(health_after("AMX", [](Facts& f) { f.machine.has_amx = f.machine.amx_permitted.emplace(true); }) == Health::ok);
  CHECK(health_after("AMX", [](Facts& f) {
          f.machine.has_amx = true;
          f.machine.amx_permitted = false;
        }) == Health::warning);
  CHECK(health_after("load average", [](Facts& f) { f.load_average = 3; }) == Health::warning);
  CHECK(health_after("other processes", [](Facts& f) { f.busy = {{7, "make", 1.9}}; }) == Health::warning);
  CHECK(health_after("other processes", [](Facts& f) { f.busy = {{7, "make", 0.2}}; }) == Health::ok);
  CHECK(health_after("available", [](Facts& f) { f.machine.memory_available = 1 << 30; }) == Health::warning);
  CHECK(health_after("available", [](Facts& f) {
          f.machine.container.memory_bytes = i64{4} << 30;
          f.machine.container.memory_in_use = i64{3} << 30;
        }) == Health::warning);
  CHECK(health_after("OMP_NUM_THREADS", [](Facts& f) { f.variables[0].second = "6"; }) == Health::warning);
  CHECK(health_after("OMP_NUM_THREADS", [](Facts& f) { f.variables[0].second = "4,2"; }) == Health::ok);
  CHECK(health_after("OMP_NUM_THREADS", [](Facts& f) { f.variables[0].second = "17"; }) == Health::problem);
  CHECK(health_after("OMP_NUM_THREADS", [](Facts& f) { f.variables[0].second = "many"; }) == Health::problem);
  CHECK(health_after("OMP_WAIT_POLICY", [](Facts& f) { f.variables[1].second = "passive"; }) == Health::warning);
  CHECK(health_after("profiles", [](Facts& f) { f.profiles.clear(); }) == Health::problem);
  CHECK(health_after("python", [](Facts& f) { f.python_version.clear(); }) == Health::warning);
  CHECK(health_after("backend cpu", [](Facts& f) { f.backends[0].absent = "no AVX2"; }) == Health::problem);
}

TEST_CASE("the number of threads says what it follows from") {
  DoctorFacts facts = healthy();
  CHECK(check_of(facts, "threads").found == "4");
  CHECK(check_of(facts, "threads").why == "as many as the cores that may be used");
  facts.system.cores = 2;
  facts.system.cpu_quota = 1.5;
  CHECK(check_of(facts, "threads").found == "2");
  CHECK(check_of(facts, "threads").why.find("quota of 1.50 cores, rounded up: fewer than the 4") != std::string::npos);
  facts.variables[0].second = "3,1";
  CHECK(check_of(facts, "threads").found == "3");
  CHECK(check_of(facts, "threads").why == "OMP_NUM_THREADS");
  facts.variables[0].second = "9";
  CHECK(check_of(facts, "threads").health == Health::unknown);
}

TEST_CASE("devices are judged by what NVIDIA's tool prints, and counters by the driver's parameters") {
  using Facts = DoctorFacts;
  const std::string good = "0, NVIDIA H200, 580.159.04, Enabled, Disabled, 345, 1980\n";
  const auto prints = [](const std::string& text) { return [text](Facts& f) { f.nvidia_smi = text; }; };
  CHECK(health_after("driver", prints(good)) == Health::ok);
  CHECK(health_after("persistence 0", prints(good)) == Health::ok);
  CHECK(health_after("MIG 0", prints(good)) == Health::ok);
  CHECK(health_after("clocks locked 0", prints(good)) == Health::unknown);
  CHECK(health_after("backend cuda", prints(good)) == Health::warning);
  CHECK(health_after("counters", prints(good)) == Health::unknown);
  const std::string bad = good + "1, NVIDIA H200, 580.159.04, Disabled, Enabled, 345, 1980\n";
  CHECK(health_after("persistence 1", prints(bad)) == Health::warning);
  CHECK(health_after("MIG 1", prints(bad)) == Health::warning);
  CHECK(health_after("driver", prints("No devices were found\n")) == Health::unknown);
  const auto counters = [](std::optional<bool> all, bool administrator) {
    return [=](Facts& f) {
      f.machine.nvidia_driver = "580";
      f.machine.counters_for_all = all;
      f.machine.administrator = administrator;
    };
  };
  CHECK(health_after("counters", counters(true, false)) == Health::ok);
  CHECK(health_after("counters", counters(false, true)) == Health::ok);
  CHECK(health_after("counters", counters(false, false)) == Health::warning);
  CHECK(health_after("devices", counters(true, false)) == Health::unknown);
  CHECK(health_after("throttled", [](Facts& f) { f.backends[1] = {.name = "cuda", .devices = true}; }) == Health::ok);
  CHECK(health_after("throttled", [](Facts& f) {
          f.backends[1] = {.name = "cuda", .devices = true, .throttled = {"power cap"}};
        }) == Health::warning);
}

}  // namespace misa
