#include "core/measure/statistics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace misa {

TEST_CASE("percentiles interpolate linearly between the sorted samples") {
  const std::array<double, 5> samples{40, 15, 50, 20, 35};
  CHECK(percentile(samples, 0.0) == 15);
  CHECK(percentile(samples, 0.25) == 20);
  CHECK(percentile(samples, 0.4) == doctest::Approx(29));  // between 20 and 35, at 0.6
  CHECK(percentile(samples, 1.0) == 50);
  CHECK(median(samples) == 35);
  const std::array<double, 4> even{1, 2, 3, 4};
  CHECK(median(even) == 2.5);
  CHECK(percentile(even, 0.1) == doctest::Approx(1.3));
  CHECK(percentile(even, 0.9) == doctest::Approx(3.7));
}

TEST_CASE("a summary names its percentiles rightly") {
  const std::array<double, 11> samples{4, 11, 1, 9, 2, 10, 3, 8, 5, 7, 6};
  const Summary summary = summarise(samples);
  CHECK(summary.minimum == 1);
  CHECK(summary.p10 == 2);
  CHECK(summary.median == 6);
  CHECK(summary.p90 == 10);
  CHECK(summary.maximum == 11);
  CHECK(summary.samples == 11);
  CHECK(mean(samples) == 6);
}

TEST_CASE("statistics of no sample are NaN, of one sample that sample") {
  const std::vector<double> none;
  CHECK(std::isnan(median(none)));
  CHECK(std::isnan(mean(none)));
  const Summary empty = summarise(none);
  CHECK(std::isnan(empty.p10));
  CHECK(std::isnan(empty.maximum));
  CHECK(empty.samples == 0);

  const std::array<double, 1> one{7};
  const Summary single = summarise(one);
  CHECK(single.median == 7);
  CHECK(single.p10 == 7);
  CHECK(single.p90 == 7);
  CHECK(single.minimum == 7);
  CHECK(single.samples == 1);
}

TEST_CASE("NaN samples are left out, infinite ones are not") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  const std::array<double, 4> samples{nan, 3, 1, nan};
  CHECK(median(samples) == 2);
  CHECK(mean(samples) == 2);
  CHECK(summarise(samples).samples == 2);
  const std::array<double, 3> tail{1, infinite, infinite};
  CHECK(median(tail) == infinite);
  CHECK(percentile(tail, 0.75) == infinite);
}

TEST_CASE("fractions outside [0, 1] are clamped") {
  const std::array<double, 2> samples{1, 2};
  CHECK(percentile(samples, -3) == 1);
  CHECK(percentile(samples, 1.5) == 2);
}

TEST_CASE("percentiles grow with the fraction, lie within the samples and do not depend on their order") {
  for (unsigned seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    std::vector<double> samples(1 + random() % 40);
    for (double& x : samples) x = std::ldexp(static_cast<double>(random()), -20);
    std::vector<double> shuffled = samples;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    const Summary summary = summarise(samples);
    double before = summary.minimum;
    for (int i = 0; i <= 20; ++i) {
      const double value = percentile(samples, i / 20.0);
      CHECK(value >= before);
      CHECK(value == percentile(shuffled, i / 20.0));
      before = value;
    }
    CHECK(before == summary.maximum);
    for (double& x : shuffled) x = 2 * x + 5;
    CHECK(median(shuffled) == doctest::Approx(2 * summary.median + 5));
  }
}

}  // namespace misa
