#include "backends/cuda/route/route.hpp"

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {

void route(const RouteTask& task, int processors, cudaStream_t stream) {
  if (rows_of(task.queries) == 0) return;
  if (task.linear || (samples_keys(task.router) && task.given.empty())) {
    return route_by_sampled_keys(task, processors, stream);
  }
  if (routes_in_tiles(task)) return route_in_tiles(task, processors, stream);
  route_plainly(task, stream);
}

}  // namespace misa::cuda
