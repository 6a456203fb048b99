#include "backends/backends.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "backends/cpu/cpu.hpp"
#include "backends/cuda/cuda.hpp"
#include "backends/oracle/oracle.hpp"
#include "backends/plugin/given.hpp"
#include "backends/plugin/plugin.hpp"
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

std::unique_ptr<Backend> make_loaded(const std::string& path, int threads, int device, const ForcedKernels& kernels,
                                     const plugin::StepNote& note) {
  if (path.empty()) {
    throw Error(ErrorKind::usage, "MP-E064", "--backend plugin: names no file", {}, "plugin:./libmine.so");
  }
  if (is_python_plugin(std::string(kPluginPrefix) + path)) {
    throw Error(ErrorKind::unavailable, "MP-E443", "a plug-in that is a Python file runs in a process of Python alone",
                path, "--backend of compare or profile, which start one");
  }
  const plugin::KernelLibrary library(path, note);
  const std::optional<std::string> no_cuda = cuda_why_not(device);
  if (!no_cuda) {
    if (const auto table = library.table(MISA_CUDA, device)) {
      return plugin::make_plugin(make_backend("cuda", threads, device, kernels), *table, path, note);
    }
  }
  if (const auto table = library.table(MISA_CPU, 0)) {
    return plugin::make_plugin(make_backend("cpu", threads, 0, kernels), *table, path, note);
  }
  throw Error(ErrorKind::unavailable, "MP-E411",
              "the plug-in has no kernels of version " + std::to_string(MISA_KERNEL_VERSION) + " for the CPU" +
                  (no_cuda ? ", and backend cuda is absent: " + *no_cuda
                           : ", and none for device " + std::to_string(device) + " of cuda"),
              path, "its function misa_kernels, which returned no table");
}

}  // namespace

std::span<const BackendInfo> backends() { return kBackends; }

bool is_python_plugin(std::string_view name) {
  return is_plugin(name) && name.ends_with(".py") && given_kernels(name.substr(kPluginPrefix.size())) == nullptr;
}

std::unique_ptr<Backend> make_backend(std::string_view name, int threads, int device, const ForcedKernels& kernels,
                                      std::function<void(std::string_view)> note) {
  if (is_plugin(name)) {
    return make_loaded(std::string(name.substr(kPluginPrefix.size())), threads, device, kernels, note);
  }
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
