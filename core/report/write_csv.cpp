#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "core/report/columns.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {

std::string csv_field(std::string_view text) {
  std::string repaired = repaired_utf8(text);
  const bool edge = !repaired.empty() && (repaired.front() == ' ' || repaired.back() == ' ');
  if (!edge && repaired.find_first_of("\",\r\n") == std::string::npos) return repaired;
  std::string quoted = "\"";
  for (char c : repaired) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

namespace {

std::string field_of(const Value& value) {
  if (const auto* whole = std::get_if<i64>(&value)) return fmt::format("{}", *whole);
  if (const auto* number = std::get_if<double>(&value)) return exact_number(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return csv_field(*text);
  return {};
}

template <class Field>
void add_line(std::string& text, Field field) {
  std::string_view comma = "";
  for (const Column& column : columns()) {
    if (column.name.empty()) continue;
    text += comma;
    text += field(column);
    comma = ",";
  }
  text += "\r\n";
}

void add_row(std::string& text, const ReportRow& row) {
  add_line(text, [&](const Column& column) { return field_of(value_of(column, row)); });
}

constexpr const char* kRowsHead =
    "indexer,router,backend,reference,row,recall,iou,missed,attention_mass,recall_free,iou_free\r\n";

void add_rows(std::string& text, std::string_view indexer, const std::optional<std::string>& router,
              std::string_view backend, const Quality& quality) {
  const std::string head = fmt::format("{},{},{},{}", csv_field(indexer), router.value_or(""), csv_field(backend),
                                       csv_field(quality.reference));
  for (const RowQuality& row : quality.per_row) {
    const bool free = quality.forced.any() && row.free > 0;
    text +=
        fmt::format("{},{},{},{},{},{},{},{}\r\n", head, row.row, exact_number(row.recall()), exact_number(row.iou()),
                    row.wanted - row.shared, row.attention_mass ? exact_number(*row.attention_mass) : "",
                    free ? exact_number(row.free_recall()) : "", free ? exact_number(row.free_iou()) : "");
  }
}

}  // namespace

std::string write_rows(const Report& report, const WriterOptions& /*options*/) {
  std::string text = kRowsHead;
  for (const ReportCase& one : report.cases) {
    if (one.quality) add_rows(text, one.spec.name, router_of(one.spec), one.backend, *one.quality);
  }
  if (report.recorded_topk) add_rows(text, recorded_case(report).spec.name, {}, "", report.recorded_topk->quality);
  return text;
}

std::string write_agreement_rows(const AgreementReport& report, const WriterOptions& /*options*/) {
  std::string text = kRowsHead;
  for (const AgreementCase& one : report.cases) {
    if (one.quality) add_rows(text, one.indexer, one.router, report.side.name, *one.quality);
  }
  return text;
}

std::string write_csv(const Report& report, const WriterOptions& /*options*/) {
  std::string text;
  add_line(text, [](const Column& column) { return std::string(column.name); });
  for (const ReportCase& one : report.cases) {
    for (const ReportStage& stage : one.stages) add_row(text, {report, one, &stage});
    add_row(text, {report, one});
  }
  if (report.recorded_topk) add_row(text, {report, recorded_case(report)});
  return text;
}

}  // namespace misa
