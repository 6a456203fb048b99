#pragma once

#include <optional>
#include <string>

namespace misa {

/// A shared library that need not be there. It stays loaded to the end of the process.
class Library {
 public:
  /// Loads a library by a path, or by a name that the loader finds; empty if it cannot, and `why` says why.
  static std::optional<Library> open(const char* name, std::string* why = nullptr);

  /// Points `function` to the symbol; false where the library has none of that name.
  template <class Function>
  bool find(const char* symbol, Function*& function) const {
    function = reinterpret_cast<Function*>(address(symbol));
    return function != nullptr;
  }

 private:
  explicit Library(void* handle) : handle_(handle) {}
  void* address(const char* symbol) const;

  void* handle_;
};

}  // namespace misa
