#include "core/platform/library.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "backends/plugin/given.hpp"
#include "backends/plugin/note.hpp"
#include "backends/plugin/plugin.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/indexer/arithmetic.hpp"

namespace misa::plugin {
namespace {

constexpr const char* kHeader = "misa_kernel.h, which is installed with the program";

bool is_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("-_.", c) != nullptr;
  });
}

}  // namespace

KernelLibrary::KernelLibrary(const std::string& path, StepNote note) : path_(path), note_(std::move(note)) {
  kernels_ = given_kernels(path);
  if (kernels_ != nullptr) return;
  const Noted noted(note_, "loading");
  std::string why;
  // A name without a slash is looked for elsewhere by the loader.
  const auto library = Library::open(std::filesystem::absolute(path).c_str(), &why);
  if (!library) {
    throw Error(ErrorKind::unavailable, "MP-E410", "the plug-in cannot be loaded: " + why, path,
                "a shared library for this machine: cc -shared -fPIC; ldd names what it lacks");
  }
  if (!library->find("misa_kernels", kernels_)) {
    throw Error(ErrorKind::unavailable, "MP-E411", "the plug-in exports no function misa_kernels", path, kHeader);
  }
}

std::optional<misa_kernel_table> KernelLibrary::table(int32_t device_type, int device) const {
  const misa_kernel_table* table = nullptr;
  {
    const Noted noted(note_, "misa_kernels");
    table = kernels_(MISA_KERNEL_VERSION, device_type, device);
  }
  if (table == nullptr) return std::nullopt;
  return checked_table(*table, device_type, path_);
}

misa_kernel_table checked_table(const misa_kernel_table& table, int32_t device_type, const std::string& path) {
  const auto refuse = [&](const std::string& what, const std::string& how = kHeader) {
    throw Error(ErrorKind::unavailable, "MP-E412", "the plug-in's table " + what, path, how);
  };
  constexpr std::size_t kLeast = offsetof(misa_kernel_table, accepts);
  if (table.size < kLeast) {
    refuse("has " + std::to_string(table.size) + " bytes, and what names it needs " + std::to_string(kLeast),
           "its field size: sizeof(misa_kernel_table)");
  }
  misa_kernel_table known{};
  std::memcpy(&known, &table, std::min(table.size, sizeof known));
  if (known.version != MISA_KERNEL_VERSION) {
    refuse("is of version " + std::to_string(known.version) + ", and this program takes " +
           std::to_string(MISA_KERNEL_VERSION));
  }
  if (known.device_type != device_type) {
    refuse("is for device type " + std::to_string(known.device_type) + ", and " + std::to_string(device_type) +
           " was asked for");
  }
  if (known.name == nullptr) refuse("has no name");
  if (!is_name(known.name)) refuse("has the name '" + std::string(known.name) + "'", "letters, digits, '-', '_', '.'");
  if ((known.flags & ~static_cast<uint32_t>(MISA_ANY_ORDER)) != 0) {
    refuse("has flags that this program does not know: " + std::to_string(known.flags));
  }
  if (known.arithmetic != nullptr && !find_arithmetic(known.arithmetic)) {
    refuse("names the arithmetic '" + std::string(known.arithmetic) + "'",
           suggestion(known.arithmetic, names_of(arithmetics()), "misa-prof list --arithmetic"));
  }
  const int planned = (known.plan != nullptr ? 1 : 0) + (known.run != nullptr ? 1 : 0) + (known.release != nullptr);
  if (planned != 0 && planned != 3) refuse("has some of plan, run and release", "all three, or none");
  if (known.score == nullptr && known.select == nullptr && known.score_select == nullptr && known.route == nullptr &&
      planned == 0) {
    refuse("has no function that does a step", "one of score, select, score_select, route, or plan, run and release");
  }
  return known;
}

}  // namespace misa::plugin
