// Whatever the bytes, the reader of safetensors refuses them with Error(input) or accepts them; and what it accepts is
// a tiling of the data by tensors of the right size that our writer writes and the reader reads to the same.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/workload/safetensors.hpp"

namespace {

using namespace misa;  // NOLINT(google-build-using-namespace): a program of one file

/// Prints the claim that broke and stops, so that libFuzzer keeps the input.
void hold(bool truth, const char* claim) {
  if (truth) return;
  std::fprintf(stderr, "broken: %s\n", claim);
  std::abort();
}

void check_header(const SafetensorsHeader& header, i64 file_bytes) {
  hold(header.data_offset >= 10 && header.data_offset + header.data_bytes == file_bytes,
       "header and data fill the file");
  i64 covered = 0;
  std::set<std::string> names;
  for (const SafetensorsEntry& entry : header.tensors) {
    hold(entry.begin == covered, "tensors neither overlap nor leave holes");
    hold(entry.end >= entry.begin && entry.end <= header.data_bytes, "tensors lie inside the data");
    covered = entry.end;
    // The size again, by another way: in 128 bits, which eight dimensions cannot fill before the comparison fails.
    unsigned __int128 bits = static_cast<unsigned __int128>(safetensors_dtype_bits(entry.dtype));
    bool empty = false;
    for (i64 extent : entry.shape) {
      hold(extent >= 0, "dimensions are not negative");
      if (extent == 0) {
        empty = true;
      } else {
        bits *= static_cast<unsigned __int128>(extent);
        hold(bits >> 64 == 0, "sizes do not overflow");
      }
    }
    hold((empty ? 0 : bits) == static_cast<unsigned __int128>(entry.bytes()) * 8, "sizes are those of the shapes");
    hold(entry.shape.size() <= 8, "ranks are at most 8");
    hold(!entry.name.empty() && entry.name.size() <= 512, "names have a decent length");
    hold(names.insert(entry.name).second, "names are unique");
    hold(header.find(entry.name) == &entry, "tensors are found by name");
  }
  hold(covered == header.data_bytes, "tensors cover the data");
}

void check_round_trip(const SafetensorsHeader& header, std::span<const std::byte> file) {
  const std::span<const std::byte> data = file.subspan(static_cast<std::size_t>(header.data_offset));
  const auto bytes_of = [](const SafetensorsEntry& entry, std::span<const std::byte> from) {
    return from.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.bytes()));
  };
  std::vector<SafetensorsTensor> tensors;
  for (const SafetensorsEntry& entry : header.tensors) {
    tensors.emplace_back(entry.name, entry.dtype, entry.shape, bytes_of(entry, data));
  }
  const std::string text = safetensors_header_bytes(header.metadata, tensors);
  std::vector<std::byte> written(text.size());
  std::memcpy(written.data(), text.data(), text.size());
  for (const SafetensorsTensor& tensor : tensors) written.insert(written.end(), tensor.data.begin(), tensor.data.end());

  const SafetensorsHeader again = read_safetensors_header(written, "written");
  hold(again.data_offset % 8 == 0, "written data is aligned");
  hold(again.metadata == header.metadata, "metadata survive");
  hold(again.tensors.size() == header.tensors.size(), "tensors survive");
  const std::span<const std::byte> again_data = std::span(written).subspan(static_cast<std::size_t>(again.data_offset));
  for (const SafetensorsEntry& entry : header.tensors) {
    const SafetensorsEntry* other = again.find(entry.name);
    hold(other != nullptr && other->dtype == entry.dtype && other->shape == entry.shape, "entries survive");
    const std::span<const std::byte> before = bytes_of(entry, data), after = bytes_of(*other, again_data);
    hold(std::equal(before.begin(), before.end(), after.begin(), after.end()), "bytes survive");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  SafetensorsHeader header;
  try {
    header = read_safetensors_header(file, "input", {.header_bytes = 1 << 20, .tensors = 64});
  } catch (const Error& error) {
    hold(error.kind() == ErrorKind::input, "bad bytes are the input's fault");
    hold(error.id().substr(0, 5) == "MP-E1" && error.what()[0] != '\0', "errors have an id and a text");
    return 0;
  }
  check_header(header, static_cast<i64>(size));
  check_round_trip(header, file);
  return 0;
}
