#include "core/workload/npy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "core/base/decimal.hpp"
#include "core/workload/trace_format.hpp"

namespace misa {
namespace {

using trace::reject;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr i64 kVersionEnd = 8;        // the magic, and a byte each for the major and the minor version
constexpr i64 kMostHeader = 1 << 16;  // a plain dtype and a shape take a hundred bytes
constexpr std::size_t kMostDimensions = 8;
constexpr const char* kSave = "a file as numpy.save writes it";

[[noreturn]] void malformed(const std::string& what, const std::string& path) { reject("MP-E150", what, path, kSave); }

/// Reads the literal of a Python dictionary, from left to right.
class Literal {
 public:
  explicit Literal(std::string_view text) : text_(text) {}

  /// Skips blanks, then takes `wanted` if it comes next.
  bool take(std::string_view wanted) {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == '\n')) text_.remove_prefix(1);
    if (text_.substr(0, wanted.size()) != wanted) return false;
    text_.remove_prefix(wanted.size());
    return true;
  }

  std::optional<std::string> quoted() {
    const std::string_view quote = take("'") ? "'" : take("\"") ? "\"" : "";
    if (quote.empty()) return std::nullopt;
    const std::size_t end = text_.find(quote);
    if (end == std::string_view::npos) return std::nullopt;
    std::string found(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return found;
  }

  std::optional<bool> truth() {
    if (take("True")) return true;
    if (take("False")) return false;
    return std::nullopt;
  }

  std::optional<std::vector<i64>> tuple() {
    if (!take("(")) return std::nullopt;
    std::vector<i64> numbers;
    while (!take(")")) {
      if (!numbers.empty() && !take(",")) return std::nullopt;
      if (take(")")) return numbers;
      const std::size_t digits = std::min(text_.find_first_not_of("0123456789"), text_.size());
      const std::optional<u64> number = whole_number_of(text_.substr(0, digits));
      if (!number || *number > static_cast<u64>(trace::kMaxIndex) || numbers.size() == kMostDimensions) {
        return std::nullopt;
      }
      numbers.push_back(static_cast<i64>(*number));
      text_.remove_prefix(digits);
    }
    return numbers;
  }

  bool ended() { return take("") && text_.empty(); }
  std::string_view rest() const { return text_; }

 private:
  std::string_view text_;
};

/// The entries of a header's dictionary.
struct Entries {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<i64>> shape;
};

/// Refuses anything but one value of each entry.
Entries entries_of(std::string_view text, const std::string& path) {
  Literal literal(text);
  Entries found;
  const auto bad = [&] { malformed("the header breaks the format at " + quote(literal.rest(), 40), path); };
  if (!literal.take("{")) bad();
  while (!literal.take("}")) {
    const std::optional<std::string> key = literal.quoted();
    if (!key || !literal.take(":")) bad();
    if (*key == "descr" && !found.descr) {
      if (literal.take("["))
        reject("MP-E206", "the dtype is a structure, must be I32 or I64", path, "one of its fields");
      found.descr = literal.quoted();
      if (!found.descr) bad();
    } else if (*key == "fortran_order" && !found.fortran_order) {
      found.fortran_order = literal.truth();
      if (!found.fortran_order) bad();
    } else if (*key == "shape" && !found.shape) {
      found.shape = literal.tuple();
      if (!found.shape) bad();
    } else {
      bad();
    }
    if (literal.take("}")) break;
    if (!literal.take(",")) bad();
  }
  if (!literal.ended() || !found.descr || !found.fortran_order || !found.shape) bad();
  return found;
}

}  // namespace

bool is_npy(const InputFile& file) {
  std::array<char, kMagic.size()> begin{};
  if (file.size() < static_cast<i64>(begin.size())) return false;
  file.read(reinterpret_cast<std::byte*>(begin.data()), 0, static_cast<i64>(begin.size()));
  return std::string_view(begin.data(), begin.size()) == kMagic;
}

NpyHeader read_npy_header(const InputFile& file) {
  const std::string& path = file.path();
  const auto need = [&](i64 bytes) {
    if (file.size() < bytes) {
      reject("MP-E151", fmt::format("the file has {} bytes, its header needs {}", file.size(), bytes), path,
             "the whole file: it is cut short");
    }
  };
  if (!is_npy(file)) malformed("not a .npy file: it does not begin with \\x93NUMPY", path);
  need(kVersionEnd + 4);
  std::array<u8, kVersionEnd + 4> begin{};
  file.read(reinterpret_cast<std::byte*>(begin.data()), 0, static_cast<i64>(begin.size()));
  const int version = begin[kMagic.size()];
  if (version < 1 || version > 3) malformed(fmt::format("version {} of the format: 1 to 3 are read", version), path);
  const i64 width = version == 1 ? 2 : 4;
  i64 length = 0;
  for (i64 i = 0; i < width; ++i) length |= i64{begin[static_cast<std::size_t>(kVersionEnd + i)]} << (8 * i);
  if (length > kMostHeader)
    malformed(fmt::format("the header has {} bytes, at most {} are read", length, kMostHeader), path);
  need(kVersionEnd + width + length);
  std::string text(static_cast<std::size_t>(length), ' ');
  file.read(reinterpret_cast<std::byte*>(text.data()), kVersionEnd + width, length);
  Entries entries = entries_of(text, path);

  const std::string& descr = *entries.descr;
  if (descr == ">i4" || descr == ">i8") {
    reject("MP-E152", fmt::format("the numbers are big-endian ({})", descr), path,
           fmt::format("array.astype('<{}')", descr.substr(1)));
  }
  if (descr != "<i4" && descr != "<i8") {
    reject("MP-E206", fmt::format("the dtype is {}, must be '<i4' or '<i8'", quote(descr)), path,
           "array.astype(numpy.int32)");
  }
  if (*entries.fortran_order) {
    reject("MP-E152", "the array is in Fortran order", path, "numpy.ascontiguousarray(array)");
  }
  NpyHeader header{.width = descr == "<i4" ? 4 : 8, .shape = std::move(*entries.shape), .data_offset = 0};
  i64 bytes = header.width;
  for (const i64 extent : header.shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) malformed("the shape overflows", path);
  }
  header.data_offset = kVersionEnd + width + length;
  const i64 there = file.size() - header.data_offset;
  if (there < bytes) {
    reject("MP-E151", fmt::format("the numbers take {} bytes, and {} follow the header", bytes, there), path,
           "the whole file: it is cut short");
  }
  if (there > bytes) malformed(fmt::format("{} bytes follow the array", there - bytes), path);
  return header;
}

}  // namespace misa
