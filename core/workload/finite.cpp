#include "core/workload/finite.hpp"

#include <algorithm>

#include "core/base/interrupt.hpp"

namespace misa::trace {
namespace {

/// Index of the first number whose bits without the sign are at least `least`, or -1.
template <class Bits>
i64 find_from(const std::byte* data, i64 count, Bits magnitude, Bits least) {
  constexpr i64 kBlock = 1 << 12;  // a constant, so that the loop over a whole block becomes vector code
  const Bits* bits = reinterpret_cast<const Bits*>(data);
  const auto is_bad = [=](Bits value) { return (value & magnitude) >= least; };
  for (i64 begin = 0; begin < count; begin += kBlock) {
    if (begin % (i64{1} << 24) == 0) stop_if_interrupted();
    Bits seen = count - begin < kBlock ? 1 : 0;
    if (seen == 0) {
      for (i64 i = 0; i < kBlock; ++i) seen |= static_cast<Bits>(is_bad(bits[begin + i]));
    }
    if (seen == 0) continue;
    const Bits* end = bits + std::min(begin + kBlock, count);
    const Bits* found = std::find_if(bits + begin, end, is_bad);
    if (found != end) return found - bits;
  }
  return -1;
}

}  // namespace

i64 find_not_finite(Dtype dtype, const std::byte* data, i64 count) {
  switch (dtype) {
    case Dtype::e4m3: return find_from<u8>(data, count, 0x7F, 0x7F);
    case Dtype::bf16: return find_from<u16>(data, count, 0x7FFF, 0x7F80);
    default: return find_from<u32>(data, count, 0x7FFFFFFF, 0x7F800000);
  }
}

}  // namespace misa::trace
