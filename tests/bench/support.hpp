#pragma once

#include <omp.h>

#include <chrono>
#include <memory>

#include "backends/backends.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/synthetic.hpp"

namespace misa::bench {

inline double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline int threads() { return omp_get_max_threads(); }

/// A prefill chunk: the last `rows` positions of a context of `keys` tokens.
inline Workload prefill(i64 rows, i64 keys, i64 heads, ValueFormat format) {
  SyntheticRequest request;
  request.heads = heads;
  request.format = format;
  request.contexts = {keys};
  request.rows = rows;
  return generate(request);
}

}  // namespace misa::bench
