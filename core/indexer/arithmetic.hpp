#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/types.hpp"

namespace misa {

/// How a backend rounds, as unit roundoffs (largest relative error of one operation; 0: exact). What follows from them
/// for a score is core/agreement/bounds.hpp; docs/agreement.md derives it.
struct Arithmetic {
  std::string_view name, what;
  double operand = 0;      ///< rounding a dequantised key, a query or a weight before it is multiplied
  double weight = 0;       ///< rounding a weight alone
  double dot = 0;          ///< one addition or multiplication of a dot product, in any order
  i64 group = 0;           ///< products that are aligned to the largest of them and cut off, 0: none are
  double cut = 0;          ///< then: what each loses, relative to the largest
  double sampled_cut = 0;  ///< ... and in products with sampled keys, by which heads are ranked
  double head_sum = 0;     ///< one operation of the sum over heads, key scale included
  double pool = 0;         ///< one operation of a block mean
  double mean = 0;         ///< rounding a stored block mean before heads are ranked by it or it is scored
  double result = 0;       ///< rounding a score, or a stored block mean
  double flush = 0;        ///< a query's or key's number that is smaller may count as 0
  double overflow = 0;     ///< largest finite intermediate
  double underflow = 0;    ///< largest absolute error of an operation whose result is subnormal
};

/// Every arithmetic whose bounds are known.
std::span<const Arithmetic> arithmetics();
std::optional<Arithmetic> find_arithmetic(std::string_view name);
/// Its name; empty: it is not known.
inline std::string arithmetic_name(const std::optional<Arithmetic>& arithmetic) {
  return arithmetic ? std::string(arithmetic->name) : std::string();
}

}  // namespace misa
