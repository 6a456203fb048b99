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

bool is_path(std::string_view name) {
  return name.find('/') != std::string_view::npos || (name.size() >= 5 && name.substr(name.size() - 5) == ".toml");
}

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
  if (is_path(name)) return std::string(name);
  const std::map<std::string, std::string> found = find_profiles(kind, directories);
  const auto entry = found.find(std::string(name));
  if (entry != found.end()) return entry->second;
  std::vector<std::string_view> names;
  for (const auto& [stem, path] : found) names.push_back(stem);
  throw Error(ErrorKind::usage, "MP-E301", fmt::format("there is no {} {}", what, quote(name)),
              directories.empty() ? "" : fmt::format("looked in {}", fmt::join(directories, ", ")),
              names.empty() ? "a path to a .toml file" : suggestion(name, names));
}

}  // namespace

ModelProfile load_model(std::string_view name_or_path, std::span<const std::string> directories) {
  const std::string path = resolve(name_or_path, "models", "model", directories);
  return parse_model(read_text_file(path, kLargestProfile), path);
}

WorkloadProfile load_workload(std::string_view name_or_path, std::span<const std::string> directories) {
  const std::string path = resolve(name_or_path, "workloads", "workload", directories);
  return parse_workload(read_text_file(path, kLargestProfile), path);
}

std::vector<ModelProfile> list_models(std::span<const std::string> directories) {
  std::vector<ModelProfile> models;
  for (const auto& [name, path] : find_profiles("models", directories)) {
    models.push_back(parse_model(read_text_file(path, kLargestProfile), path));
  }
  return models;
}

std::vector<WorkloadProfile> list_workloads(std::span<const std::string> directories) {
  std::vector<WorkloadProfile> workloads;
  for (const auto& [name, path] : find_profiles("workloads", directories)) {
    workloads.push_back(parse_workload(read_text_file(path, kLargestProfile), path));
  }
  return workloads;
}

std::vector<ConfigEntry> load_config(const std::string& path) {
  return parse_config(read_text_file(path, kLargestProfile), path);
}

}  // namespace misa
