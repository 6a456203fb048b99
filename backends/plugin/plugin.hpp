#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backends/plugin/misa_kernel.h"
#include "core/indexer/backend.hpp"

namespace misa::plugin {

/// Told the name of the function of a plug-in before it runs, and "" after: so another process can be told what a crash
/// interrupted. Does not throw. May be empty.
using StepNote = std::function<void(std::string_view)>;

/// A shared library with misa_kernels(), from a file, or what give_kernels() was given by that name. It stays loaded to
/// the end of the process.
class KernelLibrary {
 public:
  /// Error(unavailable) MP-E410: the file is no library that can be loaded here. MP-E411: it has no misa_kernels().
  KernelLibrary(const std::string& path, StepNote note);

  /// Its kernels for a device of a type; nothing: it has none. Functions beyond the table's size are null.
  /// Error(unavailable) MP-E412: the table is of another version, or contradicts the header.
  std::optional<misa_kernel_table> table(int32_t device_type, int device) const;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  StepNote note_;
  misa_kernels_function kernels_ = nullptr;
};

/// `table` as this header knows it. Error(unavailable) MP-E412, with `path` as the place.
misa_kernel_table checked_table(const misa_kernel_table& table, int32_t device_type, const std::string& path);

/// What does the steps that `table` has by its kernels, on the memory and stream of `base`, and everything else by
/// `base`. A function that fails is Error(runtime) MP-E413.
std::unique_ptr<Backend> make_plugin(std::unique_ptr<Backend> base, const misa_kernel_table& table,
                                     const std::string& path, StepNote note = {});

}  // namespace misa::plugin
