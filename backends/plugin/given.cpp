#include "backends/plugin/given.hpp"

#include <map>
#include <utility>

namespace misa {
namespace {

std::map<std::string, misa_kernels_function, std::less<>>& all_given() {
  static std::map<std::string, misa_kernels_function, std::less<>> all;
  return all;
}

}  // namespace

void give_kernels(std::string name, misa_kernels_function kernels) { all_given()[std::move(name)] = kernels; }

misa_kernels_function given_kernels(std::string_view name) {
  const auto found = all_given().find(name);
  return found == all_given().end() ? nullptr : found->second;
}

}  // namespace misa
