#include <fmt/format.h>

#include <algorithm>

#include "core/chart/heat_map.hpp"
#include "core/report/exhibit.hpp"
#include "core/report/text.hpp"
#include "core/selection/selection_file.hpp"

// What is shown of a recorded selection: the heads of each row.
namespace misa {
namespace {

constexpr i64 kMostHeadRows = 120;  // of more rows, so many at even distances

}  // namespace

std::vector<PageSection> selection_sections(const SelectionFile& file) {
  const HostTensor& heads = file.selection[Choice::heads];
  if (heads.empty()) {
    return {{.heading = "Heads", .remark = "This selection has no heads: its indexer scores with all of them."}};
  }
  const i64 rows = heads.shape.at(0);
  std::vector<i64> rows_of_head;
  for (const i32 head : heads.span<const i32>()) {
    if (head < 0) continue;
    rows_of_head.resize(std::max(rows_of_head.size(), static_cast<std::size_t>(head) + 1), 0);
    ++rows_of_head[static_cast<std::size_t>(head)];
  }
  const auto stated = file.metadata.find("index_n_heads");
  const i64 all = stated == file.metadata.end() ? 0 : std::atoll(stated->second.c_str());
  constexpr i64 kMostHeads = 4096;
  rows_of_head.resize(std::clamp<std::size_t>(static_cast<std::size_t>(std::max<i64>(0, std::min(all, kMostHeads))),
                                              rows_of_head.size(),
                                              std::max<std::size_t>(rows_of_head.size(), kMostHeads)));

  Exhibit exhibit{.name = "heads"};
  chart::Presence drawn{.title = "Heads that each row keeps", .x_title = "head", .y_title = "row"};
  drawn.columns = std::ssize(rows_of_head);
  const i64 shown = std::min(rows, kMostHeadRows);
  for (i64 i = 0; i < shown; ++i) {
    const i64 row = i * rows / shown;
    drawn.rows.push_back(std::to_string(row));
    const auto ids = without_pads(row_of<i32>(heads, row));
    drawn.chosen.emplace_back(ids.begin(), ids.end());
  }
  std::vector<i64> order(rows_of_head.size());
  for (i64 head = 0; head < std::ssize(order); ++head) order[head] = head;
  std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) { return rows_of_head[a] > rows_of_head[b]; });
  exhibit.table = {.caption = "Rows that keep each head",
                   .columns = {{"head"}, {"rows", true}, {"share of rows", true}}};
  i64 none = 0;
  for (const i64 head : order) {
    if (rows_of_head[head] == 0) {
      ++none;
      continue;
    }
    exhibit.table.rows.push_back({std::to_string(head), std::to_string(rows_of_head[head]),
                                  percent(static_cast<double>(rows_of_head[head]) / static_cast<double>(rows))});
  }
  drawn.description = fmt::format("{} of {} are kept by no row; head {} is kept by {} of {}.", none,
                                  counted(drawn.columns, "head", "heads"), order.front(), rows_of_head[order.front()],
                                  counted(rows, "row", "rows"));
  exhibit.remark = drawn.description;
  if (shown < rows) exhibit.remark += fmt::format(" {} rows at even distances are drawn.", shown);
  exhibit.folded = exhibit.table.rows.size() > 16;
  exhibit.figure = draw(drawn);
  return {{.heading = "Heads", .exhibits = {std::move(exhibit)}}};
}

}  // namespace misa
