#include "core/workload/rows.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/error.hpp"

namespace misa {
namespace {

/// The rows `kept` of the first axis.
HostTensor gather_rows(const HostTensor& tensor, const std::vector<i64>& kept) {
  if (tensor.empty()) return {};
  std::vector<i64> shape = tensor.shape;
  const i64 row_bytes = tensor.bytes() / shape.at(0);
  shape.at(0) = static_cast<i64>(kept.size());
  HostTensor gathered(tensor.dtype, std::move(shape));
  for (std::size_t i = 0; i < kept.size(); ++i) {
    std::memcpy(gathered.storage.data() + static_cast<i64>(i) * row_bytes, tensor.storage.data() + kept[i] * row_bytes,
                static_cast<std::size_t>(row_bytes));
  }
  return gathered;
}

std::vector<i32> gather_rows(const std::vector<i32>& values, const std::vector<i64>& kept) {
  std::vector<i32> gathered;
  for (const i64 row : kept) gathered.push_back(values[static_cast<std::size_t>(row)]);
  return gathered;
}

/// A tensor of some rows, and which rows: what is left of both, renumbered.
void keep_listed(HostTensor& tensor, std::vector<i32>& rows, const std::vector<i64>& kept) {
  if (tensor.empty()) return;
  std::vector<i64> positions;
  std::vector<i32> renumbered;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t row = 0; row < kept.size(); ++row) {
      if (kept[row] != rows[i]) continue;
      positions.push_back(static_cast<i64>(i));
      renumbered.push_back(static_cast<i32>(row));
    }
  }
  tensor = positions.empty() ? HostTensor() : gather_rows(tensor, positions);
  rows = std::move(renumbered);
}

}  // namespace

i64 thinning_bytes(const Workload& workload, i64 count) {
  const i64 largest =
      std::max({workload.q.bytes(), workload.weights.bytes(), workload.attention_mass.bytes(), workload.topk.bytes()});
  return count < workload.rows() ? largest / workload.rows() * count : largest;
}

Workload keep_rows(Workload workload, i64 count) {
  const i64 rows = workload.rows();
  if (workload.paged()) {
    throw Error(ErrorKind::usage, "MP-E013", "rows of a paged workload belong to its sequences and stay together",
                workload.name, "the workload without --rows");
  }
  if (count < 1 || count > rows) {
    throw Error(ErrorKind::usage, "MP-E014",
                "--rows is " + std::to_string(count) + ", and there are " + std::to_string(rows) + " rows",
                workload.name, "1 to " + std::to_string(rows));
  }
  std::vector<i64> kept;
  for (i64 i = 1; i <= count; ++i) kept.push_back(i * rows / count - 1);

  workload.q = gather_rows(workload.q, kept);
  workload.weights = gather_rows(workload.weights, kept);
  workload.q_scale = gather_rows(workload.q_scale, kept);
  workload.q_norm = gather_rows(workload.q_norm, kept);
  workload.q_pos = gather_rows(workload.q_pos, kept);
  workload.sequence = gather_rows(workload.sequence, kept);
  workload.ks = gather_rows(workload.ks, kept);
  workload.ke = gather_rows(workload.ke, kept);
  keep_listed(workload.attention_mass, workload.attention_mass_row, kept);
  keep_top_k(workload, workload.metadata);  // the rows kept may be none of those with a recorded selection
  keep_listed(workload.topk, workload.topk_row, kept);
  return workload;
}

}  // namespace misa
