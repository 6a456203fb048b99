// What the cuda backend refuses before it takes memory: the host alone decides it.

#include <doctest/doctest.h>

#include <functional>

#include "backends/cuda/limits.hpp"

using namespace misa;

namespace {

Shape shape_of_rows(i64 rows, i64 window) {
  return {.rows = rows, .heads = 64, .head_dim = 128, .keys = window, .max_window = window, .dtype = Dtype::e4m3};
}

IndexerSpec spec_of(std::string_view name, const std::function<void(IndexerSettings&)>& set) {
  IndexerSettings settings;
  set(settings);
  return make_indexer(name, settings);
}

IndexerSpec sampled_spec(std::string_view name, i64 samples) {
  return spec_of(name, [&](IndexerSettings& settings) { settings.samples = samples; });
}

}  // namespace

TEST_CASE("any number of rows runs, for plans cut them into chunks") {
  for (const IndexerInfo& info : indexers()) {
    CHECK_FALSE(cuda_limit(make_indexer(info.name, {}), shape_of_rows(70'000, 8192)));
    CHECK_FALSE(cuda_limit(make_indexer(info.name, {}), shape_of_rows(i64{1} << 31, 8192)));
  }
}

TEST_CASE("a router over sampled keys is refused where its products have no room, and other indexers are not") {
  const Shape shape = shape_of_rows(16, 65536);
  CHECK_FALSE(cuda_limit(sampled_spec("misa-lr", 64), shape));
  CHECK_FALSE(cuda_limit(sampled_spec("misa-lr", 256), shape));
  const auto reason = cuda_limit(sampled_spec("misa-lr", 257), shape);
  REQUIRE(reason);
  CHECK(reason->find("514 sampled keys") != std::string::npos);
  CHECK(reason->find("64 heads") != std::string::npos);
  CHECK_FALSE(cuda_limit(sampled_spec("misa", 257), shape));
  // A number of samples whose products no 32-bit number of bytes counts.
  CHECK(cuda_limit(sampled_spec("misa-lr", i64{1} << 40), shape));
  // A row of few tokens is sampled no more often than it has tokens.
  CHECK_FALSE(cuda_limit(sampled_spec("misa-lr", i64{1} << 40), shape_of_rows(16, 500)));
}

TEST_CASE("what is refused has no room in the kernel, and what is not refused has") {
  for (const i64 heads : {1, 8, 32, 64, 100, 128}) {
    for (const i64 samples : {1, 64, 127, 128, 129, 255, 256, 257, 1000}) {
      for (const bool covariance : {false, true}) {
        Shape shape = shape_of_rows(16, 65536);
        shape.heads = heads;
        const IndexerSpec spec = spec_of("misa-lr", [&](IndexerSettings& settings) {
          settings.active_heads = 4;
          settings.samples = samples;
          settings.router = covariance ? Router::covariance : Router::linear_residual;
        });
        const cuda::SampledLayout layout = sampled_layout(*spec.heads, shape);
        const i64 seen = 2 * samples, counted = heads > 4 ? (seen + 1) / 2 : seen;
        // Products, the parts of sums by warps, contributions and their covariances, in f32.
        const i64 stride = seen / 32 * 32 + 36, columns = ceil_div(std::max<i64>(128, counted), 32) * 32;
        const i64 most = covariance ? std::min<i64>(heads, 2 * std::min<i64>(heads, heads > 4 ? 2 : 4) + 4) : 0;
        const i64 bytes =
            4 * ((heads + 2) * stride + (8 + most) * columns + 4 * ceil_div(heads, 4) * 4 + most * (most + 1));
        INFO(heads << " heads, " << samples << " samples, covariance " << covariance);
        CHECK(layout.bytes() == bytes);
        CHECK(cuda_limit(spec, shape).has_value() == (counted > 256 || bytes > 224 * 1024));
      }
    }
  }
}

TEST_CASE("tokens that 32 bits cannot count with tiles rounded up are refused") {
  Shape shape = shape_of_rows(1, 2'000'000'000);
  CHECK_FALSE(cuda_limit(make_indexer("dsa", {}), shape));
  shape.max_window += 1;
  CHECK(cuda_limit(make_indexer("dsa", {}), shape));
  shape = shape_of_rows(1, 1000);
  shape.keys = i64{1} << 31;
  CHECK(cuda_limit(make_indexer("dsa", {}), shape));
  CHECK(cuda_limit(spec_of("dsa", [](IndexerSettings& settings) { settings.top_k = i64{1} << 31; }),
                   shape_of_rows(1, 1000)));
}

TEST_CASE("heads and dimensions that no kernel takes are refused") {
  Shape shape = shape_of_rows(1, 1000);
  shape.heads = 129;
  CHECK(cuda_limit(make_indexer("dsa", {}), shape));
  shape.heads = 128;
  shape.head_dim = 257;
  CHECK(cuda_limit(make_indexer("dsa", {}), shape));
}
