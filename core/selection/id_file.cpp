#include "core/selection/id_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/workload/npy.hpp"
#include "core/workload/trace_format.hpp"

namespace misa {
namespace {

using trace::reject;
using trace::shape_text;

/// An array of a file, before its numbers are read.
struct Place {
  std::string where;  ///< for messages
  i64 width = 0;      ///< bytes of a number: 4 or 8
  std::vector<i64> shape;
  i64 offset = 0, bytes = 0;
};

Place place_of(const SafetensorsHeader& header, const SafetensorsEntry& entry) {
  const std::string where = header.path + ", tensor " + quote(entry.name);
  if (entry.dtype != "I32" && entry.dtype != "I64") {
    reject("MP-E206", fmt::format("the dtype is {}, must be I32 or I64", entry.dtype), where, trace::kConvert);
  }
  return {where, entry.dtype == "I32" ? 4 : 8, entry.shape, header.data_offset + entry.begin, entry.bytes()};
}

Place place_of_npy(const InputFile& file) {
  const NpyHeader header = read_npy_header(file);
  return {file.path(), header.width, header.shape, header.data_offset, file.size() - header.data_offset};
}

/// The tensor that holds the ids: `topk`, `out.topk`, or the only one of integers.
const SafetensorsEntry& find_ids(const SafetensorsHeader& header) {
  const SafetensorsEntry *ours = header.find("topk"), *dumped = header.find("out.topk");
  if (ours != nullptr && dumped == nullptr) return *ours;
  if (ours == nullptr && dumped != nullptr) return *dumped;
  std::vector<std::string> names;
  const SafetensorsEntry* found = nullptr;
  for (const SafetensorsEntry& entry : header.tensors) {
    if ((entry.dtype != "I32" && entry.dtype != "I64") || entry.name == "topk_row") continue;
    found = &entry;
    names.push_back(quote(entry.name));
  }
  if (names.size() == 1) return *found;
  reject("MP-E256",
         names.empty() ? std::string("no tensor holds I32 or I64: there are no ids")
                       : fmt::format("several tensors may hold the ids: {}", fmt::join(names, ", ")),
         header.path, "one tensor of ids, with the name topk");
}

std::vector<i32> numbers_at(const InputFile& file, const Place& place, i64 max_bytes) {
  const i64 count = place.bytes / place.width;
  if (const i64 needed = place.bytes + count * i64{sizeof(i32)}; needed > max_bytes) {
    throw Error(ErrorKind::runtime, "MP-E142",
                fmt::format("reading the ids takes {} bytes, {} may be used", needed, max_bytes), place.where,
                "a larger --max-memory, or a smaller file");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(place.bytes));
  file.read(bytes.data(), place.offset, place.bytes);
  std::vector<i32> numbers(static_cast<std::size_t>(count));
  if (place.width == 4) {
    if (count > 0) std::memcpy(numbers.data(), bytes.data(), bytes.size());
    return numbers;
  }
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    i64 number = 0;
    std::memcpy(&number, bytes.data() + 8 * i, 8);
    if (number < std::numeric_limits<i32>::min() || number > trace::kMaxIndex) {
      const i64 columns = place.shape.back(), at = static_cast<i64>(i);
      reject("MP-E241", fmt::format("id {} in column {} does not fit 32 bits", number, at % columns),
             fmt::format("{}, row {}", place.where, at / columns), "ids from 0, and -1 where there is none");
    }
    numbers[i] = static_cast<i32>(number);
  }
  return numbers;
}

/// Refuses rows that are not the workload's, or are named twice.
void check_rows(const std::vector<i32>& rows, i64 count, const std::string& where) {
  std::vector<bool> named(static_cast<std::size_t>(count), false);
  for (const i32 row : rows) {
    const bool there = row >= 0 && row < count;
    if (!there || named[static_cast<std::size_t>(row)]) {
      reject("MP-E244",
             there ? fmt::format("row {} is named twice", row)
                   : fmt::format("row {} is out of range: the workload has {}", row, count),
             trace::at(where, "topk_row"), "the rows of the workload, each once");
    }
    named[static_cast<std::size_t>(row)] = true;
  }
}

}  // namespace

IdFile read_ids(const std::string& path, const Workload& workload, i64 max_bytes) {
  const InputFile file(path);
  std::array<char, 9> begin{};  // a safetensors file has a '{' behind its first number
  file.read(reinterpret_cast<std::byte*>(begin.data()), 0, std::min<i64>(file.size(), begin.size()));
  if (std::string_view(begin.data(), 4) == "PK\x03\x04") {
    reject("MP-E154", "the file is a zip archive, as numpy.savez and torch.save write it", path,
           "numpy.save('ids.npy', ids.cpu().numpy())");
  }
  IdFile read;
  Place place;
  bool names_rows = false;
  if (is_npy(file) || (std::string_view(path).ends_with(".npy") && begin.back() != '{')) {
    place = place_of_npy(file);
  } else {
    const SafetensorsHeader header = read_safetensors_header(file);
    place = place_of(header, find_ids(header));
    if (const SafetensorsEntry* rows = header.find("topk_row")) {
      names_rows = true;
      read.rows = numbers_at(file, place_of(header, *rows), max_bytes);
      check_rows(read.rows, workload.rows(), path);
    }
    // What this program selected says so in a key of its own.
    const auto kind = header.metadata.find("kind");
    const bool dumped = kind != header.metadata.end() && kind->second == "selection";
    for (const char* key : {dumped ? "arithmetic" : "topk_arithmetic", "topk_arithmetic"}) {
      const auto stated = header.metadata.find(key);
      if (read.arithmetic.empty() && stated != header.metadata.end()) read.arithmetic = stated->second;
    }
  }
  const std::vector<i64>& shape = place.shape;
  const i64 rows = names_rows ? static_cast<i64>(read.rows.size()) : workload.rows();
  if (shape.empty() || shape.back() < 1 || place.bytes == 0 || (shape.size() == 1 && rows != 1)) {
    reject("MP-E208", fmt::format("the shape is {}, must be [rows, columns]", shape_text(shape)), place.where,
           "a row of ids for each query row");
  }
  const i64 found = place.bytes / place.width / shape.back();
  if (found != rows) {
    reject("MP-E252",
           fmt::format("the shape {} has {} rows of ids, {} {}", shape_text(shape), found,
                       names_rows ? "topk_row names" : "the workload has", rows),
           place.where, "the workload that they were selected in, or a safetensors file with topk_row");
  }
  std::vector<i32> ids = numbers_at(file, place, max_bytes);
  file.check_unchanged();
  read.ids = HostTensor::from<i32>(ids, {rows, shape.back()});
  if (!names_rows) {
    read.rows.resize(static_cast<std::size_t>(rows));
    std::iota(read.rows.begin(), read.rows.end(), 0);
  }
  return read;
}

}  // namespace misa
