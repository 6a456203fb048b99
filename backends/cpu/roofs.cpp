#include <omp.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "backends/cpu/tasks.hpp"
#include "backends/cpu/tile.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"

namespace misa::cpu {
namespace {

double seconds_of(const auto& work) {
  const double start = steady_seconds();
  work();
  return steady_seconds() - start;
}

/// The matrix product of tiles, all threads at once, operands in cache: what the score stage cannot beat.
template <class Operand>
double flops_per_second(int threads) {
  constexpr i64 kDepth = 128, kRepeats = sizeof(Operand) == 2 ? 400 : 100;
  double best = 0;
  std::vector<std::unique_ptr<Tile<Operand>>> tiles;
  for (int t = 0; t < threads; ++t) {
    Tile<Operand>& tile = *tiles.emplace_back(std::make_unique<Tile<Operand>>(kDepth));
    for (i64 i = 0; i < kMaxTileRows * kDepth; ++i) {
      tile.queries[i] = from_float<Operand>(static_cast<float>(i % 31) - 15.0f);
    }
    for (i64 i = 0; i < kTileColumns * kDepth; ++i) {
      tile.keys[i] = from_float<Operand>(static_cast<float>(i % 29) - 14.0f);
    }
  }
  for (int attempt = 0; attempt < 4; ++attempt) {  // the first warms up
    stop_if_interrupted();
    const double seconds = seconds_of([&] {
#pragma omp parallel for schedule(static) num_threads(threads)
      for (int t = 0; t < threads; ++t) {
        for (i64 i = 0; i < kRepeats; ++i) {
          tiles[static_cast<std::size_t>(t)]->multiply(0, kMaxTileRows, kTileColumns);
        }
      }
    });
    best = std::max(best, 2.0 * kMaxTileRows * kTileColumns * kDepth * kRepeats * threads / seconds);
  }
  return best;
}

/// A sum over more memory than the caches hold.
double bytes_per_second(int threads) {
  const Buffer buffer(host_allocator(), kRoofBytes);
  const u64* words = buffer.as<const u64>();
  constexpr i64 kPageWords = 512, kPages = kRoofBytes / 8 / kPageWords;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (i64 page = 0; page < kPages; ++page) {
    std::memset(buffer.data() + page * 4096, static_cast<int>(page & 0xFF), 4096);
  }
  double best = 0;
  u64 sum = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    stop_if_interrupted();
    const double seconds = seconds_of([&] {
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : sum)
      for (i64 page = 0; page < kPages; ++page) {
        u64 of_page = 0;  // clang does not vectorize a sum that is shared among threads
#pragma omp simd reduction(+ : of_page)
        for (i64 i = 0; i < kPageWords; ++i) of_page += words[page * kPageWords + i];
        sum += of_page;
      }
    });
    best = std::max(best, kRoofBytes / seconds);
  }
  volatile u64 used = sum;
  static_cast<void>(used);
  return best;
}

double launch_seconds(int threads) {
  std::vector<double> samples;
  for (int i = 0; i < 201; ++i) {
    samples.push_back(seconds_of([&] {
      volatile int sink = 0;
#pragma omp parallel num_threads(threads)
      if (omp_get_thread_num() == threads) sink = 1;
      static_cast<void>(sink);
    }));
  }
  std::nth_element(samples.begin(), samples.begin() + 100, samples.end());
  return samples[100];
}

}  // namespace

Roofs measure_roofs(int threads) {
  const double f32 = flops_per_second<float>(threads);
  std::vector<Roofs::Peak> peaks;
  if (!bf16_unit().empty()) peaks = {{Dtype::bf16, flops_per_second<Bf16>(threads)}, {Dtype::f32, f32}};
  return {.flops_per_second = peaks.empty() ? f32 : peaks[0].flops_per_second,
          .bytes_per_second = bytes_per_second(threads),
          .launch_seconds = launch_seconds(threads),
          .peaks = std::move(peaks)};
}

}  // namespace misa::cpu
