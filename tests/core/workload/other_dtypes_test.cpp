#include "core/workload/other_dtypes.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/trace.hpp"
#include "tests/support/raw_file.hpp"
#include "tests/support/temporary.hpp"
#include "tests/support/to_f16.hpp"

namespace misa {
namespace {

using testing::Outcome;
using testing::outcome_of;
using testing::RawFile;
using testing::TemporaryPath;

constexpr i64 kPlenty = i64{1} << 32;
constexpr i64 kRows = 3, kHeads = 2, kDim = 32, kKeys = 9;

/// Numbers that bf16 and f16 hold, so that every float dtype can store them.
std::vector<float> numbers(i64 count, float step) {
  std::vector<float> values;
  for (i64 i = 0; i < count; ++i) values.push_back(static_cast<float>(i % 13 + 1) * step);
  return values;
}
std::vector<u16> bf16_of(const std::vector<float>& values) {
  std::vector<u16> bits;
  for (const float value : values) bits.push_back(to_bf16(value).bits);
  return bits;
}
std::vector<u16> f16_of(const std::vector<float>& values) {
  std::vector<u16> bits;
  for (const float value : values) bits.push_back(to_f16(value).bits);
  return bits;
}
std::vector<i64> wide(const std::vector<i32>& values) { return {values.begin(), values.end()}; }

RawFile contiguous_file() {
  RawFile file;
  file.metadata = {{"format", "misa-trace/1"}, {"provenance", "synthetic"}};
  file.set("q", "F32", {kRows, kHeads, kDim}, numbers(kRows * kHeads * kDim, 0.5f));
  file.set("weights", "F32", {kRows, kHeads}, numbers(kRows * kHeads, -0.25f));
  file.set("k", "F8_E4M3", {kKeys, kDim}, std::vector<u8>(kKeys * kDim, 0x39));
  file.set("k_scale", "F32", {kKeys}, numbers(kKeys, 0.125f));
  file.integers("q_pos", {kRows}, {2, 7, 8});
  file.integers("ks", {kRows}, {0, 0, 0});
  file.integers("ke", {kRows}, {3, 8, 9});
  file.integers("topk", {kRows, 2}, {2, 0, 7, 1, 5, -1});
  return file;
}

RawFile paged_file() {
  RawFile file = contiguous_file();
  for (const char* name : {"k", "k_scale", "q_pos", "ks", "ke", "topk"}) file.tensors.erase(name);
  file.set("k_pages", "U8", {2, 4, kDim + 4}, std::vector<u8>(2 * 4 * (kDim + 4), 0x3C));
  file.integers("block_table", {kRows, 1}, {1, 0, 1});
  file.integers("seq_lens", {kRows}, {4, 3, 2});
  return file;
}

struct Change {
  const char* what;
  RawFile (*file)();
  std::function<void(RawFile&)> make;
};

Workload workload_of(const RawFile& file) {
  const TemporaryPath temporary;
  file.write(temporary.path);
  return read_trace(temporary.path, kPlenty);
}

std::function<void(RawFile&)> reshaped(const char* name, std::vector<i64> shape) {
  return [name, shape = std::move(shape)](RawFile& f) { f.tensors[name].shape = shape; };
}
std::function<void(RawFile&)> as_i64(const char* name, std::vector<i64> shape, std::vector<i32> values) {
  return [name, shape = std::move(shape), values = std::move(values)](RawFile& f) {
    f.set(name, "I64", shape, wide(values));
  };
}

}  // namespace

TEST_CASE("dtypes and shapes of other writers are read where their meaning is plain") {
  const std::vector<Change> changes{
      {"weights in bf16", contiguous_file,
       [](RawFile& f) {
         f.set("weights", "BF16", {kRows, kHeads}, bf16_of(numbers(kRows * kHeads, -0.25f)));
       }},
      {"weights in f16", contiguous_file,
       [](RawFile& f) {
         f.set("weights", "F16", {kRows, kHeads}, f16_of(numbers(kRows * kHeads, -0.25f)));
       }},
      {"queries in f16", contiguous_file,
       [](RawFile& f) {
         f.set("q", "F16", {kRows, kHeads, kDim}, f16_of(numbers(kRows * kHeads * kDim, 0.5f)));
       }},
      {"ks in I64", contiguous_file, as_i64("ks", {kRows}, {0, 0, 0})},
      {"ke in I64", contiguous_file, as_i64("ke", {kRows}, {3, 8, 9})},
      {"q_pos in I64, in a batch", contiguous_file, as_i64("q_pos", {1, kRows}, {2, 7, 8})},
      {"topk in I64, in a batch", contiguous_file, as_i64("topk", {1, kRows, 2}, {2, 0, 7, 1, 5, -1})},
      {"queries in a batch", contiguous_file, reshaped("q", {1, kRows, kHeads, kDim})},
      {"queries of one row for each sequence", paged_file, reshaped("q", {kRows, 1, kHeads, kDim})},
      {"weights of one row for each sequence", paged_file, reshaped("weights", {kRows, 1, kHeads})},
      {"topk of one row for each sequence", contiguous_file, reshaped("topk", {kRows, 1, 2})},
      {"weights in a batch", contiguous_file, reshaped("weights", {1, kRows, kHeads})},
      {"weights of one column per head", contiguous_file, reshaped("weights", {kRows, kHeads, 1})},
      {"keys in a batch", contiguous_file, reshaped("k", {1, kKeys, kDim})},
      {"scales as a column", contiguous_file, reshaped("k_scale", {kKeys, 1})},
      {"scales in a batch", contiguous_file, reshaped("k_scale", {1, kKeys})},
      {"pages of signed bytes", paged_file, [](RawFile& f) { f.tensors["k_pages"].dtype = "I8"; }},
      {"pages that say FP8", paged_file, [](RawFile& f) { f.tensors["k_pages"].dtype = "F8_E4M3"; }},
      {"pages of one key head", paged_file, reshaped("k_pages", {2, 4, 1, kDim + 4})},
      {"a table in I64", paged_file, as_i64("block_table", {kRows, 1}, {1, 0, 1})},
      {"lengths in I64, as a column", paged_file, as_i64("seq_lens", {kRows, 1}, {4, 3, 2})},
  };
  for (const Change& change : changes) {
    INFO(change.what);
    const Workload plain = workload_of(change.file());
    RawFile file = change.file();
    change.make(file);
    const Workload read = workload_of(file);
    CHECK(input_hash(read) == input_hash(plain));
    CHECK(read.topk.shape == plain.topk.shape);
    CHECK(testing::bytes_of(read.topk) == testing::bytes_of(plain.topk));
  }
}

TEST_CASE("dtypes and shapes that could mean something else are refused") {
  const std::vector<testing::Spoiled> table{
      {"ids that I32 does not hold", "MP-E206",
       [](RawFile& f) {
         f.set("ke", "I64", {kRows}, std::vector<i64>{3, 8, (i64{1} << 32) + 9});
       }},
      {"ids below what I32 holds", "MP-E206",
       [](RawFile& f) {
         f.set("ks", "I64", {kRows}, std::vector<i64>{0, -(i64{1} << 32), 0});
       }},
      {"queries of 16 bits", "MP-E206",
       [](RawFile& f) {
         f.set("q", "I16", {kRows, kHeads, kDim}, std::vector<u16>(kRows * kHeads * kDim));
       }},
      {"weights in f64", "MP-E206",
       [](RawFile& f) {
         f.set("weights", "F64", {kRows, kHeads}, std::vector<double>(kRows * kHeads));
       }},
      {"positions in I16", "MP-E206",
       [](RawFile& f) {
         f.set("q_pos", "I16", {kRows}, std::vector<u16>{2, 7, 8});
       }},
      {"a batch of two", "MP-E208",
       [](RawFile& f) {
         f.tensors["q"].shape = {2, kRows, kHeads, kDim / 2};
       }},
      {"a batch of a batch", "MP-E208",
       [](RawFile& f) {
         f.tensors["q"].shape = {1, 1, kRows, kHeads, kDim};
       }},
      {"scales in two dimensions", "MP-E208",
       [](RawFile& f) {
         f.tensors["k_scale"].shape = {3, kKeys / 3};
       }},
  };
  testing::check_table(table, contiguous_file(), [](const RawFile& file) {
    const TemporaryPath temporary;
    file.write(temporary.path);
    return outcome_of([&] { (void)read_trace(temporary.path, kPlenty); });
  });
}

TEST_CASE("memory for a copy in another dtype counts against the limit") {
  RawFile file = contiguous_file();
  const TemporaryPath temporary;
  const auto least = [&] {  // bytes with which the file is read
    file.write(temporary.path);
    i64 low = 0, high = 1 << 20;
    while (low + 1 < high) {
      const i64 middle = (low + high) / 2;
      (outcome_of([&] { (void)read_trace(temporary.path, middle); }).id.empty() ? high : low) = middle;
    }
    return high;
  };
  const i64 before = least();
  file.set("q", "F16", {kRows, kHeads, kDim}, f16_of(numbers(kRows * kHeads * kDim, 0.5f)));
  CHECK(least() == before + kRows * kHeads * kDim * 2);
  file.set("ks", "I64", {kRows}, std::vector<i64>{0, 0, 0});
  CHECK(least() == before + kRows * kHeads * kDim * 2 + kRows * 8);
}

}  // namespace misa
