#pragma once

#include <omp.h>

#include <chrono>

#include "backends/backends.hpp"

namespace misa::bench {

inline double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline int threads() { return omp_get_max_threads(); }

}  // namespace misa::bench
