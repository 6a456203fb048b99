#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/base/types.hpp"

// A kernel launch on the host: blocks one after the other, the threads of a block as fibers that switch where they wait
// for one another and nowhere else. Below it the words of CUDA C++ that the kernels use which are tested so.

#define __launch_bounds__(...)

inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim, gridDim;

namespace misa::simt {

/// Which thread goes on, of those that can. The first of a block, or the last, runs ahead of all others until it must
/// wait: that shows where a barrier is missing.
enum class Order { ascending, descending, shuffled };

class Machine {
 public:
  Order order = Order::ascending;
  u64 seed = 1;                          ///< of `shuffled`
  std::span<std::byte> shared{memory_};  ///< of a block; NaN when it begins

  static Machine& instance() {
    static Machine machine;
    return machine;
  }

  /// Throws std::runtime_error where threads wait for one that does not come, or a block writes behind its memory.
  void launch(i64 blocks, int threads, i64 shared_bytes, const std::function<void()>& kernel) {
    kernel_ = &kernel;
    engine_.seed(seed);
    if (fibers_.size() < static_cast<std::size_t>(threads)) fibers_.resize(static_cast<std::size_t>(threads));
    gridDim = dim3(static_cast<unsigned>(blocks)), blockDim = dim3(static_cast<unsigned>(threads));
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
      std::fill(shared.begin(), shared.end(), kUnwritten);
      states_.assign(static_cast<std::size_t>(threads), kReady);
      for (int i = 0; i < threads; ++i) fibers_[static_cast<std::size_t>(i)].begin();
      go_on(host_);
      const auto behind = shared.subspan(static_cast<std::size_t>(shared_bytes));
      if (failure_.empty() && std::any_of(behind.begin(), behind.end(), [](std::byte b) { return b != kUnwritten; })) {
        failure_ = "something is written behind the shared memory";
      }
      if (!failure_.empty()) {
        throw std::runtime_error("block " + std::to_string(blockIdx.x) + ": " + std::exchange(failure_, {}));
      }
    }
  }

  /// The thread that runs waits until all of its group, threads that stand together, have come to this place.
  void meet(std::size_t group, const char* what, unsigned line) {
    fibers_[running_].what = what, fibers_[running_].line = line;
    states_[running_] = kWaits;
    const std::size_t first = running_ / group * group, end = first + group;
    bool all = states_.find(kReady, first) >= end;
    for (std::size_t i = first; all && i < end; ++i) {
      all = states_[i] == kWaits && fibers_[i].what == what && fibers_[i].line == line;
    }
    if (all) std::fill_n(&states_[first], group, kReady);
    go_on(fibers_[running_].context);
  }

  /// What every lane of the warp gives.
  template <class T>
  std::array<T, 32> of_lanes(const T& given, unsigned mask, const char* what, unsigned line) {
    static_assert(sizeof(T) <= sizeof(Fiber::given[0]));
    if (mask != ~0u) fail(std::string(what) + " of line " + std::to_string(line) + " is not of a whole warp");
    // Two in turns: a lane is at most one ahead of the others.
    const std::size_t turn = fibers_[running_].turn++ % 2, first = running_ / 32 * 32;
    std::memcpy(&fibers_[running_].given[turn], &given, sizeof(T));
    meet(32, what, line);
    std::array<T, 32> all;
    for (std::size_t l = 0; l < 32; ++l) std::memcpy(&all[l], &fibers_[first + l].given[turn], sizeof(T));
    return all;
  }

 private:
  static constexpr std::byte kUnwritten{0xFF};
  static constexpr char kReady = 'r', kWaits = 'w', kEnded = 'e';

  struct Fiber {
    static constexpr std::size_t kStackBytes = 128 << 10;
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
    const char* what = "";  ///< it waits in, and in which line
    unsigned line = 0;
    std::array<std::array<std::byte, 64>, 2> given{};
    std::size_t turn = 0;

    void begin() {
      getcontext(&context);
      context.uc_stack.ss_sp = stack.get();
      context.uc_stack.ss_size = kStackBytes;
      makecontext(
          &context,
          [] {
            Machine& machine = instance();
            (*machine.kernel_)();
            machine.states_[machine.running_] = kEnded;
            machine.go_on(machine.fibers_[machine.running_].context);
          },
          0);
      turn = 0;
    }
  };

  /// Ends the launch.
  void fail(std::string why) {
    failure_ = std::move(why);
    swapcontext(&fibers_[running_].context, &host_);
  }

  /// Another thread, or the host where all have ended or none can go on.
  void go_on(ucontext_t& from) {
    const std::size_t start = order == Order::shuffled ? engine_() % states_.size() : 0;
    std::size_t to = order == Order::descending ? states_.rfind(kReady) : states_.find(kReady, start);
    if (to == std::string::npos) to = states_.find(kReady);
    if (to == std::string::npos) {
      failure_ = why_none_goes_on();
      swapcontext(&from, &host_);
      return;
    }
    running_ = to;
    threadIdx.x = static_cast<unsigned>(to);
    if (&fibers_[to].context != &from) swapcontext(&from, &fibers_[to].context);
  }

  std::string why_none_goes_on() {
    std::map<std::string, std::vector<std::size_t>> places;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const Fiber& fiber = fibers_[i];
      places[states_[i] == kEnded ? "the end" : fiber.what + (" of line " + std::to_string(fiber.line))].push_back(i);
    }
    if (places.size() == 1 && places.contains("the end")) return {};
    std::string text = "no thread can go on";
    for (const auto& [place, threads] : places) {
      text +=
          ", " + std::to_string(threads.size()) + " at " + place + " (thread " + std::to_string(threads.front()) + ")";
    }
    return text;
  }

  alignas(1024) std::array<std::byte, 228 << 10> memory_;
  std::vector<Fiber> fibers_;
  ucontext_t host_{};
  std::string states_;  ///< of each thread
  std::size_t running_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  std::string failure_;
  std::mt19937_64 engine_;
};

inline Machine& machine() { return Machine::instance(); }
inline unsigned lane() { return threadIdx.x % 32; }

}  // namespace misa::simt

inline void __syncthreads(unsigned line = __builtin_LINE()) {
  misa::simt::machine().meet(blockDim.x, "__syncthreads", line);
}
inline void __syncwarp(unsigned mask = ~0u, unsigned line = __builtin_LINE()) {
  misa::simt::machine().of_lanes(0, mask, "__syncwarp", line);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from, unsigned line = __builtin_LINE()) {
  return misa::simt::machine().of_lanes(value, mask, "__shfl_sync", line)[static_cast<unsigned>(from) % 32];
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, unsigned line = __builtin_LINE()) {
  const unsigned from = misa::simt::lane() ^ static_cast<unsigned>(bits);
  return misa::simt::machine().of_lanes(value, mask, "__shfl_xor_sync", line)[from % 32];
}
inline unsigned __ballot_sync(unsigned mask, bool vote, unsigned line = __builtin_LINE()) {
  unsigned votes = 0, bit = 1;
  for (const bool one : misa::simt::machine().of_lanes(vote, mask, "__ballot_sync", line)) {
    votes |= one ? bit : 0;
    bit *= 2;
  }
  return votes;
}
template <class T>
T __reduce_add_sync(unsigned mask, T value, unsigned line = __builtin_LINE()) {
  T sum = 0;
  for (const T one : misa::simt::machine().of_lanes(value, mask, "__reduce_add_sync", line)) sum += one;
  return sum;
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, unsigned line = __builtin_LINE()) {
  const auto all = misa::simt::machine().of_lanes(value, mask, "__reduce_max_sync", line);
  return *std::max_element(all.begin(), all.end());
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, unsigned line = __builtin_LINE()) {
  const auto all = misa::simt::machine().of_lanes(value, mask, "__reduce_min_sync", line);
  return *std::min_element(all.begin(), all.end());
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
/// Bytes 0 to 3 are those of a, 4 to 7 of b; each digit of `selector` chooses one.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(b) << 32 | a;
  unsigned chosen = 0;
  for (unsigned i = 0; i < 4; ++i)
    chosen |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
  return chosen;
}
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
