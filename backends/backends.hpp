#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/indexer/backend.hpp"

namespace misa {

struct BackendOptions {
  int threads = 1;
  int device = 0;
  ForcedKernels kernels = {};
};

struct BackendInfo {
  std::string_view name, what;
  bool devices = false;     ///< it runs on one of several
  bool fuses = false;       ///< it has a kernel that does two stages (Backend::fuses)
  i64 workspace_bytes = 0;  ///< Backend::workspace_bytes, known where it is absent too
  std::optional<std::string> (*why_absent)(int device);
  std::vector<KernelInfo> (*kernels)();  ///< primitive by primitive; empty where the binary has none of them
  std::unique_ptr<Backend> (*make)(const BackendOptions& options);
};

/// Every backend the project knows, present or not.
std::span<const BackendInfo> backends();

/// What begins the name of a backend that is a library of kernels: plugin:FILE.
constexpr std::string_view kPluginPrefix = "plugin:";
inline bool is_plugin(std::string_view name) { return name.substr(0, kPluginPrefix.size()) == kPluginPrefix; }
/// A plug-in that is a Python file, which only a process of Python can load: where its kernels were handed over by
/// whoever loaded the program, it is a plug-in like any other.
bool is_python_plugin(std::string_view name);

/// Throws Error(usage) for an unknown name, Error(unavailable) with the reason for an absent one. `device` is only for
/// backends that have devices. Kernels that are forced must be the backend's own: else Error(usage) with its names.
///
/// plugin:FILE loads kernels through misa_kernel.h, beside cuda where FILE has kernels for it and cuda is here, else
/// beside cpu, whose kernels `kernels` then forces. `note` is told the name of each function of FILE before it runs,
/// and "" after.
std::unique_ptr<Backend> make_backend(std::string_view name, int threads, int device = 0,
                                      const ForcedKernels& kernels = {},
                                      std::function<void(std::string_view)> note = {});

}  // namespace misa
