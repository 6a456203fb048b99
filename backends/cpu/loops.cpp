#include "backends/cpu/loops.hpp"

#include <vector>

namespace misa::cpu {

#ifdef MISA_LEVELS_X86
extern const Loops kLoopsV3, kLoopsV4;

namespace {

/// The best first.
std::vector<const Loops*> runnable() {
  std::vector<const Loops*> levels;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    levels.push_back(&kLoopsV4);
  }
  levels.push_back(&kLoopsV3);
  return levels;
}

}  // namespace
#else
extern const Loops kLoopsAny;

namespace {

std::vector<const Loops*> runnable() { return {&kLoopsAny}; }

}  // namespace
#endif

std::span<const Loops* const> all_loops() {
  static const std::vector<const Loops*> levels = runnable();
  return levels;
}

const Loops& loops() {
  static const Loops& best = *all_loops().front();
  return best;
}

}  // namespace misa::cpu
