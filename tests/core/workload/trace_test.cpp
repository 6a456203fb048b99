#include "core/workload/trace.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/subset.hpp"
#include "tests/support/raw_file.hpp"
#include "tests/support/recorded_traces.hpp"
#include "tests/support/temporary.hpp"

namespace misa {
namespace {

constexpr i64 kPlenty = i64{1} << 32;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using testing::bytes_of;
using testing::check_table;
using testing::Outcome;
using testing::outcome_of;
using testing::RawFile;
using testing::Spoiled;
using testing::TemporaryPath;

std::vector<u8> fp8_codes(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<u8> codes(count);
  for (u8& code : codes) {
    do code = static_cast<u8>(random());
    while ((code & 0x7F) == 0x7F);
  }
  return codes;
}

std::vector<float> reals(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random() % 1000 + 1) / 1000.0f;
  return values;
}

constexpr i64 kRows = 4, kHeads = 2, kDim = 32, kKeys = 12;

/// Two sequences of 8 and 4 tokens, rows at their positions 2, 7 and 0, 3; every optional tensor.
RawFile contiguous_file() {
  RawFile file;
  file.metadata = {{"format", "misa-trace/1"},
                   {"provenance", "synthetic"},
                   {"index_n_heads", "2"},
                   {"index_head_dim", "32"},
                   {"index_topk", "4"}};
  file.set("q", "F8_E4M3", {kRows, kHeads, kDim}, fp8_codes(kRows * kHeads * kDim, 1));
  file.set("weights", "F32", {kRows, kHeads}, reals(kRows * kHeads, 2));
  file.set("q_scale", "F32", {kRows, kHeads}, reals(kRows * kHeads, 3));
  file.set("q_norm", "F32", {kRows, kHeads}, reals(kRows * kHeads, 4));
  file.set("k", "F8_E4M3", {kKeys, kDim}, fp8_codes(kKeys * kDim, 5));
  file.set("k_scale", "F32", {kKeys}, reals(kKeys, 6));
  file.integers("q_pos", {kRows}, {2, 7, 0, 3});
  file.integers("ks", {kRows}, {0, 0, 8, 8});
  file.integers("ke", {kRows}, {3, 8, 9, 12});
  file.set("attention_mass", "F16", {2, kKeys}, std::vector<u16>(2 * kKeys, 0x2C00));
  file.integers("attention_mass_row", {2}, {3, 1});
  file.integers("needle", {1, 4}, {1, 2, 6, 2});
  file.integers("topk", {2, 4}, {7, 0, 3, -1, 0, -1, -1, -1});
  file.integers("topk_row", {2}, {1, 2});
  return file;
}

constexpr i64 kPages = 4, kPageSize = 4, kPageBytes = kPageSize * (kDim + 4);

/// Two sequences of 6 and 3 tokens, two rows each. Page 2 is not used, page 3 half, page 0 but for one token: what is
/// not used holds NaN.
RawFile paged_file() {
  RawFile file;
  file.metadata = {{"format", "misa-trace/1"}, {"provenance", "synthetic"}};
  file.set("q", "F8_E4M3", {kRows, kHeads, kDim}, fp8_codes(kRows * kHeads * kDim, 1));
  file.set("weights", "F32", {kRows, kHeads}, reals(kRows * kHeads, 2));
  std::vector<u8> pages(kPages * kPageBytes, 0xFF);
  const std::vector<u8> codes = fp8_codes(kPageSize * kDim, 7);
  const std::vector<i64> used{3, 4, 0, 2};
  for (i64 page = 0; page < kPages; ++page) {
    u8* data = pages.data() + page * kPageBytes;
    const i64 tokens = used[static_cast<std::size_t>(page)];
    std::copy_n(codes.begin(), tokens * kDim, data);
    for (i64 t = 0; t < tokens; ++t) {
      const float scale = 0.25f * static_cast<float>(t + 1);
      std::memcpy(data + kPageSize * kDim + t * 4, &scale, 4);
    }
  }
  file.set("k_pages", "U8", {kPages, kPageSize, kDim + 4}, pages);
  file.integers("block_table", {2, 2}, {1, 3, 0, -1});
  file.integers("seq_lens", {2}, {6, 3});
  return file;
}

Outcome trace_outcome(const RawFile& file, i64 max_bytes = kPlenty) {
  const TemporaryPath temporary;
  file.write(temporary.path);
  return outcome_of([&] { (void)read_trace(temporary.path, max_bytes); });
}
Outcome read_plenty(const RawFile& file) { return trace_outcome(file); }

void add_integers_for_paged(RawFile& file) {
  file.integers("ks", {4}, {0, 0, 0, 0});
  file.integers("ke", {4}, {5, 6, 2, 3});
  file.integers("q_pos", {4}, {4, 5, 1, 2});
}

/// Names of the tensors that differ between two files, both ways.
std::vector<std::string> differing_tensors(const std::string& a, const std::string& b) {
  const InputFile first(a), second(b);
  const SafetensorsHeader left = read_safetensors_header(first), right = read_safetensors_header(second);
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : left.tensors) {
    const SafetensorsEntry* other = right.find(entry.name);
    if (other == nullptr || other->dtype != entry.dtype || other->shape != entry.shape ||
        bytes_of(read_tensor(first, left, entry, kPlenty)) != bytes_of(read_tensor(second, right, *other, kPlenty))) {
      names.push_back(entry.name);
    }
  }
  for (const SafetensorsEntry& entry : right.tensors) {
    if (left.find(entry.name) == nullptr) names.push_back(entry.name);
  }
  return names;
}

}  // namespace

TEST_CASE("a recorded workload is read with everything it holds") {
  const TemporaryPath temporary;
  contiguous_file().write(temporary.path);
  std::vector<Warning> warnings;
  const Workload w = read_trace(temporary.path, kPlenty, &warnings);
  CHECK(warnings.empty());
  CHECK(w.name == std::filesystem::path(temporary.path).stem().string());
  CHECK(w.rows() == kRows);
  CHECK(w.heads() == kHeads);
  CHECK(w.head_dim() == kDim);
  CHECK(w.keys() == kKeys);
  CHECK_FALSE(w.paged());
  CHECK(w.sequence == std::vector<i32>{0, 0, 1, 1});
  CHECK(w.ks == std::vector<i32>{0, 0, 8, 8});
  CHECK(w.ke == std::vector<i32>{3, 8, 9, 12});
  CHECK(w.q_pos == std::vector<i32>{2, 7, 0, 3});
  CHECK(w.attention_mass_row == std::vector<i32>{3, 1});
  CHECK(w.topk_row == std::vector<i32>{1, 2});
  REQUIRE(w.needles.size() == 1);
  CHECK(w.needles[0].question_start == 6);
  CHECK(w.metadata.at("index_topk") == "4");
}

TEST_CASE("sequences are numbered as their first row appears") {
  RawFile file = contiguous_file();
  file.integers("q_pos", {kRows}, {0, 2, 3, 7});
  file.integers("ks", {kRows}, {8, 0, 8, 0});
  file.integers("ke", {kRows}, {9, 3, 12, 8});
  file.tensors.erase("topk");
  file.tensors.erase("topk_row");
  const TemporaryPath temporary;
  file.write(temporary.path);
  CHECK(read_trace(temporary.path, kPlenty).sequence == std::vector<i32>{0, 1, 0, 1});
}

TEST_CASE("the windows of a paged workload follow from its lengths, and unused pages may hold anything") {
  const TemporaryPath temporary;
  paged_file().write(temporary.path);
  std::vector<Warning> warnings;
  const Workload w = read_trace(temporary.path, kPlenty, &warnings);
  CHECK(warnings.empty());
  CHECK(w.paged());
  CHECK(w.next_n == 2);
  CHECK(w.sequence == std::vector<i32>{0, 0, 1, 1});
  CHECK(w.ks == std::vector<i32>{0, 0, 0, 0});
  CHECK(w.ke == std::vector<i32>{5, 6, 2, 3});
  CHECK(w.q_pos == std::vector<i32>{4, 5, 1, 2});
}

TEST_CASE("a paged sequence without tokens has rows that see nothing") {
  RawFile file = paged_file();
  file.integers("seq_lens", {2}, {6, 0});
  file.integers("block_table", {2, 2}, {1, 3, -1, -1});
  const TemporaryPath temporary, again;
  file.write(temporary.path);
  const Workload w = read_trace(temporary.path, kPlenty);
  CHECK(w.ke == std::vector<i32>{5, 6, 0, 0});
  CHECK(w.q_pos == std::vector<i32>{4, 5, -1, -1});
  write_trace(again.path, w);
  CHECK(read_trace(again.path, kPlenty).ke == w.ke);
}

TEST_CASE("entries of several tokens: positions and lengths count tokens, windows entries, contiguous and paged") {
  for (const i64 ratio : {2, 4}) {
    CAPTURE(ratio);
    const i32 r = static_cast<i32>(ratio);
    RawFile pages = paged_file(), flat = contiguous_file();
    pages.metadata["compress_ratio"] = flat.metadata["compress_ratio"] = std::to_string(ratio);
    pages.integers("seq_lens", {2}, {6 * r + 1, 3 * r});  // the second sequence ends with a whole entry
    flat.integers("q_pos", {kRows}, {3 * r - 1, 9 * r - 2, r - 2, 4 * r});
    flat.integers("ke", {kRows}, {3, 8, 8, 12});  // the third row sees nothing
    flat.integers("topk", {2, 4}, {7, 0, 3, -1, -1, -1, -1, -1});
    const TemporaryPath first, second, again;
    pages.write(first.path);
    const Workload paged = read_trace(first.path, kPlenty);
    CHECK(paged.compress_ratio == ratio);
    CHECK(paged.q_pos == std::vector<i32>{6 * r - 1, 6 * r, 3 * r - 2, 3 * r - 1});
    CHECK(paged.ke == std::vector<i32>{6, 6, 2, 3});
    flat.write(second.path);
    const Workload contiguous = read_trace(second.path, kPlenty);
    CHECK(contiguous.compress_ratio == ratio);
    CHECK(contiguous.metadata.count("compress_ratio") == 0);
    for (const Workload* one : {&paged, &contiguous}) {
      write_trace(again.path, *one);
      const Workload back = read_trace(again.path, kPlenty);
      CHECK(back.compress_ratio == ratio);
      CHECK(back.ke == one->ke);
      // Rows whose windows are cut keep positions that agree with them.
      const std::vector<i64> rows{0, 1, 2, 3}, heads{0};
      for (i64 window = 1; window <= 8; ++window) {
        const Workload cut = take(*one, rows, heads, window);
        CHECK_NOTHROW(check_workload(cut, "cut"));
        for (std::size_t m = 0; m < 4; ++m) {
          const i64 length = one->ke[m] - one->ks[m], after = one == &paged && m == 2 ? 1 : 0;
          CHECK(cut.ke[m] - cut.ks[m] == std::min(length, std::max<i64>(0, window - after)));
        }
      }
    }
    flat.poke<i32>("q_pos", 1, 9 * r - 1);  // a ninth entry is whole there
    CHECK(trace_outcome(flat).id == "MP-E232");
    pages.integers("seq_lens", {2}, {9 * r, 3 * r});
    CHECK(trace_outcome(pages).id == "MP-E235");
    pages.integers("seq_lens", {2}, {9 * r - 1, 3 * r});  // fits, but the last two slots hold NaN
    CHECK(trace_outcome(pages).id == "MP-E220");
  }
}

TEST_CASE("paged keys may be bf16, without scales") {
  RawFile file = paged_file();
  file.set("k_pages", "BF16", {kPages, kPageSize, kDim}, std::vector<u16>(kPages * kPageSize * kDim, 0x3F80));
  CHECK(trace_outcome(file).message == "");
  file.poke<u16>("k_pages", kPageSize * kDim, 0x7FC0);  // page 1, its first token
  CHECK(trace_outcome(file).id == "MP-E221");
}

TEST_CASE("power-of-two scales are widened exactly") {
  RawFile file = contiguous_file();
  std::vector<u8> codes(kKeys, 127);
  codes[1] = 0;    // 2^-127, a subnormal f32
  codes[2] = 254;  // 2^127
  codes[3] = 120;
  file.set("k_scale", "F8_E8M0", {kKeys}, codes);
  const TemporaryPath temporary;
  file.write(temporary.path);
  const Workload w = read_trace(temporary.path, kPlenty);
  CHECK(w.k_scale.dtype == Dtype::f32);
  const std::span<const float> scales = w.k_scale.span<float>();
  CHECK(scales[0] == 1.0f);
  CHECK(scales[1] == std::ldexp(1.0f, -127));
  CHECK(scales[2] == std::ldexp(1.0f, 127));
  CHECK(scales[3] == std::ldexp(1.0f, -7));
  file.poke<u8>("k_scale", 5, 0xFF);
  CHECK(trace_outcome(file).id == "MP-E220");
}

TEST_CASE("queries and keys may be bf16 or f32, without scales") {
  for (const char* dtype : {"BF16", "F32"}) {
    INFO(dtype);
    RawFile file = contiguous_file();
    file.tensors.erase("k_scale");
    const std::string name = dtype;
    const auto fill = [&](const std::string& tensor, std::vector<i64> shape, std::size_t count) {
      if (name == "BF16") {
        file.set(tensor, name, std::move(shape), std::vector<u16>(count, 0xBF80));
      } else {
        file.set(tensor, name, std::move(shape), std::vector<float>(count, -1));
      }
    };
    fill("q", {kRows, kHeads, kDim}, kRows * kHeads * kDim);
    fill("k", {kKeys, kDim}, kKeys * kDim);
    CHECK(trace_outcome(file).message == "");
    // The last element of the last row, and infinity rather than NaN.
    for (const char* tensor : {"q", "k"}) {
      RawFile spoiled = file;
      const std::size_t last = spoiled.tensors.at(tensor).bytes.size() / (name == "BF16" ? 2 : 4) - 1;
      if (name == "BF16") {
        spoiled.poke<u16>(tensor, last, 0xFF80);
      } else {
        spoiled.poke(tensor, last, -kInfinity);
      }
      CHECK(trace_outcome(spoiled).id == "MP-E221");
    }
  }
}

TEST_CASE("what contradicts the format is refused, each with its own id") {
  const std::vector<Spoiled> table{
      {"no format", "MP-E201", [](RawFile& f) { f.metadata.erase("format"); }},
      {"another format", "MP-E201", [](RawFile& f) { f.metadata["format"] = "pt"; }},
      {"a later version", "MP-E202", [](RawFile& f) { f.metadata["format"] = "misa-trace/2"; }},
      {"a version that begins alike", "MP-E202", [](RawFile& f) { f.metadata["format"] = "misa-trace/10"; }},
      {"a selection", "MP-E203", [](RawFile& f) { f.metadata["kind"] = "selection"; }},
      {"an unknown kind", "MP-E203", [](RawFile& f) { f.metadata["kind"] = "mystery"; }},
      {"an unknown tensor", "MP-E204", [](RawFile& f) { f.integers("wieghts", {1}, {0}); }},
      {"no q", "MP-E205", [](RawFile& f) { f.tensors.erase("q"); }},
      {"no weights", "MP-E205", [](RawFile& f) { f.tensors.erase("weights"); }},
      {"no keys", "MP-E205", [](RawFile& f) { f.tensors.erase("k"); }},
      {"no k_scale", "MP-E205", [](RawFile& f) { f.tensors.erase("k_scale"); }},
      {"no q_pos", "MP-E205", [](RawFile& f) { f.tensors.erase("q_pos"); }},
      {"no ks", "MP-E205", [](RawFile& f) { f.tensors.erase("ks"); }},
      {"no ke", "MP-E205", [](RawFile& f) { f.tensors.erase("ke"); }},
      {"queries as bytes", "MP-E560", [](RawFile& f) { f.tensors["q"].dtype = "U8"; }},
      {"queries as E5M2", "MP-E206", [](RawFile& f) { f.tensors["q"].dtype = "F8_E5M2"; }},
      {"positions as F32", "MP-E206", [](RawFile& f) { f.tensors["q_pos"].dtype = "F32"; }},
      {"FNUZ keys", "MP-E207", [](RawFile& f) { f.tensors["k"].dtype = "F8_E4M3FNUZ"; }},
      {"FNUZ in words", "MP-E207", [](RawFile& f) { f.metadata["k_quant"] = "E4M3FNUZ, f32 scale"; }},
      {"queries of rank 2", "MP-E208",
       [](RawFile& f) {
         f.tensors["q"].shape = {kRows, kHeads * kDim};
       }},
      {"weights transposed", "MP-E208",
       [](RawFile& f) {
         f.tensors["weights"].shape = {kHeads, kRows};
       }},
      {"keys of another dimension", "MP-E208",
       [](RawFile& f) {
         f.tensors["k"].shape = {kKeys / 2, kDim * 2};
       }},
      {"a scale too few", "MP-E208", [](RawFile& f) { f.set("k_scale", "F32", {11}, reals(11, 1)); }},
      {"a position too few", "MP-E208",
       [](RawFile& f) {
         f.integers("q_pos", {3}, {2, 7, 0});
       }},
      {"mass of too few tokens", "MP-E208",
       [](RawFile& f) {
         f.tensors["attention_mass"].shape = {4, 6};
       }},
      {"mass without its rows", "MP-E208", [](RawFile& f) { f.tensors.erase("attention_mass_row"); }},
      {"topk without its rows", "MP-E208", [](RawFile& f) { f.tensors.erase("topk_row"); }},
      {"needles of three columns", "MP-E208",
       [](RawFile& f) {
         f.integers("needle", {1, 3}, {1, 2, 6});
       }},
      {"rows without their mass", "MP-E209", [](RawFile& f) { f.tensors.erase("attention_mass"); }},
      {"contiguous and paged keys", "MP-E209",
       [](RawFile& f) { f.tensors["k_pages"] = paged_file().tensors["k_pages"]; }},
      {"a block table of contiguous keys", "MP-E209",
       [](RawFile& f) {
         f.integers("block_table", {1, 1}, {0});
       }},
      {"lengths of contiguous keys", "MP-E209", [](RawFile& f) { f.integers("seq_lens", {1}, {1}); }},
      {"scales of BF16 keys", "MP-E209",
       [](RawFile& f) {
         f.set("k", "BF16", {kKeys, kDim}, std::vector<u16>(kKeys * kDim, 0));
       }},
      {"no heads", "MP-E210",
       [](RawFile& f) {
         f.set("q", "F8_E4M3", {kRows, 0, kDim}, std::vector<u8>());
         f.set("weights", "F32", {kRows, 0}, std::vector<u8>());
       }},
      {"129 heads", "MP-E210",
       [](RawFile& f) {
         f.set("q", "F8_E4M3", {1, 129, 32}, std::vector<u8>(129 * 32, 0));
       }},
      {"a head dimension of 96", "MP-E211",
       [](RawFile& f) {
         f.set("q", "F8_E4M3", {4, 2, 96}, std::vector<u8>(4 * 2 * 96, 0));
       }},
      {"no rows", "MP-E212",
       [](RawFile& f) {
         f.set("q", "F8_E4M3", {0, 2, 32}, std::vector<u8>());
       }},
      {"no tokens", "MP-E212",
       [](RawFile& f) {
         f.set("k", "F8_E4M3", {0, 32}, std::vector<u8>());
       }},
      {"an unknown provenance", "MP-E213", [](RawFile& f) { f.metadata["provenance"] = "real"; }},
      {"a number that is none", "MP-E213", [](RawFile& f) { f.metadata["index_topk"] = "2048 tokens"; }},
      {"an index_topk of zero", "MP-E213", [](RawFile& f) { f.metadata["index_topk"] = "0"; }},
      {"another head dimension", "MP-E213", [](RawFile& f) { f.metadata["index_head_dim"] = "128"; }},
      {"a scale of zero", "MP-E220", [](RawFile& f) { f.poke("k_scale", 11, 0.0f); }},
      {"a negative scale", "MP-E220", [](RawFile& f) { f.poke("k_scale", 0, -1.0f); }},
      {"an infinite scale", "MP-E220", [](RawFile& f) { f.poke("k_scale", 3, kInfinity); }},
      {"a NaN scale", "MP-E220", [](RawFile& f) { f.poke("k_scale", 3, kNan); }},
      {"a positive FP8 NaN in k", "MP-E221", [](RawFile& f) { f.poke<u8>("k", 0, 0x7F); }},
      {"a negative FP8 NaN in k", "MP-E221", [](RawFile& f) { f.poke<u8>("k", kKeys * kDim - 1, 0xFF); }},
      {"an FP8 NaN in q", "MP-E221", [](RawFile& f) { f.poke<u8>("q", 37, 0x7F); }},
      {"a NaN gate", "MP-E222", [](RawFile& f) { f.poke("weights", 7, kNan); }},
      {"an infinite gate", "MP-E222", [](RawFile& f) { f.poke("weights", 0, -kInfinity); }},
      {"a query scale of zero", "MP-E223", [](RawFile& f) { f.poke("q_scale", 1, 0.0f); }},
      {"a negative query norm", "MP-E223", [](RawFile& f) { f.poke("q_norm", 1, -1.0f); }},
      {"a NaN query norm", "MP-E223", [](RawFile& f) { f.poke("q_norm", 1, kNan); }},
      {"a window before the keys", "MP-E230",
       [](RawFile& f) {
         f.poke<i32>("ks", 0, -1);
         f.poke<i32>("ke", 0, 2);
       }},
      {"a window behind the keys", "MP-E230",
       [](RawFile& f) {
         f.poke<i32>("q_pos", 3, 4);
         f.poke<i32>("ke", 3, 13);
       }},
      {"a window that begins behind the keys", "MP-E230", [](RawFile& f) { f.poke<i32>("ks", 3, 12); }},
      {"a window that runs backwards", "MP-E231", [](RawFile& f) { f.poke<i32>("ke", 2, 7); }},
      {"an empty window", "MP-E231",
       [](RawFile& f) {
         f.poke<i32>("ke", 2, 8);
         f.poke<i32>("q_pos", 2, -1);
       }},
      {"a window without the row's own token", "MP-E232", [](RawFile& f) { f.poke<i32>("ke", 1, 7); }},
      {"positions that count from the buffer", "MP-E232", [](RawFile& f) { f.poke<i32>("q_pos", 3, 11); }},
      {"the greatest position", "MP-E232",
       [](RawFile& f) { f.poke<i32>("q_pos", 3, std::numeric_limits<i32>::max()); }},
      {"a token twice", "MP-E240", [](RawFile& f) { f.poke<i32>("topk", 1, 7); }},
      {"a token that does not exist", "MP-E241", [](RawFile& f) { f.poke<i32>("topk", 4, 4); }},
      {"a token of -2", "MP-E241", [](RawFile& f) { f.poke<i32>("topk", 0, -2); }},
      {"a token of the future", "MP-E242", [](RawFile& f) { f.poke<i32>("topk", 4, 1); }},
      {"a pad in the middle", "MP-E243", [](RawFile& f) { f.poke<i32>("topk", 1, -1); }},
      {"a topk row that does not exist", "MP-E244", [](RawFile& f) { f.poke<i32>("topk_row", 1, 4); }},
      {"a topk row twice", "MP-E244", [](RawFile& f) { f.poke<i32>("topk_row", 1, 1); }},
      {"a mass row of -1", "MP-E244", [](RawFile& f) { f.poke<i32>("attention_mass_row", 0, -1); }},
      {"an answer before its needle", "MP-E245",
       [](RawFile& f) {
         f.integers("needle", {1, 6}, {1, 2, 6, 2, 0, 2});
       }},
      {"an answer that reaches beyond its needle", "MP-E245",
       [](RawFile& f) {
         f.integers("needle", {1, 6}, {1, 2, 6, 2, 2, 2});
       }},
      {"an answer of no tokens", "MP-E245",
       [](RawFile& f) {
         f.integers("needle", {1, 6}, {1, 2, 6, 2, 1, 0});
       }},
      {"needles of five columns", "MP-E208",
       [](RawFile& f) {
         f.integers("needle", {1, 5}, {1, 2, 6, 2, 1});
       }},
      {"an arithmetic that is not known", "MP-E213", [](RawFile& f) { f.metadata["topk_arithmetic"] = "fp7"; }},
      {"a ratio of compression that is no number", "MP-E213", [](RawFile& f) { f.metadata["compress_ratio"] = "0"; }},
      {"runs of candidates without candidates", "MP-E566", [](RawFile& f) { f.metadata["candidate_length"] = "8"; }},
      {"a length of runs that is no number", "MP-E213", [](RawFile& f) { f.metadata["candidate_length"] = "-8"; }},
      {"candidates of too few rows", "MP-E208",
       [](RawFile& f) {
         f.integers("candidates", {1, 2}, {0, 1});
       }},
      {"a candidate that no row sees", "MP-E242",
       [](RawFile& f) {
         f.integers("candidates", {kRows, 1}, std::vector<i32>(kRows, kKeys));
       }},
      {"candidates that do not ascend", "MP-E251",
       [](RawFile& f) {
         std::vector<i32> ids(2 * kRows, -1);
         for (i64 m = 0; m < kRows; ++m) ids[static_cast<std::size_t>(2 * m)] = 0;
         ids[2 * kRows - 2] = 1;
         ids[2 * kRows - 1] = 0;
         f.integers("candidates", {kRows, 2}, ids);
       }},
      {"positions that count keys where the ratio is given", "MP-E232",
       [](RawFile& f) { f.metadata["compress_ratio"] = "4"; }},
      {"a needle before the keys", "MP-E245", [](RawFile& f) { f.poke<i32>("needle", 0, -1); }},
      {"a needle of no tokens", "MP-E245", [](RawFile& f) { f.poke<i32>("needle", 1, 0); }},
      {"a needle behind the keys", "MP-E245", [](RawFile& f) { f.poke<i32>("needle", 0, 11); }},
      {"a question behind the keys", "MP-E245",
       [](RawFile& f) { f.poke<i32>("needle", 3, std::numeric_limits<i32>::max()); }},
      {"a question of -1 positions", "MP-E245", [](RawFile& f) { f.poke<i32>("needle", 3, -1); }},
      {"an infinite mass", "MP-E246", [](RawFile& f) { f.poke<u16>("attention_mass", 23, 0x7C00); }},
      {"a NaN mass", "MP-E246", [](RawFile& f) { f.poke<u16>("attention_mass", 0, 0xFE00); }},
      {"a negative mass", "MP-E246", [](RawFile& f) { f.poke<u16>("attention_mass", 22, 0x8001); }},
      {"more tokens than index_topk", "MP-E247", [](RawFile& f) { f.metadata["index_topk"] = "3"; }},
  };
  check_table(table, contiguous_file(), read_plenty);
}

TEST_CASE("what contradicts the format of pages is refused, each with its own id") {
  const std::vector<Spoiled> table{
      {"no block table", "MP-E205", [](RawFile& f) { f.tensors.erase("block_table"); }},
      {"no lengths", "MP-E205", [](RawFile& f) { f.tensors.erase("seq_lens"); }},
      {"pages without room for scales", "MP-E208",
       [](RawFile& f) {
         f.set("k_pages", "U8", {1, 4, 32}, std::vector<u8>(128, 0));
       }},
      {"a block table of another number of sequences", "MP-E208",
       [](RawFile& f) {
         f.integers("block_table", {1, 2}, {1, 3});
       }},
      {"scales outside the pages", "MP-E209", [](RawFile& f) { f.set("k_scale", "F32", {16}, reals(16, 1)); }},
      {"no pages", "MP-E212",
       [](RawFile& f) {
         f.set("k_pages", "U8", {0, 4, 36}, std::vector<u8>());
       }},
      {"pages of no tokens", "MP-E212",
       [](RawFile& f) {
         f.set("k_pages", "U8", {4, 0, 36}, std::vector<u8>());
       }},
      {"no sequences", "MP-E212", [](RawFile& f) { f.integers("seq_lens", {0}, {}); }},
      {"a scale of zero", "MP-E220", [](RawFile& f) { f.poke("k_pages", (kPageBytes + kPageSize * kDim) / 4, 0.0f); }},
      {"an FP8 NaN in a used page", "MP-E221", [](RawFile& f) { f.poke<u8>("k_pages", kPageBytes + 5, 0x7F); }},
      {"an FP8 NaN in the last used token", "MP-E221",
       [](RawFile& f) { f.poke<u8>("k_pages", 3 * kPageBytes + 2 * kDim - 1, 0xFF); }},
      {"one more token in use, whose scale is NaN", "MP-E220", [](RawFile& f) { f.poke<i32>("seq_lens", 0, 7); }},
      {"ks that disagrees", "MP-E233",
       [](RawFile& f) {
         add_integers_for_paged(f);
         f.poke<i32>("ks", 3, 1);
       }},
      {"ke that disagrees", "MP-E233",
       [](RawFile& f) {
         add_integers_for_paged(f);
         f.poke<i32>("ke", 0, 6);
       }},
      {"q_pos that disagrees", "MP-E233",
       [](RawFile& f) {
         add_integers_for_paged(f);
         f.poke<i32>("q_pos", 0, 5);
       }},
      {"a page that does not exist", "MP-E234", [](RawFile& f) { f.poke<i32>("block_table", 1, 4); }},
      {"a page of -1 in use", "MP-E234", [](RawFile& f) { f.poke<i32>("block_table", 0, -1); }},
      {"a negative length", "MP-E235", [](RawFile& f) { f.poke<i32>("seq_lens", 1, -1); }},
      {"more tokens than pages hold", "MP-E235", [](RawFile& f) { f.poke<i32>("seq_lens", 0, 9); }},
      {"rows that do not divide", "MP-E236",
       [](RawFile& f) {
         f.integers("seq_lens", {3}, {6, 3, 0});
         f.integers("block_table", {3, 2}, {1, 3, 0, -1, -1, -1});
       }},
      {"a needle behind a sequence's pages", "MP-E245",
       [](RawFile& f) {
         f.integers("needle", {1, 4}, {7, 2, 1, 1});
       }},
  };
  check_table(table, paged_file(), read_plenty);
  RawFile agreeing = paged_file();
  add_integers_for_paged(agreeing);
  CHECK(trace_outcome(agreeing).message == "");
}

TEST_CASE("tensors of one's own begin with x. and are left alone, recorded outputs too") {
  RawFile file = contiguous_file();
  file.set("x.anything", "C64", {1}, std::vector<double>{1});
  file.integers("out.topk", {1, 1}, {0});
  CHECK(trace_outcome(file).message == "");
}

TEST_CASE("a misspelt tensor is answered with the right name") {
  RawFile file = contiguous_file();
  file.integers("wieghts", {1}, {0});
  CHECK(trace_outcome(file).message.find("weights") != std::string::npos);
}

TEST_CASE("a trace above the memory limit is refused with both numbers") {
  const RawFile file = contiguous_file();
  i64 bytes = 0;
  for (const auto& [name, tensor] : file.tensors) bytes += static_cast<i64>(tensor.bytes.size());
  CHECK(trace_outcome(file, bytes).message == "");
  const Outcome outcome = trace_outcome(file, bytes - 1);
  CHECK(outcome.id == "MP-E142");
  CHECK(outcome.message.find(std::to_string(bytes)) != std::string::npos);
  CHECK(outcome.message.find(std::to_string(bytes - 1)) != std::string::npos);
}

TEST_CASE("the largest tensors of a file are checked to their last element") {
  // Longer than the runs in which values are tested, and not a multiple of eight.
  const i64 keys = 2051;
  RawFile file = contiguous_file();
  file.set("k", "F8_E4M3", {keys, kDim}, fp8_codes(static_cast<std::size_t>(keys * kDim), 9));
  file.set("k_scale", "F32", {keys}, reals(static_cast<std::size_t>(keys), 9));
  file.set("attention_mass", "F16", {2, keys}, std::vector<u16>(static_cast<std::size_t>(2 * keys), 0x8000));
  file.integers("q_pos", {kRows}, {2, 2050, 0, 3});
  file.integers("ke", {kRows}, {3, 2051, 9, 12});
  REQUIRE(trace_outcome(file).message == "");
  std::mt19937 random(17);
  for (int i = 0; i < 40; ++i) {
    RawFile spoiled = file;
    const std::size_t element = i == 0 ? static_cast<std::size_t>(keys * kDim - 1) : random() % (keys * kDim);
    spoiled.poke<u8>("k", element, random() % 2 == 0 ? 0x7F : 0xFF);
    const Outcome outcome = trace_outcome(spoiled);
    INFO("element ", element, ": ", outcome.message);
    CHECK(outcome.id == "MP-E221");
    CHECK(outcome.message.find("row " + std::to_string(element / kDim)) != std::string::npos);
    CHECK(outcome.message.find("element " + std::to_string(element % kDim)) != std::string::npos);
  }
}

TEST_CASE("pages with a scale behind each token's values are recognised") {
  RawFile file = paged_file();
  std::vector<u8> pages;
  for (i64 token = 0; token < kPages * kPageSize; ++token) {
    const std::vector<u8> codes = fp8_codes(kDim, static_cast<unsigned>(token));
    pages.insert(pages.end(), codes.begin(), codes.end());
    const float scale = 0.01f;
    const auto* bytes = reinterpret_cast<const u8*>(&scale);
    pages.insert(pages.end(), bytes, bytes + 4);
  }
  file.set("k_pages", "U8", {kPages, kPageSize, kDim + 4}, pages);
  const Outcome outcome = trace_outcome(file);
  CHECK(outcome.id == "MP-E220");
  CHECK(outcome.message.find("as if each token's scale followed its values") != std::string::npos);

  // Scales that are legal but strange: a warning.
  for (i64 page = 0; page < kPages; ++page) {
    for (i64 token = 0; token < kPageSize; ++token) {
      const float strange = 0x1p-60f;
      std::memcpy(pages.data() + page * kPageBytes + kPageSize * kDim + token * 4, &strange, 4);
    }
  }
  // The scales at their interleaved places that this overwrote: only those of the last token of a page.
  for (i64 page = 0; page < kPages; ++page) {
    for (i64 token = 0; token < kPageSize - 1; ++token) {
      const float scale = 0.01f;
      std::memcpy(pages.data() + page * kPageBytes + token * (kDim + 4) + kDim, &scale, 4);
    }
  }
  file.set("k_pages", "U8", {kPages, kPageSize, kDim + 4}, pages);
  file.integers("seq_lens", {2}, {3, 3});
  const TemporaryPath temporary;
  file.write(temporary.path);
  std::vector<Warning> warnings;
  (void)read_trace(temporary.path, kPlenty, &warnings);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].id == "MP-W032");
  CHECK(warnings[0].what.find("as if each token's scale followed its values") != std::string::npos);
}

TEST_CASE("keys that no row sees may hold anything, and the keys beside them may not") {
  RawFile file = contiguous_file();
  file.set("attention_mass", "F16", {2, kKeys}, std::vector<u16>(2 * kKeys, 0x2C00));
  file.integers("q_pos", {kRows}, {2, 3, 0, 2});
  file.integers("ke", {kRows}, {3, 4, 9, 11});  // keys 4 to 7 and 11 are seen by none
  file.integers("topk", {2, 4}, {2, 0, 3, -1, 0, -1, -1, -1});
  for (const i64 key : {4, 5, 6, 7, 11}) {
    for (i64 d = 0; d < kDim; ++d) file.poke<u8>("k", static_cast<std::size_t>(key * kDim + d), 0x7F);
    file.poke("k_scale", static_cast<std::size_t>(key), key % 2 == 0 ? 0.0f : kNan);
  }
  CHECK(trace_outcome(file).message == "");
  for (const i64 key : {0, 3, 8, 10}) {
    for (const i64 d : {i64{0}, kDim - 1}) {
      RawFile spoiled = file;
      spoiled.poke<u8>("k", static_cast<std::size_t>(key * kDim + d), 0xFF);
      const Outcome outcome = trace_outcome(spoiled);
      INFO("key ", key, ", element ", d, ": ", outcome.message);
      CHECK(outcome.id == "MP-E221");
      CHECK(outcome.message.find(fmt::format("element {} ", d)) != std::string::npos);
      CHECK(outcome.message.find(fmt::format("row {};", key)) != std::string::npos);
    }
    RawFile spoiled = file;
    spoiled.poke("k_scale", static_cast<std::size_t>(key), -1.0f);
    const Outcome outcome = trace_outcome(spoiled);
    INFO("key ", key, ": ", outcome.message);
    CHECK(outcome.id == "MP-E220");
    CHECK(outcome.message.find(fmt::format("row {};", key)) != std::string::npos);
  }
  // Means over whole blocks of the buffer would take them in.
  const TemporaryPath temporary;
  file.write(temporary.path);
  const Workload garbage = read_trace(temporary.path, kPlenty);
  CHECK(outcome_of([&] { check_unseen_keys(garbage, "w"); }).id == "MP-E255");
  contiguous_file().write(temporary.path);
  const Workload clean = read_trace(temporary.path, kPlenty);
  CHECK(outcome_of([&] { check_unseen_keys(clean, "w"); }).id == "");
}

/// The scale of a slot of a workload, as f32.
float scale_of(const Workload& w, i64 slot) {
  if (!w.paged()) return w.k_scale.span<float>()[slot];
  float scale = 0;
  std::memcpy(&scale,
              w.k_pages.storage.data() + slot / kPageSize * kPageBytes + kPageSize * kDim + slot % kPageSize * 4, 4);
  return scale;
}

TEST_CASE("scales of four equal UE8M0 bytes are read as powers of two, wherever they are") {
  // Used slots of paged_file: all of page 1, two of page 3, three of page 0. Sequences share page 1 here.
  RawFile paged = paged_file(), contiguous = contiguous_file();
  paged.integers("block_table", {2, 2}, {1, 3, 1, -1});
  std::map<i64, u8> codes;
  for (const i64 slot : {4, 5, 6, 7, 12, 13}) codes[slot] = static_cast<u8>(100 + 3 * slot);
  for (const auto& [slot, code] : codes) {
    const u32 word = code * 0x01010101u;
    const i64 offset = slot / kPageSize * kPageBytes + kPageSize * kDim + slot % kPageSize * 4;
    paged.poke<u32>("k_pages", static_cast<std::size_t>(offset / 4), word);
  }
  for (i64 key = 0; key < kKeys; ++key) {
    contiguous.poke<u32>("k_scale", static_cast<std::size_t>(key), static_cast<u32>(100 + 3 * key) * 0x01010101u);
  }
  const auto read = [](const RawFile& file, std::vector<Warning>* warnings) {
    const TemporaryPath temporary;
    file.write(temporary.path);
    return read_trace(temporary.path, kPlenty, warnings);
  };
  for (RawFile file : {paged, contiguous}) {
    const bool pages = file.tensors.count("k_pages") != 0;
    CAPTURE(pages);
    for (const bool said : {false, true}) {
      CAPTURE(said);
      if (said) file.metadata["k_scale_format"] = "ue8m0x4";
      std::vector<Warning> warnings;
      const Workload w = read(file, &warnings);
      CHECK(warnings.size() == (said ? 0 : 1));
      if (!said) CHECK(warnings[0].what.find("UE8M0") != std::string::npos);
      CHECK(w.metadata.at("k_scale_format") == "f32");
      for (i64 slot = 0; slot < (pages ? kPages * kPageSize : kKeys); ++slot) {
        if (pages && codes.count(slot) == 0) continue;
        CAPTURE(slot);
        CHECK(scale_of(w, slot) == std::ldexp(1.0f, static_cast<int>(100 + 3 * slot) - 127));
      }
      // What was read is f32 from now on: it is written and read again as it is.
      const TemporaryPath again;
      write_trace(again.path, w);
      warnings.clear();
      CHECK(scale_of(read_trace(again.path, kPlenty, &warnings), 5) == scale_of(w, 5));
      CHECK(warnings.empty());
    }
    // One token whose bytes differ: there is no one scale.
    RawFile mixed = file;
    mixed.poke<u8>(pages ? "k_pages" : "k_scale",
                   static_cast<std::size_t>(pages ? kPageBytes + kPageSize * kDim + 1 : 1), 99);
    CHECK(trace_outcome(mixed).id == "MP-E254");
    // 0xFF is UE8M0's NaN.
    RawFile nan = file;
    nan.poke<u32>(pages ? "k_pages" : "k_scale",
                  static_cast<std::size_t>(pages ? (kPageBytes + kPageSize * kDim) / 4 : 0), 0xFFFFFFFFu);
    CHECK(trace_outcome(nan).id == "MP-E220");
    // Taken at its word, f32 is f32, if only it is finite and above 0.
    RawFile f32 = file;
    f32.metadata["k_scale_format"] = "f32";
    for (u32 i = 0; i < 16 && !pages; ++i) {
      if (i < kKeys) f32.poke<u32>("k_scale", i, 0x78787878u);
    }
    if (!pages) CHECK(trace_outcome(f32).message == "");
    f32.metadata["k_scale_format"] = "f64";
    CHECK(trace_outcome(f32).id == "MP-E213");
  }
}

TEST_CASE("a page's scale that no quantiser writes is refused, and f32 scales are never taken for UE8M0") {
  RawFile file = paged_file();
  for (const float scale : {0x1p-65f, 0x1.8p32f, 2.0e34f, 1e-40f}) {
    for (const i64 slot : {4, 13}) {
      RawFile spoiled = file;
      const i64 offset = slot / kPageSize * kPageBytes + kPageSize * kDim + slot % kPageSize * 4;
      spoiled.poke("k_pages", static_cast<std::size_t>(offset / 4), scale);
      const Outcome outcome = trace_outcome(spoiled);
      INFO("scale ", scale, ": ", outcome.message);
      CHECK(outcome.id == "MP-E253");
      spoiled.metadata["k_scale_format"] = "f32";
      CHECK(trace_outcome(spoiled).message == "");
    }
  }
  // 0.0115 is 0x3C3C3C3C.
  const std::vector<i64> slots{4, 5, 6, 7, 12, 13, 0, 1, 2};
  for (const i64 slot : slots) {
    const i64 offset = slot / kPageSize * kPageBytes + kPageSize * kDim + slot % kPageSize * 4;
    file.poke<u32>("k_pages", static_cast<std::size_t>(offset / 4), 0x3C3C3C3Cu);
  }
  const TemporaryPath temporary;
  file.write(temporary.path);
  std::vector<Warning> warnings;
  CHECK(scale_of(read_trace(temporary.path, kPlenty, &warnings), 4) == doctest::Approx(0.0114890));
  CHECK(warnings.empty());
  // No byte makes sense both ways: what one reading takes for a quantiser's, the other refuses.
  for (u32 byte = 0; byte < 256; ++byte) {
    const float as_f32 = std::bit_cast<float>(byte * 0x01010101u), as_e8m0 = e8m0_to_float(static_cast<u8>(byte));
    const bool f32 = as_f32 > 0x1p-40f && as_f32<0x1p20f, e8m0 = as_e8m0> 0x1p-40f && as_e8m0 < 0x1p20f;
    CAPTURE(byte);
    CHECK_FALSE((f32 && e8m0));
    if (e8m0) CHECK_FALSE((as_f32 >= 0x1p-64f && as_f32 <= 0x1p32f));
  }
}

TEST_CASE("the answers of needles are read and written again") {
  RawFile file = contiguous_file();
  file.integers("needle", {2, 6}, {1, 3, 6, 2, 2, 2, /**/ 4, 2, 7, 1, 0, 0});
  const TemporaryPath first, second;
  file.write(first.path);
  const Workload w = read_trace(first.path, kPlenty);
  REQUIRE(w.needles.size() == 2);
  CHECK(w.needles[0].answer_start == 2);
  CHECK(w.needles[0].answer_length == 2);
  CHECK_FALSE(w.needles[1].has_answer());
  write_trace(second.path, w);
  CHECK(differing_tensors(first.path, second.path).empty());
}

TEST_CASE("what a file leaves unsaid is warned about") {
  RawFile file = contiguous_file();
  file.metadata.erase("provenance");
  file.metadata["index_n_heads"] = "1";
  const TemporaryPath temporary;
  file.write(temporary.path);
  std::vector<Warning> warnings;
  (void)read_trace(temporary.path, kPlenty, &warnings);
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].id == "MP-W030");
  CHECK(warnings[1].id == "MP-W031");
  CHECK(warnings[1].where == temporary.path);
}

TEST_CASE("a trace that is read and written again has the same tensors") {
  for (const RawFile& file : {contiguous_file(), paged_file()}) {
    const TemporaryPath first, second, third;
    file.write(first.path);
    write_trace(second.path, read_trace(first.path, kPlenty));
    write_trace(third.path, read_trace(second.path, kPlenty));
    const bool paged = file.tensors.count("k_pages") != 0;
    // Windows of a paged trace are written out.
    CHECK(differing_tensors(first.path, second.path).size() == (paged ? 3 : 0));
    CHECK(read_text_file(second.path) == read_text_file(third.path));
  }
}

TEST_CASE("candidates are read and written again with the length of their runs, and are part of the inputs") {
  RawFile file = contiguous_file();
  file.metadata["candidate_length"] = "2";
  file.integers("candidates", {kRows, 1}, std::vector<i32>(kRows, 0));
  const TemporaryPath first, second;
  file.write(first.path);
  const Workload read = read_trace(first.path, kPlenty);
  CHECK(read.candidates.shape == std::vector<i64>{kRows, 1});
  CHECK(read.candidate_length == 2);
  write_trace(second.path, read);
  CHECK(differing_tensors(first.path, second.path).empty());
  CHECK(read_trace(second.path, kPlenty).candidate_length == 2);
  Workload longer = copy_of(read), none = copy_of(read);
  longer.candidate_length = 3;
  none.candidates = {};
  none.candidate_length = 1;
  CHECK(input_hash(longer) != input_hash(read));
  CHECK(input_hash(none) != input_hash(read));
}

TEST_CASE("a workload that cannot be read back is not written") {
  const TemporaryPath good, bad;
  contiguous_file().write(good.path);
  Workload w = read_trace(good.path, kPlenty);
  w.sequence = {0, 0, 0, 1};
  CHECK(outcome_of([&] { write_trace(bad.path, w); }).id == "MP-E233");
  w = read_trace(good.path, kPlenty);
  w.ke.pop_back();
  CHECK(outcome_of([&] { write_trace(bad.path, w); }).id == "MP-E208");
  w = read_trace(good.path, kPlenty);
  w.weights.span<float>()[3] = kNan;
  CHECK(outcome_of([&] { write_trace(bad.path, w); }).id == "MP-E222");
  paged_file().write(good.path);
  w = read_trace(good.path, kPlenty);
  w.next_n = 1;
  CHECK(outcome_of([&] { write_trace(bad.path, w); }).id == "MP-E236");
  CHECK_FALSE(std::filesystem::exists(bad.path));
}

TEST_CASE("the shipped trace of a small trained indexer is read") {
  const std::string path = std::string(MISA_SOURCE_DIR) + "/profiles/traces/learned-32k-h64.safetensors";
  std::vector<Warning> warnings;
  const Workload w = read_trace(path, kPlenty, &warnings);
  CHECK(warnings.empty());
  CHECK(w.rows() == 64);
  CHECK(w.heads() == 64);
  CHECK(w.keys() == 32768);
  CHECK(w.attention_mass_row.size() == 16);
  CHECK(w.needles.size() == 8);
  CHECK(w.metadata.at("provenance") == "small-trained");
  CHECK(w.metadata.count("note") == 1);
  // Every row that asks for a needle has its attention mass.
  for (std::size_t row = 0; row < w.q_pos.size(); ++row) {
    const bool asks = std::any_of(w.needles.begin(), w.needles.end(), [&](const Needle& n) {
      return w.q_pos[row] >= n.question_start && w.q_pos[row] < n.question_start + n.question_length;
    });
    if (!asks) continue;
    INFO("row ", row);
    CHECK(std::count(w.attention_mass_row.begin(), w.attention_mass_row.end(), static_cast<i32>(row)) == 1);
  }
  const TemporaryPath copy;
  write_trace(copy.path, w);
  CHECK(differing_tensors(path, copy.path).empty());
}

TEST_CASE("recorded traces in the folder MISA_TRACES come back byte for byte" *
          doctest::skip(testing::lacks_recorded_traces())) {
  i64 traces = 0;
  for (const auto& entry : std::filesystem::directory_iterator(testing::recorded_traces())) {
    if (entry.path().extension() != ".safetensors") continue;
    INFO(entry.path().string());
    const TemporaryPath copy;
    write_trace(copy.path, read_trace(entry.path().string(), kPlenty));
    CHECK(differing_tensors(entry.path().string(), copy.path).empty());
    ++traces;
  }
  CHECK(traces > 0);
}

}  // namespace misa
