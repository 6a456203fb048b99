// Whatever the bytes, the reader of selected ids (.npy and safetensors) refuses them with Error(input) or gives a row
// of ids for each row that it names.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "core/base/error.hpp"
#include "core/selection/id_file.hpp"

namespace {

using namespace misa;  // NOLINT(google-build-using-namespace): a program of one file

constexpr i64 kRows = 3;

void hold(bool truth, const char* claim) {
  if (truth) return;
  std::fprintf(stderr, "broken: %s\n", claim);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("misa-fuzz-ids-" + std::to_string(std::rand()))).string();
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  Workload workload;
  workload.q.shape = {kRows, 1, 1};  // only the shape is looked at
  try {
    const IdFile read = read_ids(path, workload, 1 << 24);
    hold(read.ids.shape.size() == 2 && read.ids.shape[1] >= 1, "ids have columns");
    hold(read.ids.shape[0] == static_cast<i64>(read.rows.size()), "each row has ids");
    hold(read.ids.bytes() <= static_cast<i64>(size), "ids come from the file");
    hold(std::set<i32>(read.rows.begin(), read.rows.end()).size() == read.rows.size(), "no row is named twice");
    for (const i32 row : read.rows) hold(row >= 0 && row < kRows, "rows are the workload's");
  } catch (const Error& error) {
    hold(error.kind() == ErrorKind::input, "bad bytes are the input's fault");
  }
  return 0;
}
