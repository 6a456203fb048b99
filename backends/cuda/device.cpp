#include <cuda_runtime_api.h>

#include "backends/cuda/cuda.hpp"
#include "core/base/error.hpp"

namespace misa {

// The toolkit and the devices are probed; kernels are not part of this version, so the answer is always a reason.
std::optional<std::string> cuda_why_not() {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    return std::string("no usable device: ") + (status == cudaSuccess ? "none found" : cudaGetErrorString(status));
  }
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, 0); status != cudaSuccess) {
    return std::string("device 0 does not answer: ") + cudaGetErrorString(status);
  }
  return "device 0 is " + std::string(properties.name) + " (compute capability " + std::to_string(properties.major) +
         "." + std::to_string(properties.minor) + "), and this version has no CUDA kernels";
}

std::unique_ptr<Backend> make_cuda(int /*threads*/) {
  throw Error(ErrorKind::internal, "MP-E702", "the cuda backend was made although it is absent");
}

}  // namespace misa
