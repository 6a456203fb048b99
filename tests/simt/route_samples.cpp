// backends/cuda/route/route_samples.cu for the host.

#include "tests/simt/simt.hpp"

extern "C" const char* cudaGetErrorString(cudaError_t) { return ""; }

#include "backends/cuda/route/route_samples.cu"
