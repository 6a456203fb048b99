#include "core/report/sweep_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "core/base/error.hpp"
#include "core/report/sweep_report.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

constexpr std::array<std::string_view, 7> kIdentity{"schema_version", "tool",   "axes",   "zip",
                                                    "options",        "inputs", "planned"};

constexpr std::array<std::string_view, 7> kBehindHeader{"cases",    "crossovers", "fronts", "skipped",
                                                        "warnings", "complete",   "timing"};

/// The keys that are planned and neither measured nor skipped.
std::vector<std::string> missing_keys(const Json& header, const std::map<std::string, const Json*>& cases,
                                      const std::vector<Json>& skipped) {
  std::set<std::string> known;
  for (const auto& [key, record] : cases) known.insert(key);
  for (const Json& skip : skipped) known.insert(text_at(skip, "key").value_or(""));
  std::vector<std::string> missing;
  for (const Json& group : array_at(header, "planned")) {
    for (const Json& key : group) {
      if (key.is_string() && known.find(key.get<std::string>()) == known.end()) missing.push_back(key);
    }
  }
  return missing;
}

void add_once(std::vector<Json>& all, const Json& more) {
  for (const Json& one : more) {
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  }
}

}  // namespace

Json sweep_header(const Json& document) {
  Json header;
  for (const auto& [key, value] : document.items()) {
    if (std::find(kBehindHeader.begin(), kBehindHeader.end(), key) == kBehindHeader.end()) header[key] = value;
  }
  return header;
}

std::string different_sweep(const Json& a, const Json& b, bool with_shard) {
  const auto differs = [&](const std::string& key) {
    const Json *in_a = find_value(a, key), *in_b = find_value(b, key);
    return in_a == nullptr || in_b == nullptr || *in_a != *in_b;
  };
  for (const std::string_view key : kIdentity) {
    if (differs(std::string(key))) return std::string(key);
  }
  return with_shard && differs("shard") ? "shard" : "";
}

Json warnings_of(const std::vector<Json>& cases) {
  Json all = Json::array();
  for (const Json& record : cases) {
    for (const Json& warning : array_at(record, "warnings")) {
      if (std::find(all.begin(), all.end(), warning) == all.end()) all.push_back(warning);
    }
  }
  return all;
}

std::vector<Json> skips_of(const std::vector<Json>& cases) {
  std::vector<Json> all;
  for (const Json& record : cases) {
    for (const Json& skip : array_at(record, "skipped")) {
      if (std::find(all.begin(), all.end(), skip) == all.end()) all.push_back(skip);
    }
  }
  return all;
}

Json merge_sweeps(const std::vector<ResultFile>& parts, bool allow_missing) {
  Json header = sweep_header(parts.front().document);
  std::map<std::string, const Json*> cases;
  std::map<std::string, std::string> origin;  // key -> the file that has it
  std::vector<Json> skipped, warnings;
  std::set<std::string> processors;
  for (const ResultFile& part : parts) {
    if (const std::string key = different_sweep(parts.front().document, part.document, false); !key.empty()) {
      throw Error(ErrorKind::input, "MP-E471", fmt::format("'{}' differs: parts of two sweeps", key),
                  fmt::format("{}, {}", parts.front().path, part.path), "parts that one command line made");
    }
    processors.insert(text_at(part.document, "environment.cpu").value_or(""));
    add_once(skipped, array_at(part.document, "skipped"));
    add_once(warnings, array_at(part.document, "warnings"));
    for (const Json& record : array_at(part.document, "cases")) {
      const std::string key = need_text(part, record, "key");
      const auto [known, is_new] = cases.emplace(key, &record);
      if (!is_new && *known->second != record) {
        throw Error(ErrorKind::input, "MP-E472", fmt::format("two parts measured '{}'", printable(key)),
                    fmt::format("{}, {}", origin[key], part.path), "one of them, or each --shard once");
      }
      if (is_new) origin[key] = part.path;
    }
  }
  // What one part skipped another may have measured.
  std::erase_if(skipped, [&](const Json& skip) { return cases.count(text_at(skip, "key").value_or("")) > 0; });
  const std::vector<std::string> missing = missing_keys(header, cases, skipped);
  if (!missing.empty() && !allow_missing) {
    throw Error(
        ErrorKind::input, "MP-E473",
        fmt::format("{} missing, the first is '{}'", counted(static_cast<i64>(missing.size()), "case is", "cases are"),
                    printable(missing.front())),
        {}, "the other parts, --resume for one that was interrupted, or --allow-missing");
  }
  if (processors.size() > 1) {
    const std::vector<std::string> names(processors.begin(), processors.end());
    const Warning warning{"MP-W070", fmt::format("parts were measured on different processors ({}): ratios are of one "
                                                 "processor at each length, times and crossovers are not",
                                                 printable(joined(names, "; ")))};
    add_once(warnings, warnings_json({warning}));
  }
  header["shard"] = Json{{"index", 1}, {"count", 1}};
  std::vector<Json> records;  // in the order in which one process would have measured them
  for (const Json& group : array_at(header, "planned")) {
    for (const Json& key : group) {
      const auto found = cases.find(key.is_string() ? key.get<std::string>() : std::string());
      if (found != cases.end()) records.push_back(*found->second);
    }
  }
  return sweep_document(header, records, skipped, Json(warnings), missing.empty());
}

}  // namespace misa
