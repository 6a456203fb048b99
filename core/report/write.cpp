#include "core/report/write.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

#include "core/report/writers.hpp"

namespace misa {
namespace {

/// In the order of Format.
constexpr std::array<std::string_view, 5> kFormats{"table", "json", "jsonl", "csv", "md"};

}  // namespace

std::optional<Format> find_format(std::string_view name) {
  const auto found = std::find(kFormats.begin(), kFormats.end(), name);
  if (found == kFormats.end()) return std::nullopt;
  return static_cast<Format>(found - kFormats.begin());
}

std::string_view format_name(Format format) { return kFormats[static_cast<std::size_t>(format)]; }

std::vector<std::string_view> format_names() { return {kFormats.begin(), kFormats.end()}; }

std::string write_report(const Report& report, Format format, const WriterOptions& options) {
  switch (format) {
    case Format::table: return write_table(report, options);
    case Format::json: return write_json(report);
    case Format::jsonl: return write_json_lines(report);
    case Format::csv: return write_csv(report);
    case Format::markdown: return write_markdown(report);
  }
  return {};
}

}  // namespace misa
