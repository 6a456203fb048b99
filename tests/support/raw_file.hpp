#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/workload/safetensors.hpp"
#include "tests/support/temporary.hpp"

namespace misa::testing {

/// A file's contents before they are written, to be spoiled by a test. Nothing is checked on the way out.
struct RawFile {
  struct Tensor {
    std::string dtype;
    std::vector<i64> shape;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;

  template <class T>
  void set(const std::string& name, const std::string& dtype, std::vector<i64> shape, const std::vector<T>& values) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
    tensors[name] = {dtype, std::move(shape), {bytes.begin(), bytes.end()}};
  }
  void integers(const std::string& name, std::vector<i64> shape, const std::vector<i32>& values) {
    set(name, "I32", std::move(shape), values);
  }
  /// Overwrites element `index` of a tensor of T.
  template <class T>
  void poke(const std::string& name, std::size_t index, T value) {
    std::memcpy(tensors.at(name).bytes.data() + index * sizeof(T), &value, sizeof(T));
  }
  void write(const std::string& path) const {
    std::vector<SafetensorsTensor> list;
    for (const auto& [name, tensor] : tensors) list.emplace_back(name, tensor.dtype, tensor.shape, tensor.bytes);
    write_safetensors(path, metadata, std::move(list));
  }
};

/// What reading a file gave: the id of its error, or "".
struct Outcome {
  std::string id, message;
};
template <class Read>
Outcome outcome_of(Read read) {
  try {
    read();
  } catch (const Error& error) {
    CHECK(error.kind() == (error.id() == "MP-E142" ? ErrorKind::runtime : ErrorKind::input));
    return {error.id(), std::string(error.what()) + "; " + error.where() + "; try: " + error.how()};
  }
  return {};
}
/// A change to a file, and the id of the error that it leads to.
struct Spoiled {
  const char* what;
  const char* id;
  std::function<void(RawFile&)> spoil;
};

/// Reads `good` as it is, and again after each of the changes, which must end with their ids.
inline void check_table(const std::vector<Spoiled>& table, const RawFile& good, Outcome (*read)(const RawFile&)) {
  REQUIRE(read(good).message == "");
  for (const Spoiled& row : table) {
    RawFile file = good;
    row.spoil(file);
    const Outcome outcome = read(file);
    INFO(row.what, ": ", outcome.message);
    CHECK(outcome.id == row.id);
  }
}
inline std::string bytes_of(const HostTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.storage.data()), static_cast<std::size_t>(tensor.bytes())};
}

}  // namespace misa::testing
