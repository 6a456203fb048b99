// Whatever the bytes, the readers of recorded workloads and of recorded selections (goldens) refuse them with
// Error(input) or accept them; and what they accept survives being written and read again.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/base/error.hpp"
#include "core/selection/selection_file.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/trace.hpp"

namespace {

using namespace misa;  // NOLINT(google-build-using-namespace): a program of one file

void hold(bool truth, const char* claim) {
  if (truth) return;
  std::fprintf(stderr, "broken: %s\n", claim);
  std::abort();
}

void read_as_selection(const std::string& path, const std::string& again_path) {
  const SelectionFile read = read_selection(path, 1 << 24);
  Workload workload;
  const i64 heads = read.selection[Choice::heads].shape.empty() ? 1 : std::stoll(read.metadata.at("index_n_heads"));
  workload.q.shape = {static_cast<i64>(read.ks.size()), heads, 1};  // only the shape is looked at
  workload.ks = read.ks;
  workload.ke = read.ke;
  write_selection(again_path, workload, read.selection, read.metadata);
  const SelectionFile again = read_selection(again_path);
  hold(!first_difference(read.selection, again.selection), "a selection's tensors survive");
  hold(read.ks == again.ks && read.ke == again.ke, "a selection's windows survive");
}

void read_as_workload(const std::string& path, const std::string& again_path) {
  const Workload read = read_trace(path, 1 << 24);
  write_trace(again_path, read);
  const Workload again = read_trace(again_path, 1 << 24);
  hold(input_hash(read) == input_hash(again), "what an indexer reads survives");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("misa-fuzz-trace-" + std::to_string(std::rand()))).string();
  static const std::string again_path = path + "-again";
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  for (const auto read : {read_as_selection, read_as_workload}) {
    try {
      read(path, again_path);
    } catch (const Error& error) {
      hold(error.kind() == ErrorKind::input, "bad bytes are the input's fault");
    }
  }
  return 0;
}
