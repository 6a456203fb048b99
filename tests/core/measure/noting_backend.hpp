#pragma once

#include <string>
#include <vector>

#include "core/indexer/forwarding_backend.hpp"

namespace misa {

/// Notes what is asked of it, and keeps a time of its own. A recording notes and takes as long as the test says.
class NotingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  std::string notes;
  bool records = true, flushes = true;
  double now = 0, replay_seconds = 1;
  std::vector<DeviceState> states;  ///< told one after the other, the last again and again; empty: no driver

  std::unique_ptr<Clock> clock() override { return std::make_unique<OwnClock>(*this); }
  std::unique_ptr<Recording> record(const std::function<void()>& work) override {
    if (!records) return nullptr;
    notes += "record(";
    recording_ = true;
    work();
    recording_ = false;
    notes += ")";
    return std::make_unique<OwnRecording>(*this);
  }
  bool prepare_run(bool cold) override {
    notes += cold ? " cold " : " warm ";
    return flushes && cold;
  }
  std::optional<DeviceState> device_state() override {
    if (states.empty()) return std::nullopt;
    const DeviceState state = states.front();
    if (states.size() > 1) states.erase(states.begin());
    return state;
  }

 private:
  class OwnRecording final : public Recording {
   public:
    explicit OwnRecording(NotingBackend& backend) : backend_(backend) {}
    void replay() override { backend_.notes += "replay"; }

   private:
    NotingBackend& backend_;
  };
  /// In a recording, a mark is a moment of the replay: each lasts replay_seconds from one to the next.
  class OwnClock final : public Clock {
   public:
    explicit OwnClock(NotingBackend& backend) : backend_(backend) {}
    void reset() override { marks_.clear(); }
    int mark() override {
      if (backend_.recording_) {
        marks_.push_back(static_cast<double>(marks_.size()) * backend_.replay_seconds);
      } else {
        marks_.push_back(backend_.now);
      }
      return static_cast<int>(marks_.size()) - 1;
    }
    double seconds(int from, int to) override {
      return marks_.at(static_cast<std::size_t>(to)) - marks_.at(static_cast<std::size_t>(from));
    }

   private:
    NotingBackend& backend_;
    std::vector<double> marks_;
  };

  bool recording_ = false;
};

}  // namespace misa
