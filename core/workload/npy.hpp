#pragma once

#include <string>
#include <vector>

#include "core/platform/file.hpp"

// A strict reader of the headers of `.npy` files of I32 and I64. Source of the format: NumPy's NEP 1 and
// numpy/lib/format.py, versions 1.0 to 3.0, which differ in the width of the header's length and in its encoding.

namespace misa {

struct NpyHeader {
  i64 width = 0;           ///< bytes of a number: 4 or 8
  std::vector<i64> shape;  ///< row-major
  i64 data_offset = 0;     ///< where the numbers begin in the file; they fill the rest of it
};

/// True when the file begins as a `.npy` does.
bool is_npy(const InputFile& file);

/// Reads everything but the numbers. Error(input): malformed (MP-E150), cut short (MP-E151), big-endian or in Fortran
/// order (MP-E152), of another dtype (MP-E206).
NpyHeader read_npy_header(const InputFile& file);

}  // namespace misa
