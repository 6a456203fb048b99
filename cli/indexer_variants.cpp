#include "cli/indexer_variants.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>

#include "core/base/decimal.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

namespace misa::cli {
namespace {

constexpr u64 kMostValue = 0x7fffffff;

bool any_indexer(const IndexerInfo& /*info*/) { return true; }
bool routes_heads(const IndexerInfo& info) { return info.routes_heads; }
bool prunes_blocks(const IndexerInfo& info) { return info.prunes_blocks; }
bool reranks(const IndexerInfo& info) { return info.reranks; }
bool has_blocks(const IndexerInfo& info) { return info.routes_heads || info.prunes_blocks; }

/// An option that an indexer may have of its own: one of the members is set.
struct OwnOption {
  std::string_view name, short_name;  ///< short_name: before the value, in names for people
  bool (*applies)(const IndexerInfo& info);
  std::string IndexerOptions::*text = nullptr;
  std::optional<i64> IndexerOptions::*number = nullptr;
  i64 IndexerOptions::*count = nullptr;
};

constexpr std::array<OwnOption, 10> kOwnOptions{{
    {"router", "", routes_heads, &IndexerOptions::router},
    {"top-k", "k ", any_indexer, nullptr, &IndexerOptions::top_k},
    {"active-heads", "h ", routes_heads, nullptr, nullptr, &IndexerOptions::active_heads},
    {"sampled-keys", "S ", routes_heads, nullptr, nullptr, &IndexerOptions::sampled_keys},
    {"group", "G ", routes_heads, nullptr, nullptr, &IndexerOptions::group},
    {"block-size", "B ", has_blocks, nullptr, &IndexerOptions::block_size},
    {"candidates", "k' ", reranks, nullptr, &IndexerOptions::candidates},
    {"blocks", "m ", prunes_blocks, nullptr, nullptr, &IndexerOptions::blocks},
    {"block-window", "", has_blocks, &IndexerOptions::block_window},
    {"pooling", "", has_blocks, &IndexerOptions::pooling},
}};

/// The entries of a list: an indexer, and its options as they are written.
struct VariantEntry {
  std::string indexer;
  std::vector<std::string> options;
};

std::vector<VariantEntry> entries_of(const std::vector<std::string>& lists) {
  std::vector<VariantEntry> entries;
  for (const std::string& word : split_at_commas(lists)) {
    const std::size_t colon = word.find(':'), equals = word.find('=');
    if (equals < colon) {
      if (entries.empty() || entries.back().options.empty()) {
        throw Error(ErrorKind::usage, "MP-E551", fmt::format("'{}' belongs to no indexer", word), "--indexer",
                    "--indexer misa:" + word);
      }
      entries.back().options.push_back(word);
      continue;
    }
    entries.push_back({word.substr(0, colon), {}});
    if (colon != std::string::npos) entries.back().options.push_back(word.substr(colon + 1));
  }
  return entries;
}

void set_option(const VariantEntry& entry, const std::string& given, std::set<std::string_view>& set,
                IndexerVariant& variant, std::vector<std::string>& shown) {
  const std::size_t equals = given.find('=');
  const std::string name = given.substr(0, equals);
  const std::string value = equals == std::string::npos ? std::string() : given.substr(equals + 1);
  const auto refuse = [&](const std::string& what, const std::string& how) {
    throw Error(ErrorKind::usage, "MP-E551", what, "--indexer " + entry.indexer + ":" + given, how);
  };
  const OwnOption* option = find_row(kOwnOptions, name);
  if (option == nullptr) {
    refuse(fmt::format("an indexer has no option '{}'", name), suggestion(name, names_of(kOwnOptions)));
  }
  const IndexerInfo* info = find_row(all_indexers(), variant.options.names.front());
  if (info != nullptr && !option->applies(*info)) {
    refuse(fmt::format("{} means nothing to {}", name, info->name), "without it");
  }
  if (!set.insert(option->name).second) refuse(fmt::format("{} is given twice", name), "each option once");
  const std::optional<u64> number = count_of(value);
  if (option->text != nullptr) {
    if (value.empty()) refuse(name + " has no value", fmt::format("{}=VALUE", name));
    variant.options.*option->text = value;
  } else if (!number || *number < 1 || *number > kMostValue) {
    refuse(fmt::format("{} is '{}', which is not a whole number from 1 to {}", name, value, kMostValue), name + "=8");
  } else if (option->number != nullptr) {
    variant.options.*option->number = static_cast<i64>(*number);
  } else {
    variant.options.*option->count = static_cast<i64>(*number);
  }
  shown.push_back(std::string(option->short_name) + value);
}

}  // namespace

std::vector<IndexerVariant> variants_of(const IndexerOptions& options) {
  std::vector<IndexerVariant> variants;
  for (const VariantEntry& entry : entries_of(options.names)) {
    IndexerOptions one = options;
    one.names = {entry.indexer};
    for (const std::string& indexer : one.listed()) {
      IndexerVariant& variant = variants.emplace_back(IndexerVariant{.name = indexer, .text = indexer, .options = one});
      variant.options.names = {indexer};
      std::set<std::string_view> set;
      std::vector<std::string> shown;
      for (const std::string& given : entry.options) set_option(entry, given, set, variant, shown);
      if (!shown.empty()) variant.name += fmt::format(" ({})", fmt::join(shown, ", "));
      if (!entry.options.empty()) variant.text += fmt::format(":{}", fmt::join(entry.options, ","));
    }
  }
  for (std::size_t i = 0; i < variants.size(); ++i) {
    const auto same = [&](const IndexerVariant& other) { return other.name == variants[i].name; };
    if (std::none_of(variants.begin(), variants.begin() + static_cast<std::ptrdiff_t>(i), same)) continue;
    throw Error(ErrorKind::usage, "MP-E031", "--indexer names " + variants[i].text + " twice", {}, "each once");
  }
  return variants;
}

}  // namespace misa::cli
