#include "core/report/exhibit.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "core/report/result_file.hpp"

namespace misa {
namespace {

/// A parameter of a case, and how its value is named.
struct NamedParameter {
  std::string_view path, before;
};
constexpr std::array kNamedParameters{
    NamedParameter{"router", ""},
    NamedParameter{"used.active_heads", "h "},
    NamedParameter{"used.group", "G "},
    NamedParameter{"used.candidates", "k' "},
    NamedParameter{"used.blocks", "m "},
    NamedParameter{"used.block_size", "B "},
    NamedParameter{"used.head_block_size", "B "},
    NamedParameter{"used.sampled_keys", "S "},
    NamedParameter{"used.top_k", "k "},
    NamedParameter{"backend", "on "},
};

std::string value_text(const Json& json, std::string_view path) {
  if (const auto text = text_at(json, path)) return *text;
  const auto count = count_at(json, path);
  return count ? std::to_string(*count) : "";
}

}  // namespace

std::vector<std::string> names_of_cases(const Json& cases) {
  std::vector<std::string> names;
  for (const Json& one : cases) names.push_back(text_at(one, "indexer").value_or("unnamed"));
  const std::vector<std::string> indexers = names;
  for (const NamedParameter& parameter : kNamedParameters) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      std::set<std::string> values;
      for (std::size_t j = 0; j < names.size(); ++j) {
        if (indexers[j] == indexers[i]) values.insert(value_text(cases[j], parameter.path));
      }
      const std::string value = value_text(cases[i], parameter.path);
      if (values.size() > 1 && !value.empty()) names[i] += ", " + std::string(parameter.before) + value;
    }
  }
  return names;
}

std::vector<PageSection> sections_of(const Json& document) {
  const std::string schema = text_at(document, "schema").value_or("");
  if (schema == schema_name(ResultKind::agreement)) return agreement_sections(document);
  if (schema == schema_name(ResultKind::sweep)) return sweep_sections(document);
  if (schema == schema_name(ResultKind::niah)) return niah_sections(document);
  return result_sections(document);
}

}  // namespace misa
