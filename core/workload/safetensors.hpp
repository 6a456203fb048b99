#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/platform/file.hpp"
#include "core/tensor/host_tensor.hpp"

// A strict reader and writer of safetensors files: what the format forbids is refused, each rule with its own message
// id (docs/errors.md). Source of the format: huggingface/safetensors, README and safetensors/src/tensor.rs; our reader
// is stricter (padding, numbers, names, depth).

namespace misa {

struct SafetensorsLimits {
  i64 header_bytes = 25'000'000;
  i64 tensors = 4096;  // a trace has some twenty; parsing takes time that grows with their square
};

/// One tensor of a file. `dtype` is the file's spelling: not every dtype of the format is one of misa::Dtype.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<i64> shape;  ///< row-major; rank 0 has one element
  i64 begin = 0, end = 0;  ///< bytes, counted from `SafetensorsHeader::data_offset`

  i64 bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::string path;     ///< for messages
  i64 data_offset = 0;  ///< where the tensors' bytes begin in the file
  i64 data_bytes = 0;
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> tensors;  ///< by offset; they tile the data without holes

  /// Null when there is none of that name.
  const SafetensorsEntry* find(std::string_view name) const;
};

/// Reads and checks everything but the tensors' bytes. Error(input).
SafetensorsHeader read_safetensors_header(const InputFile& file, const SafetensorsLimits& limits = {});

/// The same from a whole file in memory; `path` is for messages.
SafetensorsHeader read_safetensors_header(std::span<const std::byte> file, const std::string& path,
                                          const SafetensorsLimits& limits = {});

/// Reads one tensor of `header` (rank 0 becomes shape [1]). Error(input) when its dtype is not one of misa::Dtype or
/// when it has more than `max_bytes` bytes.
HostTensor read_tensor(const InputFile& file, const SafetensorsHeader& header, const SafetensorsEntry& entry,
                       i64 max_bytes);

/// Bits of one element, or 0 for an unknown dtype.
i64 safetensors_dtype_bits(std::string_view dtype);

/// A tensor to be written; looks at bytes that somebody else owns.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<i64> shape;
  std::span<const std::byte> data;

  SafetensorsTensor(std::string tensor_name, std::string tensor_dtype, std::vector<i64> tensor_shape,
                    std::span<const std::byte> bytes)
      : name(std::move(tensor_name)), dtype(std::move(tensor_dtype)), shape(std::move(tensor_shape)), data(bytes) {}
  SafetensorsTensor(std::string tensor_name, const HostTensor& tensor);
  SafetensorsTensor(std::string tensor_name, std::span<const i32> values, std::vector<i64> tensor_shape);
};

/// Puts `tensors` into the order of the file (widest elements first, then by name, so that every tensor is aligned to
/// its element) and returns the bytes in front of the data: length and header, padded to a multiple of 8.
/// Error(input) for names, dtypes or sizes that the reader would refuse.
std::string safetensors_header_bytes(const std::map<std::string, std::string>& metadata,
                                     std::vector<SafetensorsTensor>& tensors);

/// Writes a whole file; a failure leaves no file. The same input gives the same bytes.
void write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       std::vector<SafetensorsTensor> tensors);

/// `text` for a message: quotes, anything unprintable escaped, shortened to `most` bytes.
std::string quote(std::string_view text, std::size_t most = 80);

}  // namespace misa
