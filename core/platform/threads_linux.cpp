#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cmath>

#include "core/platform/cgroup.hpp"
#include "core/platform/threads.hpp"

namespace misa {
namespace {

/// CPUs in the affinity of the calling thread; 0: the system does not say.
i64 affinity_cpus() {
  // The set must hold as many CPUs as the kernel knows, or the call fails: grow until it does.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, size, set) == 0;
    const i64 count = known ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (known) return count;
  }
  return 0;
}

}  // namespace

// OpenMP counts the places of its whole team where it has bound this thread to one of them.
i64 allowed_cpus() { return std::max<i64>(affinity_cpus(), omp_get_num_procs()); }

i64 usable_cores(i64 allowed, std::optional<double> quota) {
  const i64 cores = quota ? std::min(allowed, static_cast<i64>(std::ceil(*quota))) : allowed;
  return std::max<i64>(1, cores);
}

int default_threads() {
  return static_cast<int>(std::min<i64>(omp_get_max_threads(), usable_cores(allowed_cpus(), container_limits().cores)));
}

}  // namespace misa
