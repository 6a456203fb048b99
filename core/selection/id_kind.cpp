#include "core/selection/id_kind.hpp"

#include <unordered_map>

#include "core/selection/selection.hpp"

namespace misa {

std::vector<i32> tokens_of(const Workload& workload, IdKind kind, i64 m, std::span<const i32> ids) {
  const std::size_t row = static_cast<std::size_t>(m);
  const i64 begin = workload.ks[row], window = workload.ke[row] - begin, size = workload.page_size();
  const bool paged = kind != IdKind::token && workload.paged();
  std::unordered_map<i64, i64> column_of;  // of each page of the row's window
  if (paged) {
    const std::span<const i32> table = row_of<i32>(workload.block_table, workload.sequence[row]);
    for (i64 column = 0; column * size < window; ++column) column_of.try_emplace(table[column], column);
  }
  std::vector<i32> tokens;
  for (const i64 id : ids) {
    i64 token = kind == IdKind::token ? id : id - begin;
    if (paged) {
      const auto found = id < 0 ? column_of.end() : column_of.find(id / size);
      token = found == column_of.end() ? -1 : found->second * size + id % size;
    }
    tokens.push_back(token >= 0 && token < window ? static_cast<i32>(token) : -1);
  }
  return tokens;
}

i64 id_of(const Workload& workload, IdKind kind, i64 m, i64 token) {
  const std::size_t row = static_cast<std::size_t>(m);
  if (kind == IdKind::token) return token;
  if (!workload.paged()) return workload.ks[row] + token;
  const i64 size = workload.page_size();
  return row_of<i32>(workload.block_table, workload.sequence[row])[token / size] * size + token % size;
}

}  // namespace misa
