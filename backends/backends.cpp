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

constexpr std::array<BackendInfo, 3> kBackends{{
    {"cpu", "OpenMP and oneDNN", cpu_why_not, make_cpu},
    {"oracle", "the formulas in double precision; the reference, slow", [] { return std::optional<std::string>(); },
     make_oracle},
    {"cuda", "Hopper kernels (sm_90a)", cuda_why_not, make_cuda},
}};

}  // namespace

std::span<const BackendInfo> backends() { return kBackends; }

std::unique_ptr<Backend> make_backend(std::string_view name, int threads) {
  std::vector<std::string_view> names;
  for (const BackendInfo& backend : kBackends) {
    names.push_back(backend.name);
    if (backend.name != name) continue;
    if (const auto reason = backend.why_absent()) {
      throw Error(ErrorKind::unavailable, "MP-E403", "backend " + std::string(name) + " is absent: " + *reason, {},
                  "--backend cpu, or misa-prof list");
    }
    return backend.make(threads);
  }
  const std::string near = nearest(name, names);
  throw Error(ErrorKind::usage, "MP-E012", "there is no backend called '" + std::string(name) + "'", {},
              near.empty() ? "misa-prof list" : near);
}

}  // namespace misa
