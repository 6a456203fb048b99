// Kernels of the cpu backend inside a program that has threads of its own.

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <iterator>
#include <optional>
#include <thread>

#include "tests/support/cases.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

i64 threads_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

/// Counts the threads of this process again and again while it lives; nested teams end with their regions.
class ThreadWatch {
 public:
  ThreadWatch()
      : watcher_([this] {
          do {
            most_ = std::max<i64>(most_, threads_of_this_process());
          } while (!stop_);
        }) {}
  /// The most that there were, but for the watcher.
  i64 most() {
    stop_ = true;
    watcher_.join();
    return most_ - 1;
  }

 private:
  std::atomic<bool> stop_ = false;
  i64 most_ = 0;
  std::thread watcher_;
};

}  // namespace

TEST_CASE("a run inside a parallel region starts no threads, and chooses what it chooses outside") {
  CaseOptions options;
  options.heads = 16;
  options.rows = 9;
  options.contexts = {400};
  const Workload workload = draw_workload(options);
  for (const std::string& name : present_backends()) {
    if (name == "cuda") continue;
    CAPTURE(name);
    const IndexerSpec spec = make_indexer("misa", {.top_k = 32, .active_heads = 4, .block_size = 32});
    const Chosen wanted = choose(*make_backend(name, 4), workload, spec);
    const int before = omp_get_max_threads();
    std::vector<Chosen> chosen(2);
    i64 started = 0, most = 0;
#pragma omp parallel num_threads(2)
    {
      std::optional<ThreadWatch> watch;
#pragma omp barrier
#pragma omp master
      {
        started = threads_of_this_process();
        watch.emplace();
      }
#pragma omp barrier
      for (int i = 0; i < 20; ++i) {
        chosen[static_cast<std::size_t>(omp_get_thread_num())] = choose(*make_backend(name, 4), workload, spec);
      }
#pragma omp barrier
#pragma omp master
      most = watch->most();
    }
    CHECK(most <= started);
    CHECK(omp_get_max_threads() == before);
    for (const Chosen& one : chosen) CHECK(one.tokens == wanted.tokens);
  }
}
