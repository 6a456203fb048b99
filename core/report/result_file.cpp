#include "core/report/result_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "core/base/error.hpp"
#include "core/platform/file.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

constexpr i64 kMostBytes = i64{256} << 20;
constexpr int kMostDepth = 32;             // ours have 8
constexpr std::size_t kMostKeys = 256;     // of an object: ours have 40, and each look-up reads them all
constexpr std::string_view kMajor = "1.";  // of all schemas

constexpr std::array<std::pair<ResultKind, std::string_view>, 4> kSchemas{
    {{ResultKind::result, "misa-prof/result"},
     {ResultKind::agreement, "misa-prof/agreement"},
     {ResultKind::sweep, "misa-prof/sweep"},
     {ResultKind::niah, "misa-prof/niah"}}};

[[noreturn]] void refuse(const char* id, const std::string& what, const std::string& where,
                         const std::string& how = "a file that misa-prof wrote with -o FILE.json or -o FILE.jsonl") {
  throw Error(ErrorKind::input, id, what, where, how);
}

/// "FILE, line 3, column 5" of a byte, counted from 0.
std::string place(const std::string& path, std::string_view text, std::size_t byte, i64 first_line) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const i64 line = first_line + std::count(before.begin(), before.end(), '\n');
  const std::size_t begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return fmt::format("{}, line {}, column {}", path, line, before.size() - begin + 1);
}

/// What the JSON library says, without its name, number and position.
std::string reason_of(const std::string& message) {
  const std::size_t dash = message.find(" - ");
  if (dash != std::string::npos) return message.substr(dash + 3);
  const std::size_t bracket = message.find("] ");
  return bracket == std::string::npos ? message : message.substr(bracket + 2);
}

/// Strict JSON. `first_line` is the number of the text's first line in the file.
Json parse_strictly(std::string_view text, const std::string& path, i64 first_line) {
  std::vector<std::set<std::string>> open;  // the keys of objects that are open
  std::string refused;
  // The parser calls back before it goes deeper; refusing means throwing, which stops it there.
  struct Stop {};
  const auto check = [&](int depth, Json::parse_event_t event, const Json& value) {
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (opens && depth >= kMostDepth) {
      refused = fmt::format("objects and arrays are nested more than {} deep", kMostDepth);
      throw Stop{};
    }
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event != Json::parse_event_t::key) return true;
    const auto& key = value.get_ref<const std::string&>();
    if (!open.back().insert(key).second) {
      refused = "the key '" + shortened(printable(key), 60) + "' occurs twice in one object";
      throw Stop{};
    }
    if (open.back().size() > kMostKeys) {
      refused = fmt::format("an object has more than {} keys", kMostKeys);
      throw Stop{};
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Stop&) {
    refuse("MP-E485", refused, path);
  } catch (const Json::parse_error& error) {
    const std::size_t byte = error.byte == 0 ? 0 : error.byte - 1;
    const bool cut = byte >= text.size();
    refuse("MP-E485",
           cut ? "the JSON ends early: the file is cut off" : "not JSON: " + printable(reason_of(error.what())),
           place(path, text, byte, first_line));
  } catch (const Json::exception& error) {
    refuse("MP-E485", "not JSON: " + printable(reason_of(error.what())), path);
  }
}

std::string names_of(std::initializer_list<ResultKind> kinds) {
  std::vector<std::string> names;
  for (const ResultKind kind : kinds) names.emplace_back(schema_name(kind));
  return joined(names, " or ");
}

ResultKind kind_of(const Json& document, const std::string& path, std::initializer_list<ResultKind> allowed) {
  if (!document.is_object()) refuse("MP-E486", "the document is no JSON object", path);
  const std::optional<std::string> schema = text_at(document, "schema"), version = text_at(document, "schema_version");
  if (!schema || !version) refuse("MP-E486", "there is no schema and schema_version: not a result of misa-prof", path);
  const auto known =
      std::find_if(kSchemas.begin(), kSchemas.end(), [&](const auto& one) { return one.second == *schema; });
  const bool wanted =
      known != kSchemas.end() && std::find(allowed.begin(), allowed.end(), known->first) != allowed.end();
  if (!wanted) {
    refuse("MP-E486", fmt::format("the schema is '{}', not {}", shortened(printable(*schema), 60), names_of(allowed)),
           path, "a file of the right kind");
  }
  if (version->substr(0, kMajor.size()) != kMajor) {
    refuse(
        "MP-E486",
        fmt::format("version '{}' of {}: this program reads {}x", shortened(printable(*version), 20), *schema, kMajor),
        path, "the misa-prof that wrote it");
  }
  return known->first;
}

/// The document that records amount to.
Json put_together(JsonLines lines, const std::string& path) {
  const auto record_of = [](const Json& json) { return text_at(json, "record").value_or(""); };
  std::vector<Json>& records = lines.records;
  if (records.empty() || record_of(records.front()) != "header") {
    refuse("MP-E486", "the first record is no header", path);
  }
  Json document = std::move(records.front());
  document.erase("record");
  document["cases"] = Json::array();
  bool ended = false;
  for (std::size_t i = 1; i < records.size(); ++i) {
    Json& record = records[i];
    const std::string where = fmt::format("{}, record {}", path, i + 1);
    if (ended) refuse("MP-E486", "a record follows the footer", where, "one result per file");
    if (record_of(record) == "case") {
      record.erase("record");
      // Of a sweep the case is a part of the record, of a profile all of it.
      document["cases"].push_back(record.size() == 1 && record.contains("case") ? std::move(record["case"])
                                                                                : std::move(record));
    } else if (record_of(record) == "footer") {
      ended = true;
      const std::optional<i64> count = count_at(record, "cases");
      if (count && *count != static_cast<i64>(document["cases"].size())) {
        refuse("MP-E486", fmt::format("the footer counts {} cases, there are {}", *count, document["cases"].size()),
               where);
      }
      for (const auto& [key, value] : record.items()) {
        if (key != "record" && key != "cases") document[key] = value;
      }
    } else {
      refuse("MP-E486", "the record is neither case nor footer", where);
    }
  }
  if (!ended) document["complete"] = false;
  return document;
}

/// The first line is a record of JSON Lines.
bool is_lines(std::string_view text) { return text.substr(0, 10) == "{\"record\":"; }

}  // namespace

std::string_view schema_name(ResultKind kind) {
  for (const auto& [one, name] : kSchemas) {
    if (one == kind) return name;
  }
  return "";
}

JsonLines parse_json_lines(std::string_view text, const std::string& path) {
  JsonLines lines;
  if (const std::size_t end = text.rfind('\n'); end + 1 != text.size()) {
    lines.cut_off = true;
    text = text.substr(0, end == std::string_view::npos ? 0 : end + 1);
  }
  for (i64 number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    Json record = parse_strictly(text.substr(0, end), path, number);
    if (!text_at(record, "record")) {
      refuse("MP-E486", "the line is no record of JSON Lines", fmt::format("{}, line {}", path, number));
    }
    lines.records.push_back(std::move(record));
    text.remove_prefix(end + 1);
  }
  return lines;
}

JsonLines read_json_lines(const std::string& path) { return parse_json_lines(read_text_file(path, kMostBytes), path); }

ResultFile parse_result(std::string_view text, const std::string& path, std::initializer_list<ResultKind> allowed,
                        bool allow_incomplete) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) refuse("MP-E485", "the file is empty", path);
  ResultFile file{
      .path = path,
      .document = is_lines(text) ? put_together(parse_json_lines(text, path), path) : parse_strictly(text, path, 1)};
  file.kind = kind_of(file.document, path, allowed);
  file.complete = truth_at(file.document, "complete").value_or(false);
  if (!file.complete && !allow_incomplete) {
    refuse("MP-E487", "the result is not complete: its run was interrupted, or the file is cut off", path,
           "the run again");
  }
  return file;
}

ResultFile read_result_file(const std::string& path, std::initializer_list<ResultKind> allowed, bool allow_incomplete) {
  return parse_result(read_text_file(path, kMostBytes), path, allowed, allow_incomplete);
}

const Json* find_value(const Json& json, std::string_view path) {
  const Json* at = &json;
  while (true) {
    if (!at->is_object()) return nullptr;
    const std::size_t dot = path.find('.');
    const auto found = at->find(std::string(path.substr(0, dot)));
    if (found == at->end()) return nullptr;
    at = &*found;
    if (dot == std::string_view::npos) return at;
    path.remove_prefix(dot + 1);
  }
}

std::optional<std::string> text_at(const Json& json, std::string_view path) {
  const Json* value = find_value(json, path);
  return value && value->is_string() ? std::optional(value->get<std::string>()) : std::nullopt;
}

std::optional<double> number_at(const Json& json, std::string_view path) {
  const Json* value = find_value(json, path);
  if (!value || !value->is_number()) return std::nullopt;
  const double number = value->get<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::optional<i64> count_at(const Json& json, std::string_view path) {
  const Json* value = find_value(json, path);
  if (!value || !value->is_number_unsigned()) return std::nullopt;
  const u64 number = value->get<u64>();
  return number >> 63 ? std::nullopt : std::optional(static_cast<i64>(number));
}

std::optional<bool> truth_at(const Json& json, std::string_view path) {
  const Json* value = find_value(json, path);
  return value && value->is_boolean() ? std::optional(value->get<bool>()) : std::nullopt;
}

const Json& array_at(const Json& json, std::string_view path) {
  static const Json kNothing = Json::array();
  const Json* value = find_value(json, path);
  return value && value->is_array() ? *value : kNothing;
}

std::vector<double> numbers_at(const Json& json, std::string_view path) {
  std::vector<double> numbers;
  for (const Json& value : array_at(json, path)) {
    if (value.is_number()) numbers.push_back(value.get<double>());
  }
  return numbers;
}

namespace {

[[noreturn]] void refuse_value(const ResultFile& file, std::string_view path, const std::string& where,
                               std::string_view wanted) {
  refuse("MP-E488", fmt::format("{}{}{} is no {}", where, where.empty() ? "" : ".", path, wanted), file.path);
}

}  // namespace

std::string need_text(const ResultFile& file, const Json& json, std::string_view path, const std::string& where) {
  std::optional<std::string> text = text_at(json, path);
  if (!text) refuse_value(file, path, where, "text");
  return *std::move(text);
}

double need_number(const ResultFile& file, const Json& json, std::string_view path, const std::string& where) {
  const std::optional<double> number = number_at(json, path);
  if (!number) refuse_value(file, path, where, "number");
  return *number;
}

const Json& need_array(const ResultFile& file, const Json& json, std::string_view path, const std::string& where) {
  const Json* value = find_value(json, path);
  if (!value || !value->is_array()) refuse_value(file, path, where, "array");
  return *value;
}

}  // namespace misa
