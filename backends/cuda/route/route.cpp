#include "backends/cuda/route/route.hpp"

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {

void route(const RouteTask& task, int num_sms, cudaStream_t stream) {
  if (rows_of(task.queries) == 0) return;
  if (task.linear || (samples_keys(task.router) && task.given.empty())) {
    return route_by_sampled_keys(task, num_sms, stream);
  }
  if (routes_in_tiles(task)) return route_in_tiles(task, num_sms, stream);
  route_plainly(task, stream);
}

}  // namespace misa::cuda
