// INT8 and MXFP4 in files: what is written is read again, what stacks hold is read as it is, and what is wrong is
// refused.

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/workload/input_hash.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/synthetic.hpp"
#include "core/workload/trace.hpp"
#include "tests/support/raw_file.hpp"
#include "tests/support/temporary.hpp"

namespace misa {
namespace {

using testing::check_table;
using testing::Outcome;
using testing::outcome_of;
using testing::RawFile;
using testing::TemporaryPath;

constexpr i64 kPlenty = i64{1} << 32;
constexpr i64 kRows = 3, kHeads = 2, kDim = 64, kKeys = 9;

std::vector<u8> bytes(i64 count, u32 first = 1) {
  std::vector<u8> values;
  for (i64 i = 0; i < count; ++i) values.push_back(static_cast<u8>(first + 29 * static_cast<u32>(i)));
  return values;
}
/// UE8M0 bytes near 2^0, four for each vector.
std::vector<u8> scales(i64 vectors) {
  std::vector<u8> values;
  for (i64 i = 0; i < 4 * vectors; ++i) values.push_back(static_cast<u8>(120 + i % 9));
  return values;
}
std::vector<float> weights() { return std::vector<float>(kRows * kHeads, 0.5f); }

RawFile windows_of_three_rows() {
  RawFile file;
  file.metadata = {{"format", "misa-trace/1"}, {"provenance", "synthetic"}};
  file.set("weights", "F32", {kRows, kHeads}, weights());
  file.integers("q_pos", {kRows}, {2, 7, 8});
  file.integers("ks", {kRows}, {0, 0, 0});
  file.integers("ke", {kRows}, {3, 8, 9});
  return file;
}

/// MXFP4 as DeepGEMM is given it: bytes of two numbers, and a word of scales for each vector.
RawFile mxfp4_file() {
  RawFile file = windows_of_three_rows();
  file.set("q", "I8", {kRows, kHeads, kDim / 2}, bytes(kRows * kHeads * kDim / 2));
  file.set("q_block_scale", "I32", {kRows, kHeads}, scales(kRows * kHeads));
  file.set("k", "I8", {kKeys, kDim / 2}, bytes(kKeys * kDim / 2, 7));
  file.set("k_block_scale", "I32", {kKeys}, scales(kKeys));
  return file;
}

RawFile int8_file() {
  RawFile file = windows_of_three_rows();
  file.set("q", "I8", {kRows, kHeads, kDim}, bytes(kRows * kHeads * kDim));
  file.set("k", "I8", {kKeys, kDim}, bytes(kKeys * kDim, 3));
  file.set("k_scale", "F32", {kKeys}, std::vector<float>(kKeys, 0.25f));
  return file;
}

RawFile paged(RawFile file, i64 key_bytes) {
  for (const char* name : {"k", "k_scale", "k_block_scale", "q_pos", "ks", "ke"}) file.tensors.erase(name);
  file.set("k_pages", "U8", {2, 4, key_bytes}, std::vector<u8>(static_cast<std::size_t>(8 * key_bytes), 0x3C));
  file.integers("block_table", {kRows, 1}, {1, 0, 1});
  file.integers("seq_lens", {kRows}, {4, 3, 2});
  return file;
}

Workload read(const RawFile& file) {
  const TemporaryPath temporary;
  file.write(temporary.path);
  return read_trace(temporary.path, kPlenty);
}
Outcome outcome(const RawFile& file) {
  return outcome_of([&] { (void)read(file); });
}

}  // namespace

TEST_CASE("a generated INT8 or MXFP4 workload is the same after it was written and read") {
  for (const ValueFormat format : {ValueFormat::int8, ValueFormat::mxfp4}) {
    for (const Phase phase : {Phase::prefill, Phase::decode}) {
      for (const i64 dim : {32, 64, 128, 256}) {
        CAPTURE(value_format_name(format));
        CAPTURE(dim);
        const SyntheticRequest request{.heads = 3,
                                       .head_dim = dim,
                                       .format = format,
                                       .knobs = {},
                                       .phase = phase,
                                       .contexts = {70, 33},
                                       .rows = 5,
                                       .page_size = 16,
                                       .needles = {}};
        const Workload made = generate(request);
        CHECK(made.bytes() <= generated_bytes(request) + 4 * made.rows() * 8 + made.rows() * made.heads() * 8);
        const TemporaryPath temporary;
        write_trace(temporary.path, made);
        const Workload found = read_trace(temporary.path, kPlenty);
        CHECK(input_hash(found) == input_hash(made));
        CHECK(key_layout(found).dtype == element_dtype(format));
        CHECK(found.metadata == made.metadata);
        CHECK(input_hash(copy_of(found)) == input_hash(made));
      }
    }
  }
}

TEST_CASE("MXFP4 is read however its bytes and its scales are named") {
  const std::string expected = input_hash(read(mxfp4_file()));
  const auto same = [&](const char* what, const std::function<void(RawFile&)>& change) {
    INFO(what);
    RawFile file = mxfp4_file();
    change(file);
    CHECK(input_hash(read(file)) == expected);
  };
  same("numbers as U8", [](RawFile& f) { f.tensors["q"].dtype = f.tensors["k"].dtype = "U8"; });
  same("numbers as F4", [](RawFile& f) {
    f.tensors["q"] = {"F4", {kRows, kHeads, kDim}, f.tensors["q"].bytes};
    f.tensors["k"] = {"F4", {kKeys, kDim}, f.tensors["k"].bytes};
  });
  for (const char* dtype : {"U8", "F8_E8M0"}) {
    same("scales as bytes", [&](RawFile& f) {
      f.tensors["q_block_scale"] = {dtype, {kRows, kHeads, 4}, f.tensors["q_block_scale"].bytes};
      f.tensors["k_block_scale"] = {dtype, {kKeys, 4}, f.tensors["k_block_scale"].bytes};
    });
  }
  same("words with an axis of their own", [](RawFile& f) {
    f.tensors["q_block_scale"].shape = {kRows, kHeads, 1};
    f.tensors["k_block_scale"].shape = {kKeys, 1};
  });
  const Workload found = read(mxfp4_file());
  CHECK(found.q.shape == std::vector<i64>{kRows, kHeads, kDim});
  // The first byte of the queries is 1, and their first scale 2^-7.
  visit_queries(found, [](const auto& queries) {
    CHECK(to_float(queries(0, 0, 0)) == 0.5f * 0x1p-7f);
    CHECK(to_float(queries(0, 0, 1)) == 0.0f);
  });
}

TEST_CASE("pages of FP8, INT8 and MXFP4 are told apart by their bytes and their metadata") {
  CHECK(key_layout(read(paged(mxfp4_file(), kDim / 2 + 4))).dtype == Dtype::e2m1);
  RawFile int8 = paged(int8_file(), kDim + 4);
  CHECK(key_layout(read(int8)).dtype == Dtype::e4m3);
  const std::string as_fp8 = input_hash(read(int8));
  int8.metadata["k_pages_dtype"] = "I8";
  for (const char* dtype : {"U8", "I8"}) {
    int8.tensors["k_pages"].dtype = dtype;
    CHECK(key_layout(read(int8)).dtype == Dtype::int8);
    CHECK(input_hash(read(int8)) != as_fp8);
  }
}

TEST_CASE("INT8 and MXFP4 that contradict themselves are refused, each with its id") {
  const auto fp8_keys = [](RawFile& f) {
    f.set("k", "F8_E4M3", {kKeys, kDim}, std::vector<u8>(kKeys * kDim, 0x39));
    f.set("k_scale", "F32", {kKeys}, std::vector<float>(kKeys, 0.5f));
  };
  check_table(
      {
          {"no scales of the queries", "MP-E208", [](RawFile& f) { f.tensors.erase("q_block_scale"); }},
          {"no scales of the keys", "MP-E205", [](RawFile& f) { f.tensors.erase("k_block_scale"); }},
          {"no scales of F4", "MP-E560",
           [](RawFile& f) {
             f.tensors["q"] = {"F4", {kRows, kHeads, kDim}, f.tensors["q"].bytes};
             f.tensors.erase("q_block_scale");
           }},
          {"bytes that nothing names", "MP-E560",
           [](RawFile& f) {
             f.set("q", "U8", {kRows, kHeads, kDim}, bytes(kRows * kHeads * kDim));
             f.tensors.erase("q_block_scale");
           }},
          {"block scales of FP8 keys", "MP-E560", [&](RawFile& f) { fp8_keys(f); }},
          {"MXFP4 queries of FP8 keys", "MP-E561",
           [&](RawFile& f) {
             fp8_keys(f);
             f.tensors.erase("k_block_scale");
           }},
          {"a scale of each key besides", "MP-E209",
           [](RawFile& f) { f.set("k_scale", "F32", {kKeys}, std::vector<float>(kKeys, 0.5f)); }},
          {"a scale that is NaN", "MP-E562", [](RawFile& f) { f.poke<u8>("q_block_scale", 5, 255); }},
          {"a key's scale that is NaN", "MP-E562", [](RawFile& f) { f.poke<u8>("k_block_scale", 4 * 8 + 1, 255); }},
          {"numbers above f32", "MP-E562",
           [](RawFile& f) {
             f.poke<u8>("k_block_scale", 0, 254);
             f.poke<u8>("k", 3, 0x7F);
           }},
          {"a word too many", "MP-E208",
           [](RawFile& f) {
             f.set("q_block_scale", "I32", {kRows, kHeads, 2}, std::vector<u8>(kRows * kHeads * 8, 127));
           }},
          {"bytes that fill no words", "MP-E208",
           [](RawFile& f) {
             f.set("k_block_scale", "U8", {kKeys, 2}, std::vector<u8>(kKeys * 2, 127));
           }},
          {"scales in F32", "MP-E206",
           [](RawFile& f) { f.set("k_block_scale", "F32", {kKeys}, std::vector<float>(kKeys, 1.0f)); }},
          {"fewer numbers than the queries", "MP-E208",
           [](RawFile& f) {
             f.set("k", "I8", {kKeys, kDim / 4}, bytes(kKeys * kDim / 4));
           }},
      },
      mxfp4_file(), outcome);
  check_table(
      {
          {"no scales of INT8 keys", "MP-E205", [](RawFile& f) { f.tensors.erase("k_scale"); }},
          {"a scale of 0", "MP-E220", [](RawFile& f) { f.poke<float>("k_scale", 2, 0.0f); }},
      },
      int8_file(), outcome);
  check_table(
      {
          {"a page of other width", "MP-E208",
           [](RawFile& f) {
             f.set("k_pages", "U8", {2, 4, kDim / 2 + 5}, std::vector<u8>(8 * (kDim / 2 + 5)));
           }},
          {"pages of FP8", "MP-E561",
           [](RawFile& f) {
             f.set("k_pages", "U8", {2, 4, kDim + 4}, std::vector<u8>(8 * (kDim + 4), 0x3C));
           }},
          {"another dtype of pages", "MP-E213", [](RawFile& f) { f.metadata["k_pages_dtype"] = "INT4"; }},
          {"block scales beside the pages", "MP-E209",
           [](RawFile& f) { f.set("k_block_scale", "I32", {kKeys}, scales(kKeys)); }},
          {"a scale of a page that is NaN", "MP-E562",
           [](RawFile& f) { f.poke<u8>("k_pages", 4 * (kDim / 2 + 4) + 4 * kDim / 2, 255); }},
      },
      paged(mxfp4_file(), kDim / 2 + 4), outcome);
}

TEST_CASE("a scale of a key that no row sees may be anything, but its mean is not") {
  RawFile file = mxfp4_file();
  file.integers("ke", {kRows}, {3, 7, 8});
  file.integers("q_pos", {kRows}, {2, 6, 7});
  file.poke<u8>("k_block_scale", 4 * 8, 255);
  const Workload found = read(file);
  CHECK(outcome_of([&] { check_unseen_keys(found, "here"); }).id == "MP-E255");
}

}  // namespace misa
