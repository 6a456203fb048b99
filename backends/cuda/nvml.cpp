#include <cuda_runtime_api.h>

#include <array>
#include <string_view>

#include "backends/cuda/device.hpp"
#include "core/platform/library.hpp"

namespace misa::cuda {
namespace {

// The few declarations of NVML that are used: its header is not part of every toolkit. Source: NVML API reference.
using Device = struct nvmlDevice_st*;
constexpr int kSuccess = 0;
constexpr int kSmClock = 1, kMemoryClock = 2;  // nvmlClockType_t
constexpr int kGpuTemperature = 0;             // nvmlTemperatureSensors_t

struct Reason {
  unsigned long long bit;
  std::string_view name;
};
/// nvmlClocksEventReason* that slow a device down; idling and clocks that its owner has set do not.
constexpr std::array<Reason, 6> kReasons{{{0x04, "power cap"},
                                          {0x08, "hardware slowdown"},
                                          {0x10, "sync boost"},
                                          {0x20, "software thermal slowdown"},
                                          {0x40, "hardware thermal slowdown"},
                                          {0x80, "power brake"}}};

struct Nvml {
  int (*init)() = nullptr;
  int (*handle)(const char*, Device*) = nullptr;
  int (*clock)(Device, int, unsigned*) = nullptr;
  int (*power)(Device, unsigned*) = nullptr;  // milliwatts
  int (*temperature)(Device, int, unsigned*) = nullptr;
  int (*reasons)(Device, unsigned long long*) = nullptr;

  bool load() {
    const auto library = Library::open("libnvidia-ml.so.1");
    return library && library->find("nvmlInit_v2", init) && library->find("nvmlDeviceGetHandleByPciBusId_v2", handle) &&
           library->find("nvmlDeviceGetClockInfo", clock) && library->find("nvmlDeviceGetPowerUsage", power) &&
           library->find("nvmlDeviceGetTemperature", temperature) &&
           (library->find("nvmlDeviceGetCurrentClocksEventReasons", reasons) ||  // the name since driver 535
            library->find("nvmlDeviceGetCurrentClocksThrottleReasons", reasons)) &&
           init() == kSuccess;
  }
};

}  // namespace

std::optional<DeviceState> device_state(int device) {
  static Nvml nvml;
  static const bool loaded = nvml.load();
  std::array<char, 32> bus{};
  Device handle = nullptr;
  // NVML counts all devices of the machine, CUDA those that are visible: the bus id names one for both.
  if (!loaded || cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device) != cudaSuccess ||
      nvml.handle(bus.data(), &handle) != kSuccess) {
    return std::nullopt;
  }
  DeviceState state;
  unsigned value = 0;
  if (nvml.clock(handle, kSmClock, &value) == kSuccess) state.sm_clock_hz = 1e6 * value;
  if (nvml.clock(handle, kMemoryClock, &value) == kSuccess) state.memory_clock_hz = 1e6 * value;
  if (nvml.power(handle, &value) == kSuccess) state.power_watts = 1e-3 * value;
  if (nvml.temperature(handle, kGpuTemperature, &value) == kSuccess) state.temperature_celsius = value;
  unsigned long long bits = 0;
  if (nvml.reasons(handle, &bits) == kSuccess) {
    for (const Reason& reason : kReasons) {
      if ((bits & reason.bit) != 0) state.throttled.emplace_back(reason.name);
    }
  }
  return state;
}

}  // namespace misa::cuda
