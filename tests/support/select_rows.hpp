#pragma once

#include <string_view>
#include <vector>

#include "tests/support/on_backend.hpp"

// Rows of scores to select from.

namespace misa::testing {

/// Drawn scores of rows that see all their columns: 0 normal, 1 with a plateau of exact zeros through the k-th place,
/// 2 equal, 3 ascending.
std::vector<float> select_scores(i64 rows, i64 columns, i64 kind);
SelectCase plain_rows(i64 rows, i64 columns, i64 k, i64 kind);

/// Rows that make it hard to find the k best of `columns`: "equal", "zeros", "few_zeros", "near", "only_near",
/// "denormal", "infinite", "nan", "regular"; or "few_visible", of which so many are seen.
SelectCase hard_rows(std::string_view kind, i64 columns, i64 k);

/// Rows of every kind at once, some of them seen in part.
SelectCase many_rows(i64 rows, i64 columns, i64 k);

/// Rows of every kind, seen in part, as windows, lists and blocks, with and without forced ends: up to 4 of up to
/// 20,000 columns, or `many`, 270 of more than 32,768.
SelectCase drawn_rows(u64 seed, bool many);

/// The same with columns that `seed` forces: few, about k, or more.
SelectCase with_forced(SelectCase from, i64 seed);

/// What SelectTask promises, by a sort of each row. [rows, k]
std::vector<i32> sorted_selection(const SelectCase& from);

}  // namespace misa::testing
