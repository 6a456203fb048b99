#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <exception>

#include "backends/cpu/gemm.hpp"

namespace misa::cpu {

// dnnl_sgemm is the same call in oneDNN v2 and v3, and here as fast as the matmul primitive (docs/decisions/).
void gemm_tile(i64 rows, i64 depth, const float* a, const float* b, float* c) {
  // oneDNN would open a team of its own in a region of one thread.
  const int threads = omp_get_max_threads();
  if (threads != 1) omp_set_num_threads(1);
  const dnnl_status_t status =
      dnnl_sgemm('N', 'T', rows, kTileColumns, depth, 1.0f, a, depth, b, depth, 0.0f, c, kTileColumns);
  if (threads != 1) omp_set_num_threads(threads);
  // Only malformed sizes fail, and ours are constants. A wrong product must not go unseen.
  if (status != dnnl_success) std::terminate();
}

std::string gemm_description() {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

}  // namespace misa::cpu
