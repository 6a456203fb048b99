#include "cli/sweep_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.hpp"
#include "core/report/result_file.hpp"
#include "core/report/sweep_parts.hpp"

namespace misa::cli {
namespace {

bool is_file(const std::string& path) {
  std::error_code failure;
  return path != "-" && std::filesystem::is_regular_file(path, failure);
}

bool is_lines(const Target& target) { return target.format == kStreamed; }

/// The keys of a group that records, or the skips in them, have.
std::set<std::string> keys_of(const std::vector<Json>& records, i64 group) {
  std::set<std::string> keys;
  for (const Json& record : records) {
    if (count_at(record, "group") != group) continue;
    keys.insert(text_at(record, "key").value_or(""));
    for (const Json& skip : array_at(record, "skipped")) keys.insert(text_at(skip, "key").value_or(""));
  }
  return keys;
}

}  // namespace

SweepFile::SweepFile(const std::vector<Target>& targets, bool resume, Json header)
    : streamed_(targets, kStreamed), header_(std::move(header)) {
  std::vector<std::string> paths;
  for (const Target& target : targets) {
    if (is_lines(target) && target.path != "-") paths.push_back(target.path);
  }
  if (resume && paths.size() != 1) {
    throw Error(ErrorKind::usage, "MP-E467",
                paths.empty() ? "--resume has no file to go on with" : "--resume has several files to go on with", {},
                "-o sweep.jsonl, one file of JSON lines");
  }
  for (const std::string& path : paths) {
    if (!is_file(path)) continue;
    if (resume) {
      read(path);
      continue;
    }
    try {
      const ResultFile earlier = read_result_file(path, {ResultKind::sweep}, true);
      if (earlier.complete || array_at(earlier.document, "cases").empty()) continue;
    } catch (const Error&) {
      continue;  // what is no sweep may be overwritten as by any command
    }
    throw Error(ErrorKind::usage, "MP-E469", "'" + path + "' is an unfinished sweep and would be overwritten", {},
                "--resume, another name, or remove it");
  }
}

void SweepFile::read(const std::string& path) {
  const ResultFile earlier = read_result_file(path, {ResultKind::sweep}, true);
  if (const std::string key = different_sweep(earlier.document, header_, true); !key.empty()) {
    throw Error(ErrorKind::input, "MP-E468", fmt::format("the file is of another sweep: '{}' differs", key), path,
                "the options of its \"command_line\" with the same program, or another file");
  }
  const std::vector<Json> records = array_at(earlier.document, "cases").get<std::vector<Json>>();
  const Json& planned = array_at(header_, "planned");
  for (std::size_t group = 0; group < planned.size(); ++group) {
    const std::set<std::string> keys = keys_of(records, static_cast<i64>(group));
    const bool whole = std::all_of(planned[group].begin(), planned[group].end(),
                                   [&](const Json& key) { return keys.find(key.get<std::string>()) != keys.end(); });
    if (whole && !keys.empty()) whole_.insert(static_cast<i64>(group));
  }
  for (const Json& record : records) {
    if (has(count_at(record, "group").value_or(-1))) cases_.push_back(record);
  }
  header_ = sweep_header(earlier.document);
  resumed_ = true;
}

void SweepFile::begin(const Json& facts) {
  if (!resumed_) header_.update(facts);
  begun_ = true;
  std::string text;
  Json record{{"record", "header"}};
  record.update(header_);
  text += text_of(record, -1);
  for (const Json& one : cases_) {
    record = {{"record", "case"}};
    record.update(one);
    text += text_of(record, -1);
  }
  streamed_.write(text);
}

void SweepFile::add(std::vector<Json> records) {
  std::string text;
  for (Json& one : records) {
    Json record{{"record", "case"}};
    record.update(one);
    text += text_of(record, -1);
    cases_.push_back(std::move(one));
  }
  streamed_.write(text);
}

void SweepFile::skip(std::vector<Json> skipped) {
  for (Json& one : skipped) skipped_.push_back(std::move(one));
}

SweepReport SweepFile::finish(bool complete, const std::vector<Warning>& warnings, const Json& timing) {
  std::vector<Json> skipped = skips_of(cases_);
  skipped.insert(skipped.end(), skipped_.begin(), skipped_.end());
  Json all = warnings_json(warnings);
  for (const Json& warning : warnings_of(cases_)) all.push_back(warning);
  Json document = sweep_document(header_, cases_, skipped, all, complete);
  document["timing"] = timing;
  SweepReport report = make_sweep_report(document, "sweep");
  streamed_.write(sweep_footer(report));
  streamed_.finish();
  return report;
}

}  // namespace misa::cli
