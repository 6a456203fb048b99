#include "core/measure/timed_run.hpp"

#include <utility>

namespace misa {

TimedRun::TimedRun(Backend& backend, const RangeName& name, Work work, TimedRunOptions options)
    : backend_(backend),
      name_(name),
      work_(std::move(work)),
      options_(options),
      clock_(backend.clock()),
      timer_(*clock_),
      stage_ranges_(timer_) {}

void TimedRun::work(Observer& stages) {
  timer_.start();
  work_(options_.stages ? &stages : nullptr);
  timer_.stop();
}

RunTimes TimedRun::operator()(bool counts) {
  static const RangeName warm_up(kWarmUpRange), measure(kMeasureRange);
  const Range run(name_);
  if (++calls_ == 2 && options_.record) recording_ = backend_.record([this] { work(timer_); });
  cold_ = backend_.prepare_run(options_.cold);
  const Range timed(counts ? measure : warm_up);
  if (recording_) {
    recording_->replay();
  } else {
    work(counts ? static_cast<Observer&>(stage_ranges_) : timer_);
  }
  return timer_.times();
}

}  // namespace misa
