#include <dlfcn.h>

#include "core/platform/library.hpp"

namespace misa {

std::optional<Library> Library::open(const char* name, std::string* why) {
  void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    if (why != nullptr && reason != nullptr) *why = reason;
    return std::nullopt;
  }
  return Library(handle);
}

void* Library::address(const char* symbol) const { return dlsym(handle_, symbol); }

}  // namespace misa
