#pragma once

#include <vector>

#include "core/workload/key_layout.hpp"
#include "core/workload/synthetic.hpp"

// Where rows, keys, pages and needles of a synthetic workload are: what lay_out() and generate() share.

namespace misa::synthetic {

/// The position of one query row.
struct Row {
  i64 sequence, position;  // position -1: before the sequence's first token
  i64 needle;              // -1: none
};

/// All rows, a sequence's together and in order.
std::vector<Row> lay_out_rows(const SyntheticRequest& request);

/// First key of every needle, for a sequence whose first row is at `first_row`.
std::vector<i64> needle_starts(const SyntheticRequest& request, i64 first_row);

/// The first row of every sequence with rows: [sequence] -> position, or -1.
std::vector<i64> first_rows(const std::vector<Row>& rows, std::size_t sequences);

/// Pages that a sequence fills or begins.
i64 pages_of(const SyntheticRequest& request, i64 context);

/// Pages in use and a few that nobody owns.
i64 total_pages(const SyntheticRequest& request);

/// Columns of the block table.
i64 table_columns(const SyntheticRequest& request);

/// The layout of the keys, in pages at decode.
KeyLayout layout_of(const SyntheticRequest& request);

}  // namespace misa::synthetic
