#include "core/selection/selection.hpp"

#include <cstring>

namespace misa {
namespace {

bool same_bits(const HostTensor& a, const HostTensor& b) {
  return a.shape == b.shape && a.dtype == b.dtype &&
         (a.bytes() == 0 || std::memcmp(a.storage.data(), b.storage.data(), static_cast<std::size_t>(a.bytes())) == 0);
}

}  // namespace

std::optional<Choice> first_difference(const Selection& a, const Selection& b) {
  for (const Choice choice : kChoices) {
    if (!same_bits(a[choice], b[choice])) return choice;
  }
  return std::nullopt;
}

double score_at(const HostTensor& scores, i64 at) {
  const std::size_t i = static_cast<std::size_t>(at);
  return scores.dtype == Dtype::f64 ? scores.span<const double>()[i] : scores.span<const float>()[i];
}

}  // namespace misa
