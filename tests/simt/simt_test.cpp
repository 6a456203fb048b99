// What a launch on the host shows and refuses.

#include "tests/simt/simt.hpp"

#include <doctest/doctest.h>

using namespace misa::simt;

namespace {

constexpr unsigned kThreads = 64;
constexpr std::array<Order, 3> kOrders{Order::ascending, Order::descending, Order::shuffled};

/// What a block of `kernel(shared, thread)` leaves in shared memory, a number a thread.
std::vector<int> left_by(Order order, const std::function<void(int*, unsigned)>& kernel) {
  std::vector<int> shared(kThreads + 1);
  Machine& machine = misa::simt::machine();
  const std::span<std::byte> own = std::exchange(machine.shared, std::as_writable_bytes(std::span(shared)));
  machine.order = order;
  std::string failure;
  try {
    machine.launch(1, kThreads, kThreads * sizeof(int), [&] { kernel(shared.data(), threadIdx.x); });
  } catch (const std::runtime_error& error) {
    failure = error.what();
  }
  machine.shared = own;
  if (!failure.empty()) throw std::runtime_error(failure);
  shared.pop_back();
  return shared;
}

}  // namespace

TEST_CASE("what threads hand to one another arrives, in every order") {
  for (const Order order : kOrders) {
    const std::vector<int> found = left_by(order, [](int* shared, unsigned thread) {
      shared[thread] = static_cast<int>(thread);
      __syncthreads();
      const int other = shared[kThreads - 1 - thread];
      __syncthreads();
      shared[thread] = __shfl_xor_sync(~0u, other, 16) + 100 * __popc(__ballot_sync(~0u, other < 16));
    });
    for (unsigned thread = 0; thread < kThreads; ++thread) {
      CHECK(found[thread] == static_cast<int>(kThreads - 1 - (thread ^ 16) + (thread < 32 ? 0 : 1600)));
    }
  }
}

TEST_CASE("a missing barrier is a difference between orders") {
  const auto reverse = [](int* shared, unsigned thread) {
    shared[thread] = static_cast<int>(thread);
    const int other = shared[kThreads - 1 - thread];
    __syncthreads();
    shared[thread] = other;
  };
  CHECK(left_by(Order::ascending, reverse) != left_by(Order::descending, reverse));
  CHECK(left_by(Order::ascending, reverse)[0] == -1);  // not written yet: NaN as a float
}

TEST_CASE("threads that wait for one that does not come are named") {
  for (const Order order : kOrders) {
    CHECK_THROWS_WITH(left_by(order,
                              [](int*, unsigned thread) {
                                if (thread != 40) __syncthreads();
                              }),
                      doctest::Contains("1 at the end (thread 40)"));
    CHECK_THROWS_WITH(left_by(order,
                              [](int*, unsigned thread) {
                                if (thread == 3) __syncthreads();
                                __syncwarp();
                              }),
                      doctest::Contains("1 at __syncthreads of line"));
  }
  CHECK_THROWS_WITH(left_by(Order::ascending, [](int*, unsigned) { __syncwarp(1); }),
                    doctest::Contains("is not of a whole warp"));
}

TEST_CASE("what is written behind the shared memory is seen") {
  CHECK_THROWS_WITH(left_by(Order::ascending, [](int* shared, unsigned thread) { shared[thread + 1] = 0; }),
                    doctest::Contains("behind the shared memory"));
}
