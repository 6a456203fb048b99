#include <map>
#include <mutex>
#include <utility>

#include "backends/cpu/cpu.hpp"
#include "backends/cuda/cuda.hpp"
#include "backends/exported/table.hpp"
#include "core/platform/threads.hpp"

// libmisa_kernels.so: our cpu and cuda backends behind misa_kernel.h.

namespace misa::exported {
namespace {

/// Null where there is none.
std::unique_ptr<Backend> make(i32 device_type, i32 device) {
  if (device_type == MISA_CPU && device == 0 && !cpu_why_not()) return make_cpu(default_threads());
  if (device_type == MISA_CUDA && device >= 0 && !cuda_why_not(device)) return make_guest_cuda(device);
  return nullptr;
}

const misa_kernel_table* table_of(i32 device_type, i32 device) {
  // Never destroyed: at exit, the driver may be gone before us.
  static auto& mutex = *new std::mutex;
  static auto& tables = *new std::map<std::pair<i32, i32>, std::unique_ptr<Table>>;
  const std::lock_guard turn(mutex);
  std::unique_ptr<Table>& table = tables[{device_type, device}];
  if (!table) {
    std::unique_ptr<Backend> backend = make(device_type, device);
    if (backend) table = std::make_unique<Table>(std::move(backend), device_type);
  }
  return table ? &table->functions() : nullptr;
}

}  // namespace
}  // namespace misa::exported

extern "C" __attribute__((visibility("default"))) const misa_kernel_table* misa_kernels(int32_t version,
                                                                                        int32_t device_type,
                                                                                        int32_t device) {
  try {
    return version == MISA_KERNEL_VERSION ? misa::exported::table_of(device_type, device) : nullptr;
  } catch (const std::exception&) {
    return nullptr;
  }
}
