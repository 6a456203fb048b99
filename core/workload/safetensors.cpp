#include "core/workload/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"

namespace misa {
namespace {

constexpr i64 kPrefix = 8;  // the header's length, little endian
constexpr i64 kMaxRank = 8;
constexpr i64 kMaxDepth = 4;
constexpr std::size_t kMaxName = 512;
constexpr u64 kMaxCount = static_cast<u64>(std::numeric_limits<i64>::max());

struct DtypeBits {
  std::string_view name;
  i64 bits;
};
// Source: safetensors/src/tensor.rs, Dtype.
constexpr std::array kDtypes{
    DtypeBits{"BOOL", 8},    DtypeBits{"U8", 8},      DtypeBits{"I8", 8},          DtypeBits{"F8_E4M3", 8},
    DtypeBits{"F8_E5M2", 8}, DtypeBits{"F8_E8M0", 8}, DtypeBits{"F8_E4M3FNUZ", 8}, DtypeBits{"F8_E5M2FNUZ", 8},
    DtypeBits{"F4", 4},      DtypeBits{"F6_E2M3", 6}, DtypeBits{"F6_E3M2", 6},     DtypeBits{"U16", 16},
    DtypeBits{"I16", 16},    DtypeBits{"F16", 16},    DtypeBits{"BF16", 16},       DtypeBits{"U32", 32},
    DtypeBits{"I32", 32},    DtypeBits{"F32", 32},    DtypeBits{"C64", 64},        DtypeBits{"U64", 64},
    DtypeBits{"I64", 64},    DtypeBits{"F64", 64},
};

constexpr std::array kOurDtypes{Dtype::f32,  Dtype::f64,  Dtype::bf16,  Dtype::f16,
                                Dtype::e4m3, Dtype::e8m0, Dtype::int32, Dtype::uint8};

/// What may help when a header is not as the format wants it, or when this program was told to write such a one.
constexpr const char* kWriter = "a file as the safetensors library writes it";
constexpr const char* kWritten = "a report of this error: misa-prof was about to write it";

[[noreturn]] void reject(std::string id, const std::string& what, std::string where, std::string how) {
  throw Error(ErrorKind::input, std::move(id), what, std::move(where), std::move(how));
}

/// Offset of the first byte that does not continue well-formed UTF-8 (RFC 3629); npos when all is well.
std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t i = 0;
  const auto byte = [&](std::size_t at) { return static_cast<u8>(text[at]); };
  while (i < text.size()) {
    const u8 lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || text.size() - i < length) return i;
    u8 low = 0x80, high = 0xBF;  // of the second byte: no overlong forms, no surrogates, nothing above U+10FFFF
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    if (byte(i + 1) < low || byte(i + 1) > high) return i;
    for (std::size_t j = 2; j < length; ++j) {
      if ((byte(i + j) & 0xC0u) != 0x80) return i;
    }
    i += length;
  }
  return std::string_view::npos;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<u8>(c) < 0x20 || c == 0x7F; });
}

/// Why `name` cannot name a tensor, or nothing.
std::optional<std::string> why_bad_name(std::string_view name) {
  if (name.empty()) return "a tensor's name is empty";
  if (name.size() > kMaxName) {
    return fmt::format("a tensor's name has {} bytes, at most {} are allowed", name.size(), kMaxName);
  }
  if (has_control(name)) return "a tensor's name holds control characters";
  return std::nullopt;
}

/// Bytes of a tensor, or why there is no such number.
struct Extent {
  i64 bytes = 0;
  const char* id = nullptr;
  std::string what;
};
Extent extent_of(std::string_view dtype, const std::vector<i64>& shape) {
  u64 bits = static_cast<u64>(safetensors_dtype_bits(dtype));
  // A zero anywhere makes the tensor empty, but the product of the others must be a number all the same.
  bool empty = false;
  for (i64 extent : shape) {
    if (extent == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bits, static_cast<u64>(extent), &bits)) {
      return {0, "MP-E133",
              fmt::format("shape [{}] of {} overflows: more than 2^64 bits", fmt::join(shape, ", "), dtype)};
    }
  }
  if (empty) bits = 0;
  if (bits % 8 != 0) {
    return {0, "MP-E134",
            fmt::format("shape [{}] of {} has {} bits, not whole bytes", fmt::join(shape, ", "), dtype, bits)};
  }
  return {static_cast<i64>(bits / 8), nullptr, {}};
}

/// Receives the header's JSON token by token. A DOM would let the last of two equal keys win, round 2^64 and cut 2.7.
class HeaderParser final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderParser(SafetensorsHeader& header, const SafetensorsLimits& limits) : header_(header), limits_(limits) {}

  bool null() override { return scalar("null"); }
  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override {  // only tokens with a minus sign come here
    return scalar(value == 0 ? "-0" : std::to_string(value));
  }
  bool number_float(number_float_t /*value*/, const string_t& token) override { return scalar(token); }
  bool binary(binary_t& /*value*/) override { return scalar("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != kArray) return scalar(std::to_string(value));
    if (value > kMaxCount) return scalar(std::to_string(value));
    if (key_ == "shape") {
      if (static_cast<i64>(entry_.shape.size()) == kMaxRank) {
        reject("MP-E131", fmt::format("the shape has more than {} dimensions", kMaxRank), where_entry(),
               "reshape the tensor before it is written");
      }
      entry_.shape.push_back(static_cast<i64>(value));
    } else {
      if (offsets_ == 2) bad_offsets("more than two numbers");
      (offsets_ == 0 ? entry_.begin : entry_.end) = static_cast<i64>(value);
      ++offsets_;
    }
    return true;
  }

  bool string(string_t& value) override {
    if (level_ == kMetadata) {
      header_.metadata.emplace(key_, std::move(value));
      return true;
    }
    if (level_ == kEntry && key_ == "dtype") {
      if (safetensors_dtype_bits(value) == 0) {
        reject("MP-E130", "unknown dtype " + quote(value), where_entry(),
               "a dtype of the safetensors format, in capitals: F32, BF16, F8_E4M3, ...");
      }
      entry_.dtype = std::move(value);
      return true;
    }
    return scalar(quote(value));
  }

  bool start_object(std::size_t /*elements*/) override {
    switch (level_) {
      case kOutside: level_ = kRoot; return true;
      case kRoot: level_ = key_ == "__metadata__" ? kMetadata : kEntry; return true;
      default: return scalar("an object");
    }
  }

  bool key(string_t& value) override {
    key_ = value;
    switch (level_) {
      case kRoot:
        if (!names_.insert(value).second) duplicate(where());
        if (value == "__metadata__") return true;
        if (const auto why = why_bad_name(value)) {
          reject("MP-E121", *why, where() + ", tensor " + quote(value), "a shorter name of printable characters");
        }
        if (static_cast<i64>(header_.tensors.size()) == limits_.tensors) {
          reject("MP-E120", fmt::format("the header names more than {} tensors", limits_.tensors), where(),
                 "a file of fewer tensors; is this a checkpoint and not a trace?");
        }
        entry_ = SafetensorsEntry{};
        entry_.name = value;
        offsets_ = 0;
        seen_.clear();
        return true;
      case kMetadata:
        if (header_.metadata.count(value) != 0) duplicate(where() + ", __metadata__");
        return true;
      default:
        if (value != "dtype" && value != "shape" && value != "data_offsets") {
          reject("MP-E122", "unknown key " + quote(value) + " in a tensor's entry", where_entry(),
                 "only dtype, shape and data_offsets");
        }
        if (!seen_.insert(value).second) duplicate(where_entry());
        return true;
    }
  }

  bool end_object() override {
    if (level_ == kEntry) {
      for (const char* needed : {"dtype", "shape", "data_offsets"}) {
        if (seen_.count(needed) == 0) {
          reject("MP-E123", fmt::format("the tensor's entry has no {}", needed), where_entry(), kWriter);
        }
      }
      check_entry();
      header_.tensors.push_back(std::move(entry_));
    }
    level_ = level_ == kRoot ? kOutside : kRoot;
    return true;
  }

  bool start_array(std::size_t /*elements*/) override {
    if (level_ != kEntry || key_ == "dtype") return scalar("an array");
    level_ = kArray;
    return true;
  }

  bool end_array() override {
    if (key_ == "data_offsets" && offsets_ != 2) bad_offsets(fmt::format("{} numbers", offsets_));
    level_ = kEntry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token, const nlohmann::json::exception& error) override {
    // The library's text says what it expected; its prefix is of no use to a reader of the message.
    std::string text = error.what();
    if (const std::size_t colon = text.find(": "); colon != std::string::npos) text = text.substr(colon + 2);
    reject("MP-E116", "the header is not JSON near " + quote(token) + ": " + printable(text),
           fmt::format("{}, header byte {}", header_.path, position), kWriter);
  }

 private:
  enum Level { kOutside, kRoot, kMetadata, kEntry, kArray };

  std::string where() const { return header_.path + ", header"; }
  std::string where_entry() const { return header_.path + ", tensor " + quote(entry_.name); }
  static std::string printable(const std::string& text) {
    const std::string safe = quote(text);
    return safe.substr(1, safe.size() - 2);
  }

  [[noreturn]] void duplicate(const std::string& at) const {
    reject("MP-E118", "the key " + quote(key_) + " is there twice", at, "a file from a writer that keeps names unique");
  }

  [[noreturn]] void bad_offsets(const std::string& found) const {
    reject("MP-E135", "data_offsets must be two unsigned integers, not " + found, where_entry(), kWriter);
  }

  /// Every value that does not fit its place ends here.
  bool scalar(const std::string& found) {
    switch (level_) {
      case kMetadata:
        reject("MP-E124", "__metadata__ must hold strings, " + quote(key_) + " is " + found, where(),
               "str() on the values when writing");
      case kArray:
        if (key_ == "data_offsets") bad_offsets(found);
        reject("MP-E132", "a dimension must be an unsigned integer below 2^63, not " + found, where_entry(), kWriter);
      case kEntry:
        reject("MP-E125", fmt::format("{} must be {}, not {}", key_, key_ == "dtype" ? "a string" : "an array", found),
               where_entry(), kWriter);
      case kRoot:
        if (key_ == "__metadata__") {
          reject("MP-E124", "__metadata__ must be an object, not " + found, where(), "{} when there is nothing to say");
        }
        reject("MP-E125", "a tensor's entry must be an object, not " + found, where_entry(), kWriter);
      case kOutside: break;
    }
    reject("MP-E114", "the header must be a JSON object, not " + found, where(), kWriter);
  }

  void check_entry() const {
    const Extent extent = extent_of(entry_.dtype, entry_.shape);
    if (extent.id != nullptr) reject(extent.id, extent.what, where_entry(), kWriter);
    if (entry_.begin > entry_.end) {
      reject("MP-E136", fmt::format("data_offsets run backwards: {} to {}", entry_.begin, entry_.end), where_entry(),
             kWriter);
    }
    if (entry_.end > header_.data_bytes) {
      reject("MP-E137",
             fmt::format("the tensor ends at data byte {}, the file holds {}", entry_.end, header_.data_bytes),
             where_entry(), "the whole file: it is cut short");
    }
    if (entry_.bytes() != extent.bytes) {
      reject("MP-E138",
             fmt::format("shape [{}] of {} takes {} bytes, data_offsets give {}", fmt::join(entry_.shape, ", "),
                         entry_.dtype, extent.bytes, entry_.bytes()),
             where_entry(), kWriter);
    }
  }

  SafetensorsHeader& header_;
  const SafetensorsLimits& limits_;
  Level level_ = kOutside;
  std::string key_;
  SafetensorsEntry entry_;
  int offsets_ = 0;
  std::set<std::string> names_, seen_;
};

/// The header's length as the file gives it, checked against the file.
i64 header_bytes(const std::array<std::byte, kPrefix>& prefix, i64 file_bytes, const std::string& path,
                 const SafetensorsLimits& limits) {
  u64 length = 0;
  for (std::size_t i = 0; i < kPrefix; ++i) length |= static_cast<u64>(prefix[i]) << (8 * i);
  if (length < 2) {
    reject("MP-E111", fmt::format("the header's length is {}, at least 2", length), path + ", bytes 0..8",
           "is this a safetensors file?");
  }
  if (length > static_cast<u64>(limits.header_bytes)) {
    reject("MP-E112", fmt::format("the header's length is {}, at most {} bytes are read", length, limits.header_bytes),
           path + ", bytes 0..8", "is this a safetensors file?");
  }
  if (length > static_cast<u64>(file_bytes - kPrefix)) {
    reject("MP-E113",
           fmt::format("the header's length is {}, the file holds {} bytes behind it", length, file_bytes - kPrefix),
           path + ", bytes 0..8", "the whole file: it is cut short");
  }
  return static_cast<i64>(length);
}

void check_size(i64 file_bytes, const std::string& path) {
  if (file_bytes < kPrefix) {
    reject("MP-E110", fmt::format("the file has {} bytes, a safetensors file at least 10", file_bytes), path,
           "the whole file, if it is a safetensors file");
  }
}

/// The JSON object at the start of `text`: checks what surrounds it and how deep it goes.
std::string_view json_object(std::string_view text, const std::string& path) {
  const auto at = [&](std::size_t position) { return fmt::format("{}, header byte {}", path, position); };
  if (text.front() != '{') {
    reject("MP-E114", fmt::format("the header must begin with '{{', not {}", quote(text.substr(0, 1))), at(0),
           "is this a safetensors file?");
  }
  if (const std::size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    reject("MP-E115", fmt::format("the header is not UTF-8: byte 0x{:02X}", static_cast<u8>(text[bad])), at(bad),
           kWriter);
  }
  std::size_t close = std::string_view::npos;
  i64 depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size() && close == std::string_view::npos; ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) {
        reject("MP-E119", fmt::format("the header nests deeper than {} levels", kMaxDepth), at(i), kWriter);
      }
    } else if (c == '}' || c == ']') {
      if (--depth == 0) close = i;
    }
  }
  if (close == std::string_view::npos) {
    reject("MP-E116", "the header's JSON object is not closed", at(text.size()), kWriter);
  }
  for (std::size_t i = close + 1; i < text.size(); ++i) {
    if (text[i] == ' ') continue;
    const bool nul = text[i] == '\0';
    reject("MP-E117",
           fmt::format("only spaces may follow the header's object, not byte 0x{:02X}", static_cast<u8>(text[i])),
           at(i), nul ? "pad with spaces (0x20): some writers pad with NUL" : kWriter);
  }
  return text.substr(0, close + 1);
}

/// `text` is the header without its length.
SafetensorsHeader parse_header(std::string_view text, i64 file_bytes, const std::string& path,
                               const SafetensorsLimits& limits) {
  SafetensorsHeader header;
  header.path = path;
  header.data_offset = kPrefix + static_cast<i64>(text.size());
  header.data_bytes = file_bytes - header.data_offset;
  const std::string_view object = json_object(text, path);
  HeaderParser parser(header, limits);
  nlohmann::json::sax_parse(object.begin(), object.end(), &parser);

  // Empty tensors of an offset come before the one that has bytes there.
  std::sort(header.tensors.begin(), header.tensors.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  i64 covered = 0;
  for (const SafetensorsEntry& entry : header.tensors) {
    const std::string where = path + ", tensor " + quote(entry.name);
    if (entry.begin < covered) {
      reject("MP-E139",
             fmt::format("the tensor begins at data byte {}, another one reaches to {}", entry.begin, covered), where,
             "tensors that share no bytes: .clone() before saving");
    }
    if (entry.begin > covered) {
      reject("MP-E140", fmt::format("nothing covers the data bytes {} to {}", covered, entry.begin), where,
             "tensors one after the other, without holes");
    }
    covered = entry.end;
  }
  if (covered != header.data_bytes) {
    reject("MP-E141", fmt::format("the tensors end at data byte {}, the file holds {}", covered, header.data_bytes),
           path, "bytes behind the last tensor do not belong there");
  }
  return header;
}

}  // namespace

const SafetensorsEntry* SafetensorsHeader::find(std::string_view name) const {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const SafetensorsEntry& entry) { return entry.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

SafetensorsHeader read_safetensors_header(const InputFile& file, const SafetensorsLimits& limits) {
  check_size(file.size(), file.path());
  std::array<std::byte, kPrefix> prefix{};
  file.read(prefix.data(), 0, kPrefix);
  std::string text(static_cast<std::size_t>(header_bytes(prefix, file.size(), file.path(), limits)), '\0');
  file.read(reinterpret_cast<std::byte*>(text.data()), kPrefix, static_cast<i64>(text.size()));
  return parse_header(text, file.size(), file.path(), limits);
}

SafetensorsHeader read_safetensors_header(std::span<const std::byte> file, const std::string& path,
                                          const SafetensorsLimits& limits) {
  const i64 size = static_cast<i64>(file.size());
  check_size(size, path);
  std::array<std::byte, kPrefix> prefix{};
  std::memcpy(prefix.data(), file.data(), kPrefix);
  const auto length = static_cast<std::size_t>(header_bytes(prefix, size, path, limits));
  return parse_header({reinterpret_cast<const char*>(file.data()) + kPrefix, length}, size, path, limits);
}

HostTensor read_tensor(const InputFile& file, const SafetensorsHeader& header, const SafetensorsEntry& entry,
                       i64 max_bytes) {
  const std::string where = header.path + ", tensor " + quote(entry.name);
  const auto dtype =
      std::find_if(kOurDtypes.begin(), kOurDtypes.end(), [&](Dtype d) { return dtype_name(d) == entry.dtype; });
  if (dtype == kOurDtypes.end()) {
    reject("MP-E143", "dtype " + entry.dtype + " is not one that is read", where,
           "F32, F64, BF16, F16, F8_E4M3, F8_E8M0, I32 or U8");
  }
  if (entry.bytes() > max_bytes) {
    throw Error(ErrorKind::runtime, "MP-E142",
                fmt::format("the tensor takes {} bytes, {} may be used", entry.bytes(), max_bytes), where,
                "a larger --max-memory, or a smaller file");
  }
  HostTensor tensor(*dtype, entry.shape.empty() ? std::vector<i64>{1} : entry.shape);
  file.read(tensor.storage.data(), header.data_offset + entry.begin, entry.bytes());
  return tensor;
}

i64 safetensors_dtype_bits(std::string_view dtype) {
  const auto found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const DtypeBits& d) { return d.name == dtype; });
  return found == kDtypes.end() ? 0 : found->bits;
}

SafetensorsTensor::SafetensorsTensor(std::string tensor_name, const HostTensor& tensor)
    : name(std::move(tensor_name)),
      dtype(dtype_name(tensor.dtype)),
      shape(tensor.shape),
      data(tensor.storage.data(), static_cast<std::size_t>(tensor.bytes())) {}

SafetensorsTensor::SafetensorsTensor(std::string tensor_name, std::span<const i32> values,
                                     std::vector<i64> tensor_shape)
    : name(std::move(tensor_name)),
      dtype(dtype_name(Dtype::int32)),
      shape(std::move(tensor_shape)),
      data(std::as_bytes(values)) {}

std::string safetensors_header_bytes(const std::map<std::string, std::string>& metadata,
                                     std::vector<SafetensorsTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    const i64 a_bits = safetensors_dtype_bits(a.dtype), b_bits = safetensors_dtype_bits(b.dtype);
    return a_bits != b_bits ? a_bits > b_bits : a.name < b.name;
  });
  const auto json_string = [](const std::string& text) {
    if (find_invalid_utf8(text) != std::string::npos) {
      reject("MP-E115", "not UTF-8 and cannot be written: " + quote(text), "metadata or a tensor's name",
             "text in UTF-8");
    }
    return nlohmann::json(text).dump();
  };
  std::vector<std::string> parts;
  if (!metadata.empty()) {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata) pairs.push_back(json_string(key) + ":" + json_string(value));
    parts.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ",")));
  }
  i64 offset = 0;
  std::set<std::string> names;
  for (const SafetensorsTensor& tensor : tensors) {
    const std::string where = "tensor " + quote(tensor.name) + " to be written";
    if (const auto why = why_bad_name(tensor.name)) reject("MP-E121", *why, where, kWritten);
    if (!names.insert(tensor.name).second || tensor.name == "__metadata__") {
      reject("MP-E118", "the key " + quote(tensor.name) + " is there twice", where, kWritten);
    }
    if (safetensors_dtype_bits(tensor.dtype) == 0) {
      reject("MP-E130", "unknown dtype " + quote(tensor.dtype), where, kWritten);
    }
    if (static_cast<i64>(tensor.shape.size()) > kMaxRank) {
      reject("MP-E131", fmt::format("the shape has more than {} dimensions", kMaxRank), where, kWritten);
    }
    if (std::any_of(tensor.shape.begin(), tensor.shape.end(), [](i64 n) { return n < 0; })) {
      reject("MP-E132", fmt::format("shape [{}] has a negative dimension", fmt::join(tensor.shape, ", ")), where,
             kWritten);
    }
    const Extent extent = extent_of(tensor.dtype, tensor.shape);
    if (extent.id != nullptr) reject(extent.id, extent.what, where, kWritten);
    if (extent.bytes != static_cast<i64>(tensor.data.size())) {
      reject("MP-E138",
             fmt::format("shape [{}] of {} takes {} bytes, the data has {}", fmt::join(tensor.shape, ", "),
                         tensor.dtype, extent.bytes, tensor.data.size()),
             where, kWritten);
    }
    parts.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                json_string(tensor.name), tensor.dtype, fmt::join(tensor.shape, ","), offset,
                                offset + extent.bytes));
    offset += extent.bytes;
  }
  std::string json = fmt::format("{{{}}}", fmt::join(parts, ","));
  json.resize(static_cast<std::size_t>(ceil_div(static_cast<i64>(json.size()), 8) * 8), ' ');
  std::string header;
  for (int i = 0; i < kPrefix; ++i) header.push_back(static_cast<char>(json.size() >> (8 * i)));
  return header + json;
}

void write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       std::vector<SafetensorsTensor> tensors) {
  const std::string header = safetensors_header_bytes(metadata, tensors);
  OutputFile file(path);
  file.write(header);
  constexpr i64 kPiece = 1 << 26;
  for (const SafetensorsTensor& tensor : tensors) {
    const i64 bytes = static_cast<i64>(tensor.data.size());
    for (i64 at = 0; at < bytes; at += kPiece) {
      if (at > 0) stop_if_interrupted();
      file.write(tensor.data.data() + at, std::min(kPiece, bytes - at));
    }
  }
  file.commit();
}

std::string quote(std::string_view text) {
  constexpr std::size_t kMost = 80;
  std::string safe = "'";
  for (char c : text.substr(0, kMost)) {
    if (static_cast<u8>(c) >= 0x20 && static_cast<u8>(c) < 0x7F) {
      safe += c;
    } else {
      safe += fmt::format("\\x{:02X}", static_cast<u8>(c));
    }
  }
  return safe + (text.size() > kMost ? "...'" : "'");
}

}  // namespace misa
