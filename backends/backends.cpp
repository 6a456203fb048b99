#include "backends/backends.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "backends/cpu/cpu.hpp"
#include "backends/cuda/cuda.hpp"
#include "backends/oracle/oracle.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

namespace misa {
namespace {

std::optional<std::string> always(int /*device*/) { return std::nullopt; }

constexpr std::array<BackendInfo, 3> kBackends{{
    {"cpu", "OpenMP and oneDNN", false, false, kWorkspaceBytes, [](int /*device*/) { return cpu_why_not(); },
     cpu_kernels, [](const BackendOptions& options) { return make_cpu(options.threads, options.kernels); }},
    {"oracle", "the formulas in double precision; the reference, slow", false, false, kWorkspaceBytes, always,
     oracle_kernels, [](const BackendOptions& options) { return make_oracle(options.threads, options.kernels); }},
    {"cuda", "Hopper kernels (sm_90a)", true, false, kCudaWorkspaceBytes, cuda_why_not, cuda_kernels,
     [](const BackendOptions& options) { return make_cuda(options.device, options.kernels); }},
}};

/// Refuses kernels that the backend does not have.
void check_kernels(const BackendInfo& backend, const ForcedKernels& forced) {
  const std::vector<KernelInfo> kernels = backend.kernels();
  for (const ForcedKernel& one : forced) {
    std::vector<std::string_view> names;
    for (const KernelInfo& kernel : kernels) {
      if (kernel.primitive == one.primitive) names.push_back(kernel.name);
    }
    if (std::find(names.begin(), names.end(), one.name) != names.end()) continue;
    throw Error(ErrorKind::usage, "MP-E058",
                "backend " + std::string(backend.name) + " has no kernel of " +
                    std::string(primitive_name(one.primitive)) + " called '" + one.name + "'",
                {}, suggestion(one.name, names, "misa-prof list --kernels"));
  }
}

}  // namespace

std::span<const BackendInfo> backends() { return kBackends; }

std::unique_ptr<Backend> make_backend(std::string_view name, int threads, int device, const ForcedKernels& kernels) {
  for (const BackendInfo& backend : kBackends) {
    if (backend.name != name) continue;
    if (const auto reason = backend.why_absent(device)) {
      throw Error(ErrorKind::unavailable, "MP-E403", "backend " + std::string(name) + " is absent: " + *reason, {},
                  "misa-prof list, which says what is here");
    }
    check_kernels(backend, kernels);
    return backend.make({threads, device, kernels});
  }
  throw Error(ErrorKind::usage, "MP-E012", "there is no backend called '" + std::string(name) + "'", {},
              suggestion(name, names_of(kBackends), "misa-prof list"));
}

}  // namespace misa
