#include "core/workload/input_hash.hpp"

#include <fmt/format.h>

#include <cstring>

#include "core/base/interrupt.hpp"
#include "core/base/mix.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace {

class Hash {
 public:
  /// `stops`: ends by Interrupted, for what takes long.
  explicit Hash(bool stops) : stops_(stops) {}

  void add(u64 word) { state_ = mix64(state_ + kGolden + word); }

  void add(const void* data, i64 bytes) {
    const auto* from = static_cast<const unsigned char*>(data);
    for (; bytes > 0; bytes -= 8, from += 8) {
      if (stops_ && bytes % (1 << 20) < 8) stop_if_interrupted();
      u64 word = 0;
      std::memcpy(&word, from, static_cast<std::size_t>(std::min<i64>(bytes, 8)));
      add(word);
    }
  }

  void add(const HostTensor& tensor) {
    add(static_cast<u64>(tensor.dtype));
    add(static_cast<u64>(tensor.shape.size()));
    for (const i64 extent : tensor.shape) add(static_cast<u64>(extent));
    add(tensor.storage.data(), tensor.bytes());
  }

  void add(const std::vector<i32>& values) {
    add(static_cast<u64>(values.size()));
    add(values.data(), static_cast<i64>(values.size() * sizeof(i32)));
  }

  u64 value() const { return state_; }

 private:
  u64 state_ = 0;
  bool stops_;
};

}  // namespace

std::string input_hash(const Workload& workload) {
  Hash hash(true);
  visit_fields([&](const WorkloadField& field, auto member) {
    // What formats gained later: without it the hash is as it always was.
    const bool later = field.tensor.shape.back() == 'W' || field.tensor.name == "candidates";
    if (field.use != Use::judging && !(later && bytes_of(workload.*member) == 0)) hash.add(workload.*member);
  });
  if (workload.candidate_length > 1) hash.add(static_cast<u64>(workload.candidate_length));
  return fmt::format("{:016x}", hash.value());
}

std::string tensor_hash(const HostTensor& tensor) {
  Hash hash(false);
  hash.add(tensor);
  return fmt::format("{:016x}", hash.value());
}

}  // namespace misa
