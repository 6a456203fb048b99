#include <nlohmann/json.hpp>

#include "core/base/error.hpp"
#include "core/report/agreement_report.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

[[noreturn]] void refuse_bundle(const char* id, const std::string& what, const std::string& path) {
  throw Error(ErrorKind::input, id, what, path, "the report.json of misa-prof compare --bundle");
}

std::string text_at_key(const nlohmann::json& document, const char* key, const std::string& path) {
  const auto found = document.find(key);
  if (found == document.end() || !found->is_string()) refuse_bundle("MP-E621", std::string("there is no ") + key, path);
  return found->get<std::string>();
}

}  // namespace

std::vector<std::string> read_agreement_command(std::string_view json, const std::string& path) {
  const nlohmann::json document = nlohmann::json::parse(json, nullptr, false);
  if (!document.is_object()) refuse_bundle("MP-E620", "the file is no JSON object", path);
  if (const std::string schema = text_at_key(document, "schema", path); schema != "misa-prof/agreement") {
    refuse_bundle("MP-E621", "the schema is '" + printable(schema) + "', not 'misa-prof/agreement'", path);
  }
  const std::string version = text_at_key(document, "schema_version", path);
  const std::string_view major = kAgreementSchemaVersion.substr(0, kAgreementSchemaVersion.find('.') + 1);
  if (std::string_view(version).substr(0, major.size()) != major) {
    refuse_bundle(
        "MP-E622",
        "schema version '" + printable(version) + "': this program reads " + std::string(kAgreementSchemaVersion),
        path);
  }
  const auto words = document.find("command_line");
  if (words == document.end() || !words->is_array() || words->empty()) {
    refuse_bundle("MP-E623", "there is no command_line", path);
  }
  std::vector<std::string> command;
  for (const nlohmann::json& word : *words) {
    if (!word.is_string()) refuse_bundle("MP-E623", "a word of command_line is no text", path);
    command.push_back(word.get<std::string>());
  }
  return command;
}

}  // namespace misa
