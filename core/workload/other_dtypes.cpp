#include "core/workload/other_dtypes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/workload/trace_format.hpp"

namespace misa::trace {
namespace {

bool allows(const TensorRule& rule, std::string_view dtype) {
  return std::find(rule.dtypes.begin(), rule.dtypes.end(), dtype) != rule.dtypes.end();
}

/// `read`, element by element, as f32.
template <class T, class ToFloat>
HostTensor widened(const HostTensor& read, ToFloat to_f32) {
  HostTensor wide(Dtype::f32, read.shape);
  const T* from = read.storage.as<T>();
  std::transform(from, from + read.size(), wide.span<float>().begin(), to_f32);
  return wide;
}

/// The numbers of `bytes` [..., 8] as i32.
HostTensor narrowed(const HostTensor& bytes, std::vector<i64> shape, const std::string& where) {
  HostTensor narrow(Dtype::int32, std::move(shape));
  const i64* from = bytes.storage.as<i64>();
  for (i64 i = 0; i < narrow.size(); ++i) {
    if (from[i] < std::numeric_limits<i32>::min() || from[i] > std::numeric_limits<i32>::max()) {
      reject("MP-E206", fmt::format("element {} is {}, and I32 does not hold it", i, from[i]), where,
             "ids and positions below 2^31");
    }
    narrow.span<i32>()[i] = static_cast<i32>(from[i]);
  }
  return narrow;
}

/// Words of four UE8M0 bytes each.
bool is_block_scales(const TensorRule& rule) { return rule.shape.back() == 'W'; }

/// The shape of words in which bytes [..., 4 W] are.
std::vector<i64> words_of(std::vector<i64> shape, const std::string& where) {
  if (shape.back() % 4 != 0) {
    reject("MP-E208", fmt::format("the shape is {}, and scales of one byte fill words of four", shape_text(shape)),
           where, "as many bytes as fill 4 for every 128 numbers; those beyond D / 32 are not read");
  }
  shape.back() /= 4;
  return shape;
}

}  // namespace

std::optional<Dtype> kept_as(const TensorRule& rule, std::string_view dtype) {
  if (is_block_scales(rule)) return allows(rule, dtype) ? std::optional(Dtype::int32) : std::nullopt;
  if (dtype == "F8_E8M0" && allows(rule, dtype)) return Dtype::f32;
  constexpr std::array kAsTheyAre{Dtype::f32,   Dtype::f64,   Dtype::bf16, Dtype::f16, Dtype::e4m3,
                                  Dtype::int32, Dtype::uint8, Dtype::int8, Dtype::e2m1};
  for (const Dtype same : kAsTheyAre) {
    if (dtype == dtype_name(same) && allows(rule, dtype)) return same;
  }
  if (dtype == "I64" && allows(rule, "I32")) return Dtype::int32;
  if ((dtype == "BF16" || dtype == "F16") && allows(rule, "F32")) return Dtype::f32;
  if ((dtype == "I8" || dtype == "F8_E4M3") && allows(rule, "U8")) return Dtype::uint8;
  return std::nullopt;
}

std::vector<i64> kept_shape(const TensorRule& rule, std::vector<i64> shape) {
  if (is_block_scales(rule) && shape.size() + 1 == rule.shape.size()) shape.push_back(1);  // one word of a vector
  if (shape.size() != rule.shape.size() + 1) return shape;
  const bool may_trail = rule.shape.back() == 'H' || rule.shape.size() == 1;
  auto spare = std::find(shape.begin(), shape.end() - 1, 1);
  if (may_trail && shape.back() == 1) spare = shape.end() - 1;
  if (rule.shape == "PTS") spare = shape.begin() + 2;  // the one key head, also where there is one page
  if (*spare == 1) shape.erase(spare);
  return shape;
}

i64 bytes_to_read(const TensorRule& rule, const SafetensorsEntry& entry) {
  const std::optional<Dtype> kept = kept_as(rule, entry.dtype);
  const i64 bits = safetensors_dtype_bits(entry.dtype);
  const bool converted = !is_block_scales(rule) && kept && (*kept == Dtype::int32 || *kept == Dtype::f32) &&
                         entry.dtype != dtype_name(*kept);
  return entry.bytes() + (converted ? dtype_bytes(*kept, entry.bytes() * 8 / bits) : 0);
}

HostTensor read_as(const TensorRule& rule, const InputFile& file, const SafetensorsHeader& header,
                   const SafetensorsEntry& entry, i64 max_bytes) {
  const std::optional<Dtype> kept = kept_as(rule, entry.dtype);
  SafetensorsEntry stored = entry;
  stored.shape = kept_shape(rule, entry.shape);
  if (entry.dtype == "I64") {
    const std::vector<i64> shape = stored.shape;
    stored.dtype = dtype_name(Dtype::uint8);
    stored.shape.push_back(sizeof(i64));
    return narrowed(read_tensor(file, header, stored, max_bytes), shape, at(header.path, entry.name));
  }
  if (is_block_scales(rule)) {
    if (entry.dtype != dtype_name(Dtype::int32)) stored.shape = words_of(stored.shape, at(header.path, entry.name));
    stored.dtype = dtype_name(Dtype::int32);
  }
  if (kept == Dtype::uint8) stored.dtype = dtype_name(Dtype::uint8);
  HostTensor read = read_tensor(file, header, stored, max_bytes);
  if (kept != Dtype::f32 || read.dtype == Dtype::f32) return read;
  if (read.dtype == Dtype::e8m0) return widened<u8>(read, e8m0_to_float);
  if (read.dtype == Dtype::bf16) return widened<Bf16>(read, [](Bf16 value) { return to_float(value); });
  return widened<F16>(read, [](F16 value) { return to_float(value); });
}

}  // namespace misa::trace
