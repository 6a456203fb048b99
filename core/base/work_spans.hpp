#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "core/base/steady_seconds.hpp"

namespace misa {

/// From when to when a thread worked, in steady_seconds.
struct WorkSpan {
  double begin = 0, end = 0;
};

/// Records when the threads of parallel regions work, from construction to destruction, one recorder at a time. Regions
/// say so themselves, by a Working in each thread; while nobody records, that is one load.
class WorkRecorder {
 public:
  /// Of threads 0 to `threads` - 1, the first `most` spans of each.
  WorkRecorder(int threads, std::size_t most) : most_(most), spans_(static_cast<std::size_t>(threads)) {
    for (std::vector<WorkSpan>& own : spans_) own.reserve(64);
    current().store(this, std::memory_order_release);
  }
  ~WorkRecorder() { current().store(nullptr, std::memory_order_release); }
  WorkRecorder(const WorkRecorder&) = delete;
  WorkRecorder& operator=(const WorkRecorder&) = delete;

  /// Each thread has a list of its own: no two write to one.
  void add(int thread, const WorkSpan& span) {
    if (static_cast<std::size_t>(thread) >= spans_.size()) return;
    std::vector<WorkSpan>& own = spans_[static_cast<std::size_t>(thread)];
    if (own.size() < most_) own.push_back(span);
  }
  /// Returns the spans of each thread, in the order of time.
  const std::vector<std::vector<WorkSpan>>& spans() const { return spans_; }

  static WorkRecorder* recording() { return current().load(std::memory_order_acquire); }

 private:
  static std::atomic<WorkRecorder*>& current() {
    static std::atomic<WorkRecorder*> recorder{nullptr};
    return recorder;
  }

  std::size_t most_;
  std::vector<std::vector<WorkSpan>> spans_;
};

/// A thread works in a parallel region from construction to destruction. Loops end with `nowait`, so that waiting for
/// the others is not work.
class Working {
 public:
  explicit Working(int thread)
      : recorder_(WorkRecorder::recording()), thread_(thread), begin_(recorder_ ? steady_seconds() : 0) {}
  ~Working() {
    if (recorder_ != nullptr) recorder_->add(thread_, {begin_, steady_seconds()});
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  WorkRecorder* recorder_;
  int thread_;
  double begin_;
};

}  // namespace misa
