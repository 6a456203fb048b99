// backends/cuda/route_samples.cu for the host.

#include "tests/simt/simt.hpp"

extern "C" const char* cudaGetErrorString(cudaError_t) { return ""; }

namespace misa::cuda {
namespace {

alignas(16) float memory[(228 << 10) / sizeof(float)];  // that of a block: `extern __shared__` there
[[maybe_unused]] const bool named = (simt::machine().shared = std::as_writable_bytes(std::span(memory)), true);

}  // namespace
}  // namespace misa::cuda

#include "backends/cuda/route_samples.cu"
