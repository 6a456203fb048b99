#include "core/measure/timed_run.hpp"

#include <utility>

namespace misa {

TimedRun::TimedRun(Backend& backend, Work work, TimedRunOptions options)
    : backend_(backend), work_(std::move(work)), options_(options), clock_(backend.clock()), timer_(*clock_) {}

void TimedRun::work() {
  timer_.start();
  work_(options_.stages ? &timer_ : nullptr);
  timer_.stop();
}

RunTimes TimedRun::operator()() {
  if (++calls_ == 2 && options_.record) recording_ = backend_.record([this] { work(); });
  cold_ = backend_.prepare_run(options_.cold);
  if (recording_) {
    recording_->replay();
  } else {
    work();
  }
  return timer_.times();
}

}  // namespace misa
