#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "core/chart/svg.hpp"
#include "core/report/html.hpp"
#include "core/report/niah_report.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr std::size_t kMapsAbreast = 3;
constexpr double kMapTitle = 24;  // height of a map's title

}  // namespace

std::string write_niah_svg(const NiahReport& report, const WriterOptions& /*options*/) {
  chart::Figure all{.title = fmt::format("Share of a needle's tokens that are selected: {}, top-k {}",
                                         report.inputs.model, report.inputs.top_k)};
  std::size_t maps = 0;
  double row_height = 0, y = 0;
  for (const Exhibit& exhibit : drawings_of(Json::parse(write_niah_json(report)))) {
    if (!exhibit.figure) continue;
    const std::size_t column = maps++ % kMapsAbreast;
    if (column == 0) {
      y += row_height;
      row_height = 0;
    }
    const double x = static_cast<double>(column) * chart::kWidth;
    chart::Marks title;
    title.text(8, 16, exhibit.figure->title, "head");
    all.marks += fmt::format("<g transform=\"translate({},{})\">{}<g transform=\"translate(0,{})\">{}</g></g>\n",
                             chart::coordinate(x), chart::coordinate(y), title.markup(), chart::coordinate(kMapTitle),
                             exhibit.figure->marks);
    all.description += exhibit.figure->title + ": " + exhibit.figure->description + " ";
    row_height = std::max(row_height, exhibit.figure->height + kMapTitle);
  }
  all.width = chart::kWidth * static_cast<double>(std::clamp<std::size_t>(maps, 1, kMapsAbreast));
  all.height = y + row_height;
  return chart::standalone_svg(all);
}

}  // namespace misa
