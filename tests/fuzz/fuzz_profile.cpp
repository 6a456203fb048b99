#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.hpp"
#include "core/workload/profile.hpp"

/// Any text is either refused with misa::Error or gives a profile whose request is within the limits; whatever else
/// comes out is a bug and ends the run.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace misa;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string path = "fuzz.toml";
  ModelProfile model;
  try {
    model = parse_model(text, path);
  } catch (const Error&) {
    model = ModelProfile{};
  }
  WorkloadProfile workload;
  bool accepted = false;
  try {
    workload = parse_workload(text, path);
    accepted = true;
  } catch (const Error&) {
  }
  if (!accepted) {
    workload.contexts = {8192};
  }
  const SyntheticRequest request = make_request(model, workload, 1);  // throws when a limit was missed: a crash here
  if (generated_bytes(request) <= 0) std::abort();
  try {
    parse_config(text, path);
  } catch (const Error&) {
  }
  return 0;
}
