#include <dlfcn.h>

#include "core/platform/library.hpp"

namespace misa {

std::optional<Library> Library::open(const char* name) {
  void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return std::nullopt;
  return Library(handle);
}

void* Library::address(const char* symbol) const { return dlsym(handle_, symbol); }

}  // namespace misa
