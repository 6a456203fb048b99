// The table of cases: every kernel of every present backend does each case that it accepts as the oracle does, and
// forcing one means that one.
//
//   MISA_CASES=REGEX    only the cases whose names it is found in
//   MISA_SUPPORT=1      prints which kernels accept each case, in the order in which they are chosen

#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>
#include <regex>

#include "core/base/error.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/primitive_cases.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// A backend that is forced to use one kernel, and what came of it.
struct OneKernel {
  std::string backend;
  KernelInfo kernel;
  std::unique_ptr<Backend> forced;
  i64 cases = 0, compared = 0, unbounded = 0;

  std::string name() const {
    return backend + " " + std::string(primitive_name(kernel.primitive)) + "=" + std::string(kernel.name);
  }
};

std::vector<OneKernel> kernels_of_present_backends() {
  std::vector<OneKernel> all;
  for (const BackendInfo& info : backends()) {
    if (info.name == "oracle" || info.why_absent(0)) continue;
    for (const auto& [primitive, name, what] : info.kernels()) {
      const ForcedKernels forced{{primitive, std::string(name)}};
      all.push_back({std::string(info.name), {primitive, name, what}, make_backend(info.name, 2, 0, forced)});
    }
  }
  return all;
}

/// The case on the backend, its task run; null where the kernel does not accept it.
std::unique_ptr<PlacedTask> run_case(const PrimitiveCase& one, const OneKernel& by) {
  try {
    std::unique_ptr<PlacedTask> task = one.place(*by.forced);
    const std::string_view ran = task->run(0);
    CHECK(ran == by.kernel.name);
    return task;
  } catch (const Error& error) {
    if (error.id() != "MP-E406") throw;
    return nullptr;
  }
}

}  // namespace

TEST_CASE("every kernel does each case that it accepts as the oracle does, within its bounds, and accepts one") {
  const char* only = std::getenv("MISA_CASES");
  const std::regex pattern(only != nullptr ? only : "");
  const bool support = std::getenv("MISA_SUPPORT") != nullptr;
  const auto oracle = make_backend("oracle", 2);
  std::vector<OneKernel> kernels = kernels_of_present_backends();
  REQUIRE_FALSE(kernels.empty());
  for (const PrimitiveCase& one : primitive_cases()) {
    if (!one.tested || !std::regex_search(one.name, pattern)) continue;
    CAPTURE(one.name);
    std::unique_ptr<PlacedTask> exact;
    Outputs expected;
    if (support) std::cout << one.name << ':';
    for (OneKernel& by : kernels) {
      if (by.kernel.primitive != one.primitive) continue;
      const std::unique_ptr<PlacedTask> task = run_case(one, by);
      if (!task) continue;
      ++by.cases;
      if (support) std::cout << "  " << by.name();
      if (!exact) {
        exact = one.place(*oracle);
        exact->run(0);
        expected = exact->outputs();
      }
      const Judged judged = exact->judge(task->outputs(), expected);
      by.compared += judged.compared;
      by.unbounded += judged.unbounded;
      if (judged.wrong.empty()) continue;
      FAIL_CHECK(by.name() << ", " << one.name << ": " << judged.wrong << "\nMISA_CASES='^" << one.name
                           << "$' test_conformance -tc='every kernel*' runs it again");
    }
    if (support) std::cout << (exact ? "\n" : "  no kernel\n");
  }
  const bool has_unit = make_backend("cpu", 1)->description().find("bf16 in ") != std::string::npos;
  if (!has_unit) std::cout << "skipped: kernels whose names end in -bf16, since this processor multiplies no bf16\n";
  for (const OneKernel& by : kernels) {
    CAPTURE(by.name());
    if (only == nullptr && (has_unit || !by.kernel.name.ends_with("-bf16"))) CHECK(by.cases > 0);
    CHECK(2 * by.unbounded <= by.compared);
  }
}

TEST_CASE("a forced kernel is the only one that runs, and one that does not accept the task ends the run") {
  const Workload workload = draw_workload({});
  const IndexerSpec spec{.name = "test", .top_k = 8, .heads = {}, .blocks = {}, .rerank = {}};
  for (const BackendInfo& info : backends()) {
    if (info.why_absent(0)) continue;
    CAPTURE(std::string(info.name));
    const std::vector<i32> expected = choose(info.name, workload, spec).tokens;
    i64 ran = 0;
    for (const KernelInfo& kernel : info.kernels()) {
      if (kernel.primitive != Primitive::score) continue;
      const std::string name(kernel.name);
      CAPTURE(name);
      const auto backend = make_backend(info.name, 2, 0, {{Primitive::score, name}});
      try {
        const std::vector<i32> chosen = choose(*backend, workload, spec).tokens;
        CHECK(chosen == expected);
        ++ran;
      } catch (const Error& error) {
        CHECK(error.id() == "MP-E406");
      }
    }
    CHECK(ran >= 1);
    CHECK_THROWS_WITH_AS(make_backend(info.name, 2, 0, {{Primitive::score, "nothing"}}),
                         doctest::Contains("has no kernel of score called 'nothing'"), Error);
  }
}
