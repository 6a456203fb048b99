#include "core/workload/rng.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "core/platform/file.hpp"

namespace misa {
namespace {

const nlohmann::json& golden() {
  static const nlohmann::json values =
      nlohmann::json::parse(read_text_file(MISA_SOURCE_DIR "/tests/core/workload/generator_golden.json"));
  return values;
}

u64 hex(const nlohmann::json& value) { return std::stoull(value.get<std::string>(), nullptr, 16); }
double hex_float(const nlohmann::json& value) { return std::strtod(value.get<std::string>().c_str(), nullptr); }
Stream stream(const nlohmann::json& value) { return static_cast<Stream>(value.get<u64>()); }

}  // namespace

TEST_CASE("hashes equal the specification's, bit for bit") {
  CHECK(mix64(0) == hex(golden()["mix64"][0]));
  CHECK(mix64(1) == hex(golden()["mix64"][1]));
  CHECK(mix64(0x0123456789ABCDEFu) == hex(golden()["mix64"][2]));
  for (const auto& row : golden()["h64(seed,stream,i,j)"]) {
    CHECK(h64(row[0], stream(row[1]), row[2], row[3]) == hex(row[4]));
    CHECK(RandomRow(row[0], stream(row[1]), row[2]).hash(row[3]) == hex(row[4]));
  }
}

TEST_CASE("normal and uniform numbers equal the specification's, bit for bit") {
  for (const auto& row : golden()["nrm"]) {
    CHECK(nrm(row[0], stream(row[1]), row[2], row[3]) == hex_float(row[4]));
    CHECK(RandomRow(row[0], stream(row[1]), row[2]).normal(row[3]) == hex_float(row[4]));
  }
  for (const auto& row : golden()["uni"]) {
    CHECK(uni(row[0], stream(row[1]), row[2], row[3]) == hex_float(row[4]));
    CHECK(RandomRow(row[0], stream(row[1]), row[2]).uniform(row[3]) == hex_float(row[4]));
  }
}

TEST_CASE("normal numbers have mean 0, variance 1 and bounded size") {
  double sum = 0, squares = 0, largest = 0;
  constexpr u64 kDraws = 200000;
  for (u64 i = 0; i < kDraws; ++i) {
    const double x = nrm(3, Stream::key, 5, i);
    sum += x;
    squares += x * x;
    largest = std::max(largest, std::abs(x));
  }
  CHECK(std::abs(sum / kDraws) < 0.01);
  CHECK(std::abs(squares / kDraws - 1) < 0.01);
  CHECK(largest <= 3.4642);
  CHECK(to_normal(0) == doctest::Approx(-3.46403).epsilon(1e-5));
  CHECK(to_normal(~u64{0}) == -to_normal(0));
}

TEST_CASE("uniform numbers stay below 1") {
  CHECK(to_uniform(0) == 0.0);
  CHECK(to_uniform(~u64{0}) < 1.0);
}

}  // namespace misa
