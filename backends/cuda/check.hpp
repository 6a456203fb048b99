#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "core/base/error.hpp"

namespace misa::cuda {

/// Throws Error(runtime) MP-E510 for anything but success.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(ErrorKind::runtime, "MP-E510", std::string(what) + ": " + cudaGetErrorString(status), "cuda device",
              "misa-prof list; nvidia-smi");
}

}  // namespace misa::cuda
