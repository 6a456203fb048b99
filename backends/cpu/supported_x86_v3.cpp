#include "backends/cpu/cpu.hpp"

namespace misa {

std::optional<std::string> cpu_why_not() {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    return std::nullopt;
  }
  return "this build needs AVX2 and FMA, which this processor lacks; configure with -DMISA_CPU_ARCH=x86-64";
}

}  // namespace misa
