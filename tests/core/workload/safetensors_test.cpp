#include "core/workload/safetensors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/base/error.hpp"
#include "tests/support/temporary.hpp"

namespace misa {
namespace {

using testing::TemporaryPath;

std::string length_bytes(u64 length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(length >> (8 * i)));
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return length_bytes(header.size()) + header + std::string(data_bytes, '\1');
}

/// The header of one tensor "t".
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

/// Writes the bytes and reads the header back. The id of the error, "" when the file is accepted.
std::string id_of(const std::string& bytes, const SafetensorsLimits& limits = {}) {
  const TemporaryPath file;
  std::ofstream(file.path, std::ios::binary) << bytes;
  std::string id, from_memory;
  try {
    (void)read_safetensors_header(InputFile(file.path), limits);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(error.where().find(file.path) == 0);
    for (const std::string& text : {std::string(error.what()), error.how()}) {
      CHECK(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    }
    id = error.id();
  }
  try {
    (void)read_safetensors_header(std::as_bytes(std::span(bytes)), "memory", limits);
  } catch (const Error& error) {
    from_memory = error.id();
  }
  CHECK(id == from_memory);
  return id;
}

std::string nested(int depth) { return R"({"t":)" + std::string(depth, '[') + std::string(depth, ']') + "}"; }

struct BadFile {
  const char* what;
  std::string bytes;
  const char* id;
};

std::vector<BadFile> bad_files() {
  const std::string good = one("U8", "[4]", "[0,4]");
  const std::string meta = R"({"__metadata__":)";
  const std::string two = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],)"
                          R"("data_offsets":)";
  return {
      {"an empty file", "", "MP-E110"},
      {"seven bytes", "1234567", "MP-E110"},
      {"a header of no bytes", length_bytes(0), "MP-E110"},
      {"a header of one byte", length_bytes(1) + "{", "MP-E110"},
      {"a header above the cap", length_bytes(25'000'001), "MP-E110"},
      {"a length of 2^64 - 8", length_bytes(~u64{7}) + good, "MP-E110"},
      {"a header longer than the file", length_bytes(100) + good, "MP-E113"},
      {"a root that is an array", file_of("[]", 0), "MP-E110"},
      {"white space in front", file_of(" {}", 0), "MP-E110"},
      {"a byte order mark", file_of("\xEF\xBB\xBF{}", 0), "MP-E110"},
      {"a lone UTF-8 continuation byte", file_of("{\"\x80\":1}", 0), "MP-E116"},
      {"an overlong UTF-8 form", file_of("{\"\xC0\xAF\":1}", 0), "MP-E116"},
      {"a UTF-8 surrogate", file_of("{\"\xED\xA0\x80\":1}", 0), "MP-E116"},
      {"a cut UTF-8 form", file_of("{}\xE2\x82", 0), "MP-E116"},
      {"a character above U+10FFFF", file_of("{\"\xF4\x90\x80\x80\":1}", 0), "MP-E116"},
      {"an object that is not closed", file_of(good.substr(0, good.size() - 1), 4), "MP-E116"},
      {"a comma too many", file_of("{\"t\":1,}", 0), "MP-E116"},
      {"a comma at the end", file_of(R"({"__metadata__":{},})", 0), "MP-E116"},
      {"a comment", file_of("{/**/}", 0), "MP-E116"},
      {"NaN as a number", file_of(one("U8", "[NaN]", "[0,4]"), 4), "MP-E116"},
      {"a lone surrogate escape", file_of(R"({"\ud800":{}})", 0), "MP-E116"},
      {"a NUL inside the object", file_of(std::string("{\0}", 3), 0), "MP-E116"},
      {"mixed brackets", file_of("{\"t\":]}", 0), "MP-E116"},
      {"text after the object", file_of(good + "x", 4), "MP-E116"},
      {"a second object", file_of(good + "{}", 4), "MP-E116"},
      {"NUL padding", file_of(good + std::string(3, '\0'), 4), "MP-E116"},
      {"an object after NUL padding", file_of(good + std::string(3, '\0') + "{}", 4), "MP-E116"},
      {"a line feed as padding", file_of(good + "\n", 4), "MP-E116"},
      {"a tensor named twice", file_of(two + "[4,8]},\"a\":{}}", 8), "MP-E116"},
      {"a tensor named twice with an escape", file_of(two + R"([4,8]},"\u0061":{}})", 8), "MP-E116"},
      {"a key of an entry twice", file_of(R"({"t":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4),
       "MP-E116"},
      {"a key of the metadata twice", file_of(meta + R"({"a":"1","a":"1"}})", 0), "MP-E116"},
      {"metadata twice", file_of(meta + R"({},"__metadata__":{}})", 0), "MP-E116"},
      {"a header five levels deep", file_of(nested(4), 0), "MP-E116"},
      {"a header 200000 levels deep", file_of(nested(200'000), 0), "MP-E116"},
      {"an empty name", file_of(R"({"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4), "MP-E121"},
      {"a name of 513 bytes", file_of("{\"" + std::string(513, 'n') + "\":{}}", 0), "MP-E121"},
      {"a name with a NUL", file_of(R"({"a\u0000":{}})", 0), "MP-E121"},
      {"a name with an escape character", file_of(R"({"\u001b[2J":{}})", 0), "MP-E121"},
      {"an unknown key", file_of(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"strides":[1]}})", 4),
       "MP-E116"},
      {"an entry without dtype", file_of(R"({"t":{"shape":[4],"data_offsets":[0,4]}})", 4), "MP-E116"},
      {"an entry without shape", file_of(R"({"t":{"dtype":"U8","data_offsets":[0,4]}})", 4), "MP-E116"},
      {"an entry without data_offsets", file_of(R"({"t":{"dtype":"U8","shape":[4]}})", 4), "MP-E116"},
      {"metadata that is a string", file_of(meta + "\"x\"}", 0), "MP-E124"},
      {"metadata that is null", file_of(meta + "null}", 0), "MP-E124"},
      {"metadata that is an array", file_of(meta + "[]}", 0), "MP-E124"},
      {"a number in the metadata", file_of(meta + R"({"a":1}})", 0), "MP-E124"},
      {"an object in the metadata", file_of(meta + R"({"a":{}}})", 0), "MP-E124"},
      {"an entry that is a number", file_of("{\"t\":1}", 0), "MP-E116"},
      {"an entry that is an array", file_of("{\"t\":[]}", 0), "MP-E116"},
      {"a dtype that is a number", file_of(R"({"t":{"dtype":1}})", 0), "MP-E116"},
      {"a dtype that is an array", file_of(R"({"t":{"dtype":[]}})", 0), "MP-E116"},
      {"a shape that is a number", file_of(one("U8", "4", "[0,4]"), 4), "MP-E116"},
      {"a shape that is an object", file_of(one("U8", "{}", "[0,4]"), 4), "MP-E116"},
      {"an unknown dtype", file_of(one("F9", "[4]", "[0,4]"), 4), "MP-E130"},
      {"a dtype in lower case", file_of(one("u8", "[4]", "[0,4]"), 4), "MP-E130"},
      {"nine dimensions", file_of(one("U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), 4), "MP-E131"},
      {"a dimension 2.7", file_of(one("U8", "[2.7]", "[0,2]"), 2), "MP-E116"},
      {"a dimension 2.0", file_of(one("U8", "[2.0]", "[0,2]"), 2), "MP-E116"},
      {"a dimension -0", file_of(one("U8", "[-0]", "[0,0]"), 0), "MP-E116"},
      {"a dimension -1", file_of(one("U8", "[-1]", "[0,1]"), 1), "MP-E116"},
      {"a dimension 1e3", file_of(one("U8", "[1e3]", "[0,1000]"), 1000), "MP-E116"},
      {"a dimension 2^63", file_of(one("U8", "[9223372036854775808]", "[0,4]"), 4), "MP-E116"},
      {"a dimension 2^64 + 4", file_of(one("U8", "[18446744073709551620]", "[0,4]"), 4), "MP-E116"},
      {"a dimension that is a string", file_of(one("U8", "[\"4\"]", "[0,4]"), 4), "MP-E116"},
      {"a dimension that is true", file_of(one("U8", "[true]", "[0,1]"), 1), "MP-E116"},
      {"a dimension that is an array", file_of(one("U8", "[[4]]", "[0,4]"), 4), "MP-E116"},
      {"elements that overflow to two", file_of(one("F32", "[4611686018427387906]", "[0,8]"), 8), "MP-E116"},
      {"a product that overflows", file_of(one("U8", "[4294967296,4294967297]", "[0,4]"), 4), "MP-E116"},
      {"bits that overflow", file_of(one("F64", "[288230376151711745]", "[0,8]"), 8), "MP-E116"},
      {"an overflow hidden by a zero", file_of(one("U8", "[0,4294967296,4294967297]", "[0,0]"), 0), "MP-E116"},
      {"half a byte", file_of(one("F4", "[3]", "[0,2]"), 2), "MP-E116"},
      {"six bits", file_of(one("F6_E2M3", "[1]", "[0,1]"), 1), "MP-E116"},
      {"one offset", file_of(one("U8", "[4]", "[0]"), 4), "MP-E116"},
      {"three offsets", file_of(one("U8", "[4]", "[0,4,8]"), 4), "MP-E116"},
      {"a negative offset", file_of(one("U8", "[4]", "[-4,0]"), 4), "MP-E116"},
      {"a fractional offset", file_of(one("U8", "[4]", "[0,4.0]"), 4), "MP-E116"},
      {"an offset 2^63", file_of(one("U8", "[4]", "[0,9223372036854775808]"), 4), "MP-E116"},
      {"offsets that run backwards", file_of(one("U8", "[4]", "[4,0]"), 4), "MP-E116"},
      {"an end after the data", file_of(one("U8", "[5]", "[0,5]"), 4), "MP-E113"},
      {"a cut file", file_of(good, 3), "MP-E113"},
      {"fewer bytes than the shape takes", file_of(one("F32", "[4]", "[0,4]"), 4), "MP-E116"},
      {"more bytes than the shape takes", file_of(one("U8", "[3]", "[0,4]"), 4), "MP-E116"},
      {"a scalar of four elements' bytes", file_of(one("U8", "[]", "[0,4]"), 4), "MP-E116"},
      {"two tensors on the same bytes", file_of(two + "[0,4]}}", 4), "MP-E139"},
      {"tensors that overlap by a byte", file_of(two + "[3,7]}}", 7), "MP-E139"},
      {"a hole between tensors", file_of(two + "[5,9]}}", 9), "MP-E116"},
      {"a hole in front", file_of(one("U8", "[4]", "[1,5]"), 5), "MP-E116"},
      {"bytes after the last tensor", file_of(good, 5), "MP-E116"},
      {"data without any tensor", file_of("{}", 1), "MP-E116"},
  };
}

}  // namespace

TEST_CASE("what the format forbids is refused, with an id for each thing to do about it") {
  for (const BadFile& bad : bad_files()) {
    INFO(bad.what);
    CHECK(id_of(bad.bytes) == bad.id);
  }
}

TEST_CASE("legal oddities are accepted") {
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":)";
  for (const std::string& bytes : {
           file_of("{}", 0),
           file_of("{ }   ", 0),
           file_of(R"({"__metadata__":{}})", 0),
           file_of(one("F64", "[]", "[0,8]"), 8),
           file_of(one("F64", "[0]", "[0,0]"), 0),
           file_of(one("F4", "[2,3]", "[0,3]"), 3),
           file_of(one("C64", "[1,1,1,1,1,1,1,2]", "[0,16]"), 16),
           file_of("{\"a\":" + entry + "[0,0]},\"b\":" + entry + "[0,0]}}", 0),
           file_of("{\"\xE2\x82\xAC\":" + entry + "[0,0]}}", 0),
           file_of(R"({"__metadata__":{"}":"{[\"\\"}})", 0),
       }) {
    INFO(bytes.substr(8));
    CHECK(id_of(bytes) == "");
  }
}

TEST_CASE("limits of length and number can be set") {
  const std::string good = one("U8", "[4]", "[0,4]");
  CHECK(id_of(file_of(good, 4), {.header_bytes = static_cast<i64>(good.size())}) == "");
  CHECK(id_of(file_of(good, 4), {.header_bytes = static_cast<i64>(good.size()) - 1}) == "MP-E110");
  CHECK(id_of(file_of(good, 4), {.tensors = 0}) == "MP-E120");
}

TEST_CASE("4096 tensors are read and one more is refused") {
  const auto header = [](int count) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) {
      text += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    }
    return text + "}";
  };
  CHECK(id_of(file_of(header(4096), 0)) == "");
  CHECK(id_of(file_of(header(4097), 0)) == "MP-E120");
}

TEST_CASE("every prefix of a file is refused") {
  const std::string whole =
      file_of(R"({"__metadata__":{"a":"b"},"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  REQUIRE(id_of(whole) == "");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO("the first ", size, " bytes");
    CHECK(id_of(whole.substr(0, size)) != "");
  }
}

TEST_CASE("a file with any one bit of its header flipped is refused or means something else, and never crashes") {
  const std::string whole = file_of(R"({"t":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24);
  for (std::size_t byte = 0; byte < whole.size() - 24; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      INFO("byte ", byte, ", bit ", bit);
      std::string flipped = whole;
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << bit));
      try {
        const SafetensorsHeader header = read_safetensors_header(std::as_bytes(std::span(flipped)), "memory");
        CHECK(header.data_bytes == 24);
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::input);
      }
    }
  }
}

TEST_CASE("a tensor is read as it was written") {
  const std::vector<i32> numbers{1, -2, std::numeric_limits<i32>::min(), 7};
  const std::vector<float> reals{0.5f, -3.0f};
  const HostTensor real = HostTensor::from<float>(reals, {2, 1});
  const TemporaryPath file;
  write_safetensors(file.path, {{"key", "va\"l\\u\n\xE2\x82\xAC"}},
                    {{"real", real}, {"numbers", std::span<const i32>(numbers), {4}}});
  const InputFile input(file.path);
  const SafetensorsHeader header = read_safetensors_header(input);
  CHECK(header.metadata == std::map<std::string, std::string>{{"key", "va\"l\\u\n\xE2\x82\xAC"}});
  CHECK(header.data_offset % 8 == 0);
  REQUIRE(header.find("numbers") != nullptr);
  CHECK(header.find("missing") == nullptr);
  const HostTensor back = read_tensor(input, header, *header.find("numbers"), 16);
  CHECK(back.shape == std::vector<i64>{4});
  CHECK(std::equal(numbers.begin(), numbers.end(), back.span<i32>().begin()));
  const HostTensor real_back = read_tensor(input, header, *header.find("real"), 8);
  CHECK(real_back.shape == std::vector<i64>{2, 1});
  CHECK(real_back.span<float>()[1] == -3.0f);
}

TEST_CASE("a scalar is read as one element") {
  const TemporaryPath file;
  std::ofstream(file.path, std::ios::binary) << file_of(one("U8", "[]", "[0,1]"), 1);
  const InputFile input(file.path);
  const SafetensorsHeader header = read_safetensors_header(input);
  CHECK(read_tensor(input, header, header.tensors[0], 1).span<u8>()[0] == 1);
}

TEST_CASE("a tensor above the memory limit or of a foreign dtype is not read") {
  const TemporaryPath file;
  std::ofstream(file.path, std::ios::binary)
      << file_of(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[9],)"
                 R"("data_offsets":[8,17]}})",
                 17);
  const InputFile input(file.path);
  const SafetensorsHeader header = read_safetensors_header(input);
  const auto id = [&](const char* name, i64 max_bytes) -> std::string {
    try {
      (void)read_tensor(input, header, *header.find(name), max_bytes);
    } catch (const Error& error) {
      CHECK(std::string(error.what()).size() > 0);
      return error.id();
    }
    return "";
  };
  CHECK(id("b", 9) == "");
  CHECK(id("b", 8) == "MP-E142");
  CHECK(id("a", 8) == "MP-E130");
}

TEST_CASE("a file that shrinks between header and tensor is an error") {
  const TemporaryPath file;
  std::ofstream(file.path, std::ios::binary) << file_of(one("U8", "[4096]", "[0,4096]"), 4096);
  const InputFile input(file.path);
  const SafetensorsHeader header = read_safetensors_header(input);
  std::filesystem::resize_file(file.path, 1000);
  CHECK_THROWS_AS((void)read_tensor(input, header, header.tensors[0], 1 << 20), Error);
}

TEST_CASE("the writer refuses what the reader would refuse") {
  const std::vector<std::byte> bytes(8);
  const auto id = [&](const SafetensorsTensor& tensor, const std::map<std::string, std::string>& metadata = {}) {
    std::vector<SafetensorsTensor> tensors{{"first", "U8", {8}, bytes}, tensor};
    try {
      (void)safetensors_header_bytes(metadata, tensors);
    } catch (const Error& error) {
      return error.id();
    }
    return std::string();
  };
  CHECK(id({"t", "F32", {2}, bytes}) == "");
  CHECK(id({"first", "F32", {2}, bytes}) == "MP-E116");
  CHECK(id({"__metadata__", "F32", {2}, bytes}) == "MP-E124");
  CHECK(id({"", "F32", {2}, bytes}) == "MP-E121");
  CHECK(id({"t\n", "F32", {2}, bytes}) == "MP-E121");
  CHECK(id({"t", "F33", {2}, bytes}) == "MP-E130");
  CHECK(id({"t", "U8", {1, 1, 1, 1, 1, 1, 1, 1, 8}, bytes}) == "MP-E131");
  CHECK(id({"t", "U8", {-8, -1}, bytes}) == "MP-E116");
  CHECK(id({"t", "F32", {3}, bytes}) == "MP-E116");
  CHECK(id({"\xFF", "F32", {2}, bytes}) == "MP-E116");
  CHECK(id({"t", "F32", {2}, bytes}, {{"key", "\xFF"}}) == "MP-E116");
}

TEST_CASE("random files come back byte for byte, whatever the order they are given in") {
  for (unsigned seed = 0; seed < 50; ++seed) {
    INFO("seed ", seed);
    std::mt19937 random(seed);
    const std::vector<std::string> dtypes{"U8", "F8_E4M3", "F16", "I32", "F64", "F8_E8M0", "BF16"};
    std::vector<std::vector<std::byte>> storage;
    std::vector<SafetensorsTensor> tensors;
    for (unsigned i = 0; i < 1 + random() % 6; ++i) {
      const std::string dtype = dtypes[random() % dtypes.size()];
      const std::vector<i64> shape{static_cast<i64>(random() % 5), static_cast<i64>(random() % 7)};
      std::vector<std::byte>& bytes =
          storage.emplace_back(static_cast<std::size_t>(shape[0] * shape[1] * safetensors_dtype_bits(dtype) / 8));
      std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<std::byte>(random()); });
      tensors.emplace_back("tensor" + std::to_string(i), dtype, shape, std::span<const std::byte>(bytes));
    }
    const TemporaryPath first, second;
    write_safetensors(first.path, {{"seed", std::to_string(seed)}}, tensors);
    std::shuffle(tensors.begin(), tensors.end(), random);
    write_safetensors(second.path, {{"seed", std::to_string(seed)}}, tensors);
    CHECK(read_text_file(first.path) == read_text_file(second.path));

    const InputFile input(first.path);
    const SafetensorsHeader header = read_safetensors_header(input);
    REQUIRE(header.tensors.size() == tensors.size());
    for (const SafetensorsTensor& tensor : tensors) {
      const SafetensorsEntry* entry = header.find(tensor.name);
      REQUIRE(entry != nullptr);
      CHECK(entry->begin % (safetensors_dtype_bits(tensor.dtype) / 8) == 0);
      const HostTensor back = read_tensor(input, header, *entry, 1 << 20);
      CHECK(back.shape == tensor.shape);
      REQUIRE(back.bytes() == static_cast<i64>(tensor.data.size()));
      const auto* bytes = back.storage.data();
      CHECK(std::equal(tensor.data.begin(), tensor.data.end(), bytes));
    }
  }
}

}  // namespace misa
