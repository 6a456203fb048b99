#include "backends/cuda/route.hpp"

#include <string>

#include "backends/cuda/kernels.hpp"
#include "core/base/error.hpp"

namespace misa::cuda {

void route(const RouteTask& task, int processors, cudaStream_t stream) {
  if (rows_of(task.queries) == 0) return;
  if (samples_keys(task.router)) {
    throw Error(ErrorKind::unavailable, "MP-E401",
                "backend cuda has no router " + std::string(router_name(task.router)) + " yet", {}, "--backend cpu");
  }
  if (routes_in_tiles(task)) return route_in_tiles(task, processors, stream);
  route_plainly(task, stream);
}

}  // namespace misa::cuda
