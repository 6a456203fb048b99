#pragma once

#include <optional>

#include "core/base/types.hpp"

namespace misa {

/// Logical CPUs that the scheduler may give this process: its affinity, also where OMP_PROC_BIND or OMP_PLACES has
/// bound the calling thread to fewer.
i64 allowed_cpus();

/// Cores that a process can keep busy: those that it may run on, and no more than the quota of its container, rounded
/// up. At least 1.
i64 usable_cores(i64 allowed, std::optional<double> quota);

/// Threads of work for which nobody has given a number: the cores of this process, or fewer where OMP_NUM_THREADS or
/// the program that this code is part of says so (omp_set_num_threads; torch.set_num_threads, where both use one
/// libgomp).
int default_threads();

}  // namespace misa
