#include "backends/backends.hpp"

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
     [](const BackendOptions& options) { return make_cpu(options.threads); }},
    {"oracle", "the formulas in double precision; the reference, slow", false, false, kWorkspaceBytes, always,
     [](const BackendOptions& options) { return make_oracle(options.threads); }},
    {"cuda", "Hopper kernels (sm_90a)", true, false, kCudaWorkspaceBytes, cuda_why_not,
     [](const BackendOptions& options) { return make_cuda(options.device); }},
}};

}  // namespace

std::span<const BackendInfo> backends() { return kBackends; }

std::unique_ptr<Backend> make_backend(std::string_view name, int threads, int device) {
  std::vector<std::string_view> names;
  for (const BackendInfo& backend : kBackends) {
    names.push_back(backend.name);
    if (backend.name != name) continue;
    if (const auto reason = backend.why_absent(device)) {
      throw Error(ErrorKind::unavailable, "MP-E403", "backend " + std::string(name) + " is absent: " + *reason, {},
                  "misa-prof list, which says what is here");
    }
    return backend.make({threads, device});
  }
  const std::string near = nearest(name, names);
  throw Error(ErrorKind::usage, "MP-E012", "there is no backend called '" + std::string(name) + "'", {},
              near.empty() ? "misa-prof list" : near);
}

}  // namespace misa
