#include "core/measure/timed_run.hpp"

#include <cstddef>
#include <utility>

namespace misa {
namespace {

constexpr std::size_t kMostWorkSpans = 100000;  // of a thread

}  // namespace

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
  const Range case_range(name_);
  if (++calls_ == 2 && options_.record) recording_ = backend_.record([this] { work(timer_); });
  cold_ = backend_.prepare_run(options_.cold);
  const Range timed(counts ? measure : warm_up);
  if (!counts || options_.traced_threads == 0 || traced_) {
    run(counts);
    return timer_.times();
  }
  WorkRecorder recorder(options_.traced_threads, kMostWorkSpans);
  TracedRun traced{.begin = steady_seconds()};
  run(counts);
  traced.launched = steady_seconds();
  traced.times = timer_.times(true);
  traced.threads = recorder.spans();
  traced_ = std::move(traced);
  return traced_->times;
}

void TimedRun::run(bool counts) {
  if (recording_) return recording_->replay();
  work(counts ? static_cast<Observer&>(stage_ranges_) : timer_);
}

}  // namespace misa
