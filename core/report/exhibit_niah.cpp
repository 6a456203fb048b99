#include <fmt/format.h>

#include <algorithm>

#include "core/chart/heat_map.hpp"
#include "core/chart/scale.hpp"
#include "core/report/exhibit.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"

// What is shown of needle maps.
namespace misa {
namespace {

/// "misa-qnorm-h-1" of "misa (qnorm, h 1)".
std::string plain_name(const std::string& name) {
  std::string plain;
  for (const char c : name) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (word) {
      plain += c;
    } else if (!plain.empty() && plain.back() != '-') {
      plain += '-';
    }
  }
  while (plain.ends_with('-')) plain.pop_back();
  return plain;
}

/// A cell of a map, [context][depth]; empty: unknown.
std::optional<double> share_of(const Json& map, i64 context, i64 depth) {
  const Json& columns = array_at(map, "shares");
  if (context >= std::ssize(columns) || !columns[context].is_array()) return std::nullopt;
  const Json& column = columns[context];
  if (depth >= std::ssize(column) || !column[depth].is_number()) return std::nullopt;
  return column[depth].get<double>();
}

std::string share_cell(std::optional<double> share) { return share ? percent(*share) : "–"; }

Exhibit map_exhibit(const Json& map, const std::vector<std::string>& contexts, const std::vector<std::string>& depths) {
  const std::string name = text_at(map, "name").value_or("unnamed");
  Exhibit exhibit{.name = "needles-" + plain_name(name)};
  chart::HeatMap drawn{.title = "Needles that " + name + " selects", .x_title = "context", .y_title = "depth"};
  drawn.columns = contexts;
  drawn.rows = depths;
  drawn.share = [&](i64 row, i64 column) { return share_of(map, column, row); };
  drawn.what = "share of tokens, %";
  const auto mean = number_at(map, "mean"), worst = number_at(map, "worst.share");
  drawn.description =
      fmt::format("Mean {}, least {} over all contexts and depths.", share_cell(mean), share_cell(worst));
  exhibit.table = {.caption = drawn.title + ", share of a needle's tokens", .columns = {{"depth"}}};
  for (const std::string& context : contexts) exhibit.table.columns.push_back({context, true});
  for (i64 row = 0; row < std::ssize(depths); ++row) {
    std::vector<std::string> cells{depths[row]};
    for (i64 column = 0; column < std::ssize(contexts); ++column)
      cells.push_back(share_cell(share_of(map, column, row)));
    exhibit.table.rows.push_back(std::move(cells));
  }
  exhibit.folded = true;
  exhibit.figure = draw(drawn);
  return exhibit;
}

}  // namespace

std::vector<PageSection> niah_sections(const Json& document) {
  std::vector<std::string> contexts, depths;
  for (const double context : numbers_at(document, "contexts")) contexts.push_back(chart::token_text(context));
  for (const double depth : numbers_at(document, "depths")) depths.push_back(fmt::format("{:.0f} %", 100 * depth));
  Exhibit summary{.name = "needles"};
  summary.table = {.caption = "Share of a needle's tokens that is selected",
                   .columns = {{"indexer"}, {"mean", true}, {"least", true}, {"at context", true}, {"at depth", true}}};
  PageSection maps{.heading = "Needle maps",
                   .remark =
                       "Each cell is the share of a needle's tokens that are among those selected, where the "
                       "needle lies at that depth of a context of that length.",
                   .side_by_side = true};
  for (const Json& map : array_at(document, "maps")) {
    const auto context = number_at(map, "worst.context"), depth = number_at(map, "worst.depth");
    summary.table.rows.push_back({text_at(map, "name").value_or("unnamed"), share_cell(number_at(map, "mean")),
                                  share_cell(number_at(map, "worst.share")),
                                  context ? chart::token_text(*context) : "–", share_cell(depth)});
    maps.exhibits.push_back(map_exhibit(map, contexts, depths));
  }
  if (maps.exhibits.empty()) return {{.heading = "Results", .remark = "There is no map in this result."}};
  return {{.heading = "Needles", .exhibits = {std::move(summary)}}, std::move(maps)};
}

}  // namespace misa
