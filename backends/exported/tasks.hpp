#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "backends/plugin/misa_kernel.h"
#include "core/base/error.hpp"
#include "core/indexer/backend.hpp"

// Tasks of misa_kernel.h as ours. What contradicts itself is Error(input) MP-E430.

namespace misa::exported {

/// Whether pointers to memory of the device must be there: not where a caller asks what we accept.
enum class Pointers : bool { may_be_null, needed };

[[noreturn]] void refuse(const std::string& what);
inline void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

/// A struct as far as its writer knew it; the rest is zero.
template <class T>
T known_part(const T* given) {
  T known{};
  if (given == nullptr) refuse("a task is null");
  if (given->size < sizeof(given->size)) refuse("the size of a task is " + std::to_string(given->size));
  std::memcpy(&known, given, std::min(given->size, sizeof(T)));
  return known;
}

Dtype dtype_of(i32 dtype);
Queries queries_of(const misa_queries& queries, Pointers pointers);
/// `dim`: of the queries.
KeyCache keys_of(const misa_keys& keys, i64 dim, Pointers pointers);
bool is_paged(const misa_keys& keys);
View<const float, 2> norms_of(const float* norms, const misa_queries& queries);
View<i32, 2> tokens_of(i32* tokens, i64 rows, i64 k, i64 stride, Pointers pointers);

ScoreTask task_of(const misa_score_task& task, Pointers pointers);
SelectTask task_of(const misa_select_task& task, Pointers pointers);
/// `most_samples`: at least as many keys as a row sees, for routers over sampled keys.
RankTask task_of(const misa_route_task& task, i64 most_samples, Pointers pointers);

}  // namespace misa::exported
