#include "core/workload/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/suggest.hpp"

namespace misa {
namespace {

using Json = nlohmann::json;

constexpr i64 kPrefix = 8;  // the header's length, little endian
constexpr i64 kMaxRank = 8;
constexpr std::size_t kMaxName = 512;
constexpr const char* kMetadata = "__metadata__";
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

constexpr std::array kOurDtypes{Dtype::f32,  Dtype::f64,   Dtype::bf16,  Dtype::f16,  Dtype::e4m3,
                                Dtype::e8m0, Dtype::int32, Dtype::uint8, Dtype::int8, Dtype::e2m1};

constexpr const char* kWriter = "a file as the safetensors library writes it";

[[noreturn]] void refuse_file(std::string id, const std::string& what, std::string where, std::string how) {
  throw Error(ErrorKind::input, std::move(id), what, std::move(where), std::move(how));
}

/// Refuses what breaks the format in a way that only another writer can mend.
[[noreturn]] void refuse_file(const std::string& what, std::string where, std::string how = kWriter) {
  refuse_file("MP-E116", what, std::move(where), std::move(how));
}

/// Bytes of a tensor; nothing when they are not whole, or more than 2^64 bits.
std::optional<i64> bytes_of(std::string_view dtype, const std::vector<i64>& shape) {
  u64 bits = static_cast<u64>(safetensors_dtype_bits(dtype));
  // A zero anywhere makes the tensor empty, but the product of the others must be a number all the same.
  bool empty = false;
  for (i64 extent : shape) {
    if (extent == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bits, static_cast<u64>(extent), &bits)) {
      return std::nullopt;
    }
  }
  if (empty) return 0;
  return bits % 8 == 0 ? std::optional(static_cast<i64>(bits / 8)) : std::nullopt;
}

/// Parses the header's JSON. Refuses what the document would not show, or what takes memory for nothing: a key that
/// appears twice (the last would win), more tensors than `limits` has, and arrays that are longer or deeper than the
/// format's.
Json parse_json(std::string_view text, const std::string& path, const SafetensorsLimits& limits) {
  const std::string where = path + ", header";
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  i64 tensors = 0, numbers = 0;
  const auto check = [&](int depth, Json::parse_event_t event, const Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start: keys.emplace_back(); [[fallthrough]];
      case Json::parse_event_t::array_start:
        if (depth > 2) refuse_file("the header has objects or arrays in its arrays", where);
        numbers = 0;
        break;
      case Json::parse_event_t::object_end: keys.pop_back(); break;
      case Json::parse_event_t::key:
        if (!keys.back().insert(value).second) {
          refuse_file("the key " + quote(value.get_ref<const std::string&>()) + " appears twice", where,
                      "a file from a writer that keeps names unique");
        }
        if (depth == 1 && value != kMetadata && ++tensors > limits.tensors) {
          refuse_file("MP-E120", fmt::format("the header names more than {} tensors", limits.tensors), where,
                      "a file of fewer tensors; is this a checkpoint and not a trace?");
        }
        break;
      case Json::parse_event_t::value:
        if (depth == 3 && ++numbers > kMaxRank) {
          refuse_file("MP-E131", fmt::format("a shape has more than {} dimensions", kMaxRank), where,
                      "reshape the tensor before it is written");
        }
        break;
      case Json::parse_event_t::array_end: break;
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::exception& error) {
    // The library's text says what it expected and where; its prefix is of no use to a reader of the message.
    const std::string_view why = error.what();
    refuse_file("the header is not JSON: " + quote(why.substr(why.find("] ") + 2), 300), where);
  }
}

/// The numbers of an array; nothing where it is another value or holds others than unsigned integers below 2^63.
std::optional<std::vector<i64>> numbers_of(const Json& array) {
  if (!array.is_array()) return std::nullopt;
  std::vector<i64> numbers;
  for (const Json& number : array) {
    if (!number.is_number_unsigned() || number.get<u64>() > kMaxCount) return std::nullopt;
    numbers.push_back(number.get<i64>());
  }
  return numbers;
}

SafetensorsEntry entry_of(const std::string& name, const Json& json, const SafetensorsHeader& header) {
  const std::string where = header.path + ", tensor " + quote(name);
  const auto is_control = [](char c) { return static_cast<u8>(c) < 0x20 || c == 0x7F; };
  if (name.empty() || name.size() > kMaxName || std::any_of(name.begin(), name.end(), is_control)) {
    refuse_file("MP-E121",
                fmt::format("a tensor's name has {} bytes: 1 to {}, none a control character, are allowed", name.size(),
                            kMaxName),
                where, "a shorter name of printable characters");
  }
  if (json.size() != 3 || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets")) {
    refuse_file("a tensor's entry must be an object of dtype, shape and data_offsets, not " + quote(json.dump()),
                where);
  }
  const Json &dtype = json["dtype"], &shape = json["shape"], &data_offsets = json["data_offsets"];
  if (!dtype.is_string()) refuse_file("dtype must be a string, not " + quote(dtype.dump()), where);
  SafetensorsEntry entry{.name = name, .dtype = dtype, .shape = {}};
  if (safetensors_dtype_bits(entry.dtype) == 0) {
    refuse_file("MP-E130", "unknown dtype " + quote(entry.dtype), where,
                "a dtype of the safetensors format, in capitals: F32, BF16, F8_E4M3, ...");
  }
  const std::optional<std::vector<i64>> extents = numbers_of(shape), offsets = numbers_of(data_offsets);
  if (!extents) refuse_file("shape must be unsigned integers below 2^63, not " + quote(shape.dump()), where);
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    refuse_file("data_offsets must be begin and end, not " + quote(data_offsets.dump()), where);
  }
  entry.shape = *extents;
  entry.begin = (*offsets)[0];
  entry.end = (*offsets)[1];
  if (entry.end > header.data_bytes) {
    refuse_file("MP-E113",
                fmt::format("the tensor ends at data byte {}, the file holds {}", entry.end, header.data_bytes), where,
                "the whole file: it is cut short");
  }
  if (bytes_of(entry.dtype, entry.shape) != entry.bytes()) {
    refuse_file(fmt::format("shape {} of {} does not take the {} bytes that data_offsets give", shape.dump(),
                            entry.dtype, entry.bytes()),
                where);
  }
  return entry;
}

/// The header's length as the file gives it, checked against the file. `prefix` are its first 8 bytes, or all.
i64 header_length(std::span<const std::byte> prefix, i64 file_bytes, const std::string& path,
                  const SafetensorsLimits& limits) {
  if (file_bytes < kPrefix) {
    refuse_file("MP-E110", fmt::format("the file has {} bytes, a safetensors file at least 10", file_bytes), path,
                "the whole file, if it is a safetensors file");
  }
  u64 length = 0;
  for (std::size_t i = 0; i < kPrefix; ++i) length |= static_cast<u64>(prefix[i]) << (8 * i);
  if (length < 2 || length > static_cast<u64>(limits.header_bytes)) {
    refuse_file(
        "MP-E110",
        fmt::format("the header's length is {}, and headers of 2 to {} bytes are read", length, limits.header_bytes),
        path + ", bytes 0..8", "is this a safetensors file?");
  }
  if (length > static_cast<u64>(file_bytes - kPrefix)) {
    refuse_file(
        "MP-E113",
        fmt::format("the header's length is {}, the file holds {} bytes after it", length, file_bytes - kPrefix),
        path + ", bytes 0..8", "the whole file: it is cut short");
  }
  return static_cast<i64>(length);
}

/// Refuses tensors of the sorted `header` that overlap, or do not cover the data.
void check_tiling(const SafetensorsHeader& header) {
  i64 covered = 0;
  for (const SafetensorsEntry& entry : header.tensors) {
    const std::string where = header.path + ", tensor " + quote(entry.name);
    if (entry.begin < covered) {
      refuse_file("MP-E139",
                  fmt::format("the tensor begins at data byte {}, another one reaches to {}", entry.begin, covered),
                  where, "tensors that share no bytes: .clone() before saving");
    }
    if (entry.begin > covered) {
      refuse_file(fmt::format("nothing covers the data bytes {} to {}", covered, entry.begin), where,
                  "tensors one after the other, without holes");
    }
    covered = entry.end;
  }
  if (covered != header.data_bytes) {
    refuse_file(fmt::format("the tensors end at data byte {}, the file holds {}", covered, header.data_bytes),
                header.path, "a file without bytes after its last tensor");
  }
}

/// `text` is the header without its length.
SafetensorsHeader parse_header(std::string_view text, i64 file_bytes, const std::string& path,
                               const SafetensorsLimits& limits) {
  SafetensorsHeader header;
  header.path = path;
  header.data_offset = kPrefix + static_cast<i64>(text.size());
  header.data_bytes = file_bytes - header.data_offset;
  if (text.front() != '{') {
    refuse_file("MP-E110", fmt::format("the header must begin with '{{', not {}", quote(text.substr(0, 1))),
                path + ", header byte 0", "is this a safetensors file?");
  }
  // The parser would take a NUL for the end of the text, and any white space after the object.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    refuse_file("the header holds a NUL", fmt::format("{}, header byte {}", path, nul),
                "pad with spaces (0x20): some writers pad with NUL");
  }
  const Json document = parse_json(text, path, limits);
  if (const std::size_t last = text.find_last_not_of(' '); text[last] != '}') {
    refuse_file(
        fmt::format("only spaces may follow the header's object, not byte 0x{:02X}", static_cast<u8>(text[last])),
        fmt::format("{}, header byte {}", path, last));
  }
  for (const auto& [name, value] : document.items()) {
    if (name != kMetadata) header.tensors.push_back(entry_of(name, value, header));
  }
  if (const auto metadata = document.find(kMetadata); metadata != document.end()) {
    if (!metadata->is_object()) {
      refuse_file("MP-E124", "__metadata__ must be an object, not " + quote(metadata->dump()), path + ", header",
                  "{} when there is nothing to say");
    }
    for (const auto& [key, value] : metadata->items()) {
      if (!value.is_string()) {
        refuse_file("MP-E124", "__metadata__ must hold strings, " + quote(key) + " is " + quote(value.dump()),
                    path + ", header", "str() on the values when writing");
      }
      header.metadata.emplace(key, value);
    }
  }
  // Empty tensors of an offset come before the one that has bytes there.
  std::sort(header.tensors.begin(), header.tensors.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_tiling(header);
  return header;
}

}  // namespace

const SafetensorsEntry* SafetensorsHeader::find(std::string_view name) const { return find_row(tensors, name); }

SafetensorsHeader read_safetensors_header(const InputFile& file, const SafetensorsLimits& limits) {
  std::array<std::byte, kPrefix> prefix{};
  file.read(prefix.data(), 0, std::min(kPrefix, file.size()));
  std::string text(static_cast<std::size_t>(header_length(prefix, file.size(), file.path(), limits)), '\0');
  file.read(reinterpret_cast<std::byte*>(text.data()), kPrefix, static_cast<i64>(text.size()));
  return parse_header(text, file.size(), file.path(), limits);
}

SafetensorsHeader read_safetensors_header(std::span<const std::byte> file, const std::string& path,
                                          const SafetensorsLimits& limits) {
  const i64 size = static_cast<i64>(file.size());
  const auto length = static_cast<std::size_t>(header_length(file, size, path, limits));
  return parse_header({reinterpret_cast<const char*>(file.data()) + kPrefix, length}, size, path, limits);
}

HostTensor read_tensor(const InputFile& file, const SafetensorsHeader& header, const SafetensorsEntry& entry,
                       i64 max_bytes) {
  const std::string where = header.path + ", tensor " + quote(entry.name);
  const auto dtype =
      std::find_if(kOurDtypes.begin(), kOurDtypes.end(), [&](Dtype d) { return dtype_name(d) == entry.dtype; });
  if (dtype == kOurDtypes.end()) {
    refuse_file("MP-E130", "dtype " + entry.dtype + " is not one that is read", where,
                "F32, F64, BF16, F16, F8_E4M3, F8_E8M0, I32, U8, I8 or F4");
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
  const DtypeBits* found = find_row(kDtypes, dtype);
  return found ? found->bits : 0;
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
    try {
      return Json(text).dump();
    } catch (const Json::exception&) {
      refuse_file("not UTF-8 and cannot be written: " + quote(text), "metadata or a tensor's name", "text in UTF-8");
    }
  };
  std::vector<std::string> parts;
  if (!metadata.empty()) {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata) pairs.push_back(json_string(key) + ":" + json_string(value));
    parts.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ",")));
  }
  i64 offset = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    const i64 end = offset + static_cast<i64>(tensor.data.size());
    parts.push_back(fmt::format("{}:{{\"dtype\":{},\"shape\":[{}],\"data_offsets\":[{},{}]}}", json_string(tensor.name),
                                json_string(tensor.dtype), fmt::join(tensor.shape, ","), offset, end));
    offset = end;
  }
  std::string json = fmt::format("{{{}}}", fmt::join(parts, ","));
  json.resize(static_cast<std::size_t>(ceil_div(static_cast<i64>(json.size()), 8) * 8), ' ');
  (void)parse_header(json, kPrefix + static_cast<i64>(json.size()) + offset, "a file to be written", {});
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

std::string quote(std::string_view text, std::size_t most) {
  std::string safe = "'";
  for (char c : text.substr(0, most)) {
    if (static_cast<u8>(c) >= 0x20 && static_cast<u8>(c) < 0x7F) {
      safe += c;
    } else {
      safe += fmt::format("\\x{:02X}", static_cast<u8>(c));
    }
  }
  return safe + (text.size() > most ? "...'" : "'");
}

}  // namespace misa
