#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "backends/plugin/misa_kernel.h"
#include "core/indexer/backend.hpp"

namespace misa::exported {

/// A backend behind misa_kernel.h. Calls may come from any thread and take turns; what they throw becomes a status and
/// the text of error().
class Table {
 public:
  Table(std::unique_ptr<Backend> backend, i32 device_type);
  const misa_kernel_table& functions() const { return functions_; }

 private:
  struct Functions;  ///< what the table's pointers point to

  /// Does `work` with the backend on `stream`; nothing: on its own.
  template <class Work>
  i32 attempt(std::optional<void*> stream, const Work& work) noexcept;
  bool accepts(i32 step, const void* task);
  void require_able(const IndexerSpec& spec, const Shape& shape) const;

  std::mutex mutex_;
  std::unique_ptr<Backend> backend_;
  std::string name_, description_, error_;
  misa_kernel_table functions_;
};

}  // namespace misa::exported
