#include "backends/cuda/cuda.hpp"
#include "core/base/error.hpp"

namespace misa {

std::optional<std::string> cuda_why_not(int /*device*/) { return "built without the CUDA toolkit (MISA_CUDA)"; }

std::vector<KernelInfo> cuda_kernels() { return {}; }

std::unique_ptr<Backend> make_cuda(int /*device*/, ForcedKernels /*forced*/) {
  throw Error(ErrorKind::internal, "MP-E702", "the cuda backend was made although it is absent");
}

std::unique_ptr<Backend> make_guest_cuda(int device) { return make_cuda(device, {}); }

}  // namespace misa
