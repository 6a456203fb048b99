#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/platform/file.hpp"
#include "core/workload/profile.hpp"
#include "core/workload/safetensors.hpp"

// Profiles by name: which file in which directory.

namespace misa {
namespace {

/// Stem -> path of every profile in <directory>/<kind>; the first directory wins.
std::map<std::string, std::string> find_profiles(std::string_view kind, std::span<const std::string> directories) {
  std::map<std::string, std::string> found;
  for (const std::string& directory : directories) {
    std::error_code ignored;  // a directory that is not there has no profiles
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(directory) / kind, ignored)) {
      if (entry.path().extension() == ".toml") found.emplace(entry.path().stem().string(), entry.path().string());
    }
  }
  return found;
}

std::string resolve(std::string_view name, std::string_view kind, std::string_view what,
                    std::span<const std::string> directories) {
  if (name.find('/') != name.npos || name.ends_with(".toml")) return std::string(name);
  const std::map<std::string, std::string> found = find_profiles(kind, directories);
  const auto entry = found.find(std::string(name));
  if (entry != found.end()) return entry->second;
  std::vector<std::string> names;
  for (const auto& [stem, path] : found) names.push_back(stem);
  throw Error(ErrorKind::usage, "MP-E301", fmt::format("there is no {} {}", what, quote(name)),
              directories.empty() ? "" : fmt::format("looked in {}", fmt::join(directories, ", ")),
              names.empty() ? "a path to a .toml file" : suggestion(name, names));
}

/// What `parse` makes of a file's text.
template <class T>
T parsed(T parse(std::string_view, const std::string&), const std::string& path) {
  return parse(read_text_file(path, kLargestProfile), path);
}

template <class T>
std::vector<T> all_parsed(T parse(std::string_view, const std::string&), std::string_view kind,
                          std::span<const std::string> directories) {
  std::vector<T> all;
  for (const auto& [name, path] : find_profiles(kind, directories)) all.push_back(parsed(parse, path));
  return all;
}

}  // namespace

ModelProfile load_model(std::string_view name_or_path, std::span<const std::string> directories) {
  return parsed(parse_model, resolve(name_or_path, "models", "model", directories));
}
WorkloadProfile load_workload(std::string_view name_or_path, std::span<const std::string> directories) {
  return parsed(parse_workload, resolve(name_or_path, "workloads", "workload", directories));
}

std::vector<ModelProfile> list_models(std::span<const std::string> directories) {
  return all_parsed(parse_model, "models", directories);
}
std::vector<WorkloadProfile> list_workloads(std::span<const std::string> directories) {
  return all_parsed(parse_workload, "workloads", directories);
}

std::vector<ConfigEntry> load_config(const std::string& path) { return parsed(parse_config, path); }

}  // namespace misa
