#include "core/workload/profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <stdexcept>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

// toml++ asserts where it should report a syntax error ("[,"). TOML_ASSERT, which makes that an exception, is heeded
// only where NDEBUG is not defined.
namespace {
[[noreturn, maybe_unused]] void refuse_token() { throw std::logic_error("unexpected token"); }
}  // namespace
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? void() : refuse_token())
#include <toml++/toml.h>

namespace misa {
namespace {

constexpr std::array<std::string_view, 2> kPhaseNames = {"prefill", "decode"};

/// Fit for a terminal: control characters replaced, cut at 64 bytes.
std::string shown(std::string_view text) {
  std::string clean(text.substr(0, 64));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return clean;
}

std::string position(const std::string& path, const toml::source_position& at) {
  return fmt::format("{}:{}:{}", path, std::max<u32>(at.line, 1), std::max<u32>(at.column, 1));
}

[[noreturn]] void reject(const char* id, const std::string& what, const std::string& where, const std::string& how) {
  throw Error(ErrorKind::usage, id, what, where, how);
}

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

/// `text` with one '?' for each character outside ASCII, so that positions stay the same. '?' is allowed in strings and
/// comments only.
std::string in_ascii(std::string_view text, const std::string& path) {
  std::string ascii;
  for (char c : text) {
    if (is_ascii(c)) {
      ascii += c;
    } else if (static_cast<unsigned char>(c) >= 0xC0) {  // other bytes continue a character
      const std::size_t before = ascii.find_last_not_of(" \t\r\n");
      if (before != std::string::npos && ascii[before] == '\\' && ascii.find('\n', before) != std::string::npos) {
        reject("MP-E302", "a character outside ASCII follows a backslash that ends a line",
               fmt::format("{}:{}:{}", path, 1 + std::count(ascii.begin(), ascii.end(), '\n'),
                           ascii.size() - ascii.rfind('\n')),
               "write it as \\uXXXX");
      }
      ascii += '?';
    }
  }
  return ascii;
}

/// Parses a text that has characters outside ASCII twice. toml++ 3.3 and 3.4 run into undefined behaviour where they
/// look for blanks and find such a character: between tokens, and after a backslash that ends a line. So the text is
/// parsed in ASCII first. If that succeeds, strings and comments hold all the other characters, and no blank is looked
/// for there.
toml::table parse(std::string_view text, const std::string& path) {
  if (static_cast<i64>(text.size()) > kLargestProfile) {
    reject("MP-E302", fmt::format("the file has {} bytes", text.size()), path, "at most 1 MiB");
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // a byte order mark
  const bool ascii = std::all_of(text.begin(), text.end(), is_ascii);
  const std::string_view note = ascii ? "" : " (each character outside ASCII is shown as '?')";
  try {
    toml::table table = toml::parse(in_ascii(text, path));
    if (!ascii) table = toml::parse(text);
    return table;
  } catch (const toml::parse_error& error) {
    reject("MP-E302", fmt::format("not valid TOML: {}{}", error.description(), note),
           position(path, error.source().begin), "see toml.io for the syntax");
  } catch (const std::logic_error& error) {
    reject("MP-E302", fmt::format("not valid TOML: {}{}", error.what(), note), path, "see toml.io for the syntax");
  }
}

/// The integer of a node, nothing where it is none. TOML has 0x10, 0o10 and 0b10 too; options have not, and a number
/// must not mean one thing there and be refused here.
std::optional<i64> decimal_integer(const std::string& path, std::string_view key, const toml::node& node) {
  const toml::value<i64>* value = node.as_integer();
  if (value == nullptr) return std::nullopt;
  constexpr auto kOtherBases = toml::value_flags::format_as_binary | toml::value_flags::format_as_octal |
                               toml::value_flags::format_as_hexadecimal;
  if ((value->flags() & kOtherBases) != toml::value_flags::none) {
    reject("MP-E304", fmt::format("{} is not decimal", shown(key)), position(path, node.source().begin),
           fmt::format("{}", value->get()));
  }
  return value->get();
}

const char* type_name(toml::node_type type) {
  switch (type) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "an array";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a float";
    case toml::node_type::boolean: return "a boolean";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time: return "a date";
    case toml::node_type::none: break;
  }
  return "nothing";
}

/// One TOML table of which every key is known. Getters give an empty optional where the key is absent.
class Section {
 public:
  Section(const toml::table& table, std::string name, const std::string& path, std::vector<std::string_view> keys)
      : table_(table), name_(std::move(name)), path_(path), keys_(std::move(keys)) {
    for (auto&& [key, node] : table_) {
      if (std::find(keys_.begin(), keys_.end(), key.str()) != keys_.end()) continue;
      reject("MP-E303", fmt::format("unknown key '{}'{}", shown(key.str()), name_.empty() ? "" : " in [" + name_ + "]"),
             position(path_, key.source().begin), suggestion(key.str(), keys_));
    }
  }

  bool has(std::string_view key) const { return table_.contains(key); }

  std::string where(std::string_view key) const {
    const toml::node* node = table_.get(key);
    return position(path_, node != nullptr ? node->source().begin : table_.source().begin);
  }

  std::optional<i64> integer(std::string_view key, i64 least, i64 most) const { return one<i64>(key, least, most); }
  std::optional<double> real(std::string_view key, double least, double most) const {
    return one<double>(key, least, most);
  }
  std::optional<bool> boolean(std::string_view key) const { return exact<bool>(key, "true or false"); }

  std::optional<std::string> text(std::string_view key, std::size_t longest = 400) const {
    std::optional<std::string> value = exact<std::string>(key, "a string");
    if (!value) return value;
    const bool control = std::any_of(value->begin(), value->end(),
                                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
    if (value->empty() || value->size() > longest || control) {
      reject("MP-E305", fmt::format("{} is '{}'", key, shown(*value)), where(key),
             fmt::format("1 to {} characters, none of them a control character", longest));
    }
    return value;
  }

  /// The index of a string among `names`.
  std::optional<std::size_t> choice(std::string_view key, std::span<const std::string_view> names) const {
    const std::optional<std::string> value = text(key);
    if (!value) return std::nullopt;
    const auto found = std::find(names.begin(), names.end(), *value);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    reject("MP-E305", fmt::format("{} is '{}'", key, shown(*value)), where(key), suggestion(*value, names));
  }

  /// An array of 1 to `most_values` numbers, whole ones or others.
  template <class T>
  std::optional<std::vector<T>> list(std::string_view key, std::size_t most_values, T least, T most) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::nullopt;
    const toml::array* array = node->as_array();
    if (array == nullptr) wrong_type(key, *node, "an array");
    if (array->empty() || array->size() > most_values) {
      reject("MP-E305", fmt::format("{} has {} values", key, array->size()), where(key),
             fmt::format("1 to {} values", most_values));
    }
    std::vector<T> values;
    for (const toml::node& element : *array) values.push_back(number<T>(key, element, least, most));
    return values;
  }

  std::optional<Section> section(std::string_view key, std::vector<std::string_view> keys) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::nullopt;
    if (node->as_table() == nullptr) wrong_type(key, *node, fmt::format("a section [{}]", key));
    return Section(*node->as_table(), std::string(key), path_, std::move(keys));
  }

  template <class T>
  T required(std::optional<T> value, std::string_view key) const {
    if (!value) reject("MP-E306", fmt::format("'{}' is missing", key), where({}), fmt::format("add {} = ...", key));
    return *std::move(value);
  }

  /// `key` has no meaning next to what `because` says.
  void forbid(std::string_view key, const std::string& because) const {
    if (has(key)) reject("MP-E307", fmt::format("'{}' {}", key, because), where(key), fmt::format("remove '{}'", key));
  }

 private:
  [[noreturn]] void wrong_type(std::string_view key, const toml::node& node, const std::string& expected) const {
    reject("MP-E304", fmt::format("{} is {}", key, type_name(node.type())), position(path_, node.source().begin),
           expected);
  }

  template <class T>
  std::optional<T> exact(std::string_view key, const char* expected) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return std::nullopt;
    std::optional<T> value = node->value_exact<T>();
    if (!value) wrong_type(key, *node, expected);
    return value;
  }

  template <class T>
  std::optional<T> one(std::string_view key, T least, T most) const {
    const toml::node* node = table_.get(key);
    return node == nullptr ? std::nullopt : std::optional(number<T>(key, *node, least, most));
  }

  template <class T>
  T number(std::string_view key, const toml::node& node, T least, T most) const {
    constexpr bool kWhole = std::is_same_v<T, i64>;
    if (kWhole ? !node.is_integer() : !node.is_number()) wrong_type(key, node, kWhole ? "an integer" : "a number");
    const std::optional<i64> integer = decimal_integer(path_, key, node);
    const T value = integer ? static_cast<T>(*integer) : static_cast<T>(node.ref<double>());
    if (!(value >= least && value <= most)) {
      reject("MP-E305", fmt::format("{} is {}", key, value), position(path_, node.source().begin),
             fmt::format("a value from {} to {}", least, most));
    }
    return value;
  }

  const toml::table& table_;
  std::string name_;
  const std::string& path_;
  std::vector<std::string_view> keys_;
};

SyntheticKnobs read_knobs(const Section& section, SyntheticKnobs values) {
  for (const KnobInfo& knob : knobs()) {
    const auto least = static_cast<i64>(knob.least), most = static_cast<i64>(knob.most);
    if (knob.real) values.*knob.real = section.real(knob.name, knob.least, knob.most).value_or(values.*knob.real);
    if (knob.whole) values.*knob.whole = section.integer(knob.name, least, most).value_or(values.*knob.whole);
  }
  return values;
}

NeedleRequest read_needles(const Section& section) {
  NeedleRequest needles;
  if (const std::optional<i64> count = section.integer("count", 1, 1024)) {
    section.forbid("depths", "and 'count' exclude each other");
    needles.depths.clear();
    for (i64 i = 0; i < *count; ++i) {
      needles.depths.push_back(*count == 1 ? 0.5 : static_cast<double>(i) / static_cast<double>(*count - 1));
    }
  } else {
    needles.depths = section.required(section.list<double>("depths", 1024, 0, 1), "depths");
  }
  needles.length = section.integer("length", 1, 4096).value_or(needles.length);
  needles.mode = static_cast<NeedleMode>(section.choice("mode", needle_mode_names()).value_or(0));
  needles.gain = section.real("gain", 0, 1000).value_or(needles.gain);
  return needles;
}

/// The contexts that bound what `workload` can ask for.
std::vector<std::vector<i64>> bounding_contexts(const WorkloadProfile& workload) {
  if (!workload.ragged) return {workload.contexts};
  const auto count = static_cast<std::size_t>(workload.sequences);
  return {std::vector<i64>(count, (*workload.ragged)[0]), std::vector<i64>(count, (*workload.ragged)[1])};
}

SyntheticRequest unchecked_request(const ModelProfile& model, const WorkloadProfile& workload, u64 seed) {
  SyntheticRequest request;
  request.name = model.name + "/" + workload.name;
  request.model = model.name;
  request.heads = model.heads;
  request.head_dim = model.head_dim;
  request.top_k = model.top_k;
  request.layers = model.layers;
  request.indexer_layers = model.indexer_layers;
  request.forced = model.forced;
  request.format = model.format;
  request.preset = workload.preset;
  request.knobs = workload.knobs;
  request.seed = seed;
  request.phase = workload.phase;
  request.contexts = workload.ragged
                         ? ragged_contexts((*workload.ragged)[0], (*workload.ragged)[1], workload.sequences, seed)
                         : workload.contexts;
  request.rows = workload.rows;
  request.spread = workload.spread;
  request.next_n = workload.next_n;
  request.page_size = workload.page_size;
  request.compress_ratio = workload.compress_ratio.value_or(model.compress_ratio);
  request.needles = workload.needles;
  return request;
}

std::string text_of(const std::string& path, std::string_view key, const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return *text;
  if (const auto whole = decimal_integer(path, key, node)) return fmt::format("{}", *whole);
  if (const auto real = node.value_exact<double>()) {
    std::array<char, 512> digits;  // the longest double has 309 before its point, the smallest 324 after it
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), *real, std::chars_format::fixed).ptr;
    const std::string text(digits.data(), end);
    return text.find_first_of(".n") == std::string::npos ? text + ".0" : text;  // 10.0 is not the whole number 10
  }
  if (const auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  reject("MP-E304", fmt::format("{} is {}", shown(key), type_name(node.type())), position(path, node.source().begin),
         "a string, a number, true, false, or a flat array of those");
}

}  // namespace

ModelProfile parse_model(std::string_view text, const std::string& path) {
  const toml::table table = parse(text, path);
  const Section root(table, "", path,
                     {"name", "description", "source", "heads", "head_dim", "top_k", "key_dtype", "layers",
                      "indexer_layers", "compress_ratio", "force_first", "force_last"});
  ModelProfile model;
  model.name = root.required(root.text("name", 64), "name");
  model.description = root.required(root.text("description"), "description");
  model.source = root.required(root.text("source"), "source");
  model.heads = root.required(root.integer("heads", 1, kMaxHeads), "heads");
  model.head_dim = root.required(root.integer("head_dim", 32, 256), "head_dim");
  if ((model.head_dim & (model.head_dim - 1)) != 0) {
    reject("MP-E305", fmt::format("head_dim is {}", model.head_dim), root.where("head_dim"), "32, 64, 128 or 256");
  }
  model.top_k = root.required(root.integer("top_k", 1, kMaxKeys), "top_k");
  model.forced.first = root.integer("force_first", 0, kMaxKeys).value_or(0);
  model.forced.last = root.integer("force_last", 0, kMaxKeys).value_or(0);
  const std::size_t format = root.required(root.choice("key_dtype", value_format_names()), "key_dtype");
  model.format = static_cast<ValueFormat>(format);
  model.layers = root.integer("layers", 1, 10000).value_or(1);
  model.indexer_layers = root.integer("indexer_layers", 1, model.layers).value_or(model.layers);
  model.compress_ratio = root.integer("compress_ratio", 1, kMaxCompressRatio).value_or(1);
  return model;
}

WorkloadProfile parse_workload(std::string_view text, const std::string& path) {
  const toml::table table = parse(text, path);
  const Section root(table, "", path,
                     {"name", "description", "source", "phase", "context", "contexts", "ragged", "sequences", "rows",
                      "spread", "next_n", "page_size", "compress_ratio", "preset", "knobs", "needles"});
  WorkloadProfile workload;
  workload.name = root.text("name", 64).value_or(std::filesystem::path(path).stem().string());
  workload.description = root.text("description").value_or("");
  workload.source = root.text("source").value_or("");
  workload.phase = static_cast<Phase>(root.required(root.choice("phase", kPhaseNames), "phase"));
  const bool decode = workload.phase == Phase::decode;

  const i64 shortest = decode ? 0 : 1;
  std::string_view length_key = "context";
  if (const auto contexts = root.list<i64>("contexts", kMaxSequences, shortest, kMaxKeys)) {
    length_key = "contexts";
    for (std::string_view other : {"context", "ragged", "sequences"}) {
      root.forbid(other, "and 'contexts' exclude each other");
    }
    workload.contexts = *contexts;
    workload.sequences = static_cast<i64>(contexts->size());
  } else {
    workload.sequences = root.integer("sequences", 1, kMaxSequences).value_or(1);
    if (const auto ragged = root.list<i64>("ragged", 2, shortest, kMaxKeys)) {
      length_key = "ragged";
      root.forbid("context", "and 'ragged' exclude each other");
      if (ragged->size() != 2 || (*ragged)[0] > (*ragged)[1]) {
        reject("MP-E305", fmt::format("ragged is [{}]", fmt::join(*ragged, ", ")), root.where("ragged"),
               "[shortest, longest]");
      }
      root.forbid("needles", "do not go with 'ragged'");
      workload.ragged = {(*ragged)[0], (*ragged)[1]};
    } else {
      const i64 context = root.required(root.integer("context", shortest, kMaxKeys), "context");
      workload.contexts.assign(static_cast<std::size_t>(workload.sequences), context);
    }
  }
  if (decode) {
    for (std::string_view key : {"rows", "spread"}) root.forbid(key, "has no meaning at decode");
    workload.next_n = root.integer("next_n", 1, 4).value_or(workload.next_n);
    workload.page_size = root.integer("page_size", 1, kMaxPageSize).value_or(workload.page_size);
  } else {
    for (std::string_view key : {"next_n", "page_size"}) root.forbid(key, "has no meaning at prefill");
    workload.rows = root.integer("rows", 1, kMaxRows).value_or(workload.rows);
    workload.spread = root.boolean("spread").value_or(workload.spread);
  }

  workload.compress_ratio = root.integer("compress_ratio", 1, kMaxCompressRatio);

  const PresetInfo& preset = presets()[root.choice("preset", names_of(presets())).value_or(0)];
  workload.preset = preset.name;
  if (const auto section = root.section("knobs", names_of(knobs())))
    workload.knobs = read_knobs(*section, preset.knobs);
  if (const auto section = root.section("needles", {"count", "depths", "length", "mode", "gain"})) {
    workload.needles = read_needles(*section);
  }

  for (std::vector<i64>& contexts : bounding_contexts(workload)) {
    SyntheticRequest request = unchecked_request(ModelProfile{}, workload, 1);
    request.contexts = std::move(contexts);
    try {
      check_request(request);
    } catch (const Error& error) {
      reject("MP-E308", error.what(), root.where(length_key), error.how());
    }
  }
  return workload;
}

WorkloadProfile changed(WorkloadProfile profile, const WorkloadChanges& changes) {
  const std::string named = profile.name;
  const auto add = [&](const char* what, const auto& value) { profile.name += fmt::format(",{}={}", what, value); };
  const auto set = [&](i64& value, const char* what, i64 wanted) {
    value = wanted;
    add(what, wanted);
  };
  if (changes.phase && *changes.phase != profile.phase) {
    const WorkloadProfile usual;
    profile.phase = *changes.phase;
    profile.rows = usual.rows;
    profile.spread = usual.spread;
    profile.next_n = usual.next_n;
    profile.page_size = usual.page_size;
    add("phase", kPhaseNames[static_cast<std::size_t>(profile.phase)]);
  }
  if (changes.sequences) {
    if (*changes.sequences > kMaxSequences) {
      reject("MP-E308", fmt::format("the number of sequences is {}", *changes.sequences), "--sequences",
             fmt::format("a value from 1 to {}", kMaxSequences));
    }
    const auto& lengths = profile.contexts;
    const bool alike = std::adjacent_find(lengths.begin(), lengths.end(), std::not_equal_to<>()) == lengths.end();
    if (!alike && !changes.context) {
      reject("MP-E307", fmt::format("workload '{}' lists the lengths of its sequences one by one", named),
             "--sequences", "--context as well");
    }
    set(profile.sequences, "sequences", *changes.sequences);
    if (!profile.ragged) {
      const i64 context = profile.contexts.front();
      profile.contexts.assign(static_cast<std::size_t>(profile.sequences), context);
    }
  }
  if (changes.context) {
    profile.ragged.reset();
    profile.contexts.assign(static_cast<std::size_t>(profile.sequences), *changes.context);
    add("context", *changes.context);
    profile.rows =
        std::min(profile.rows, profile.sequences * *changes.context);  // a prefill has no more rows than tokens
  }
  const bool decode = profile.phase == Phase::decode;
  if (decode && changes.rows) {
    reject("MP-E307", fmt::format("workload '{}' is decode: its rows are sequences * next_n", named), "--rows",
           "--sequences or --next-n");
  }
  if (!decode && (changes.next_n || changes.page_size)) {
    reject("MP-E307", fmt::format("workload '{}' is prefill: it has no drafts, and its keys have no pages", named),
           changes.next_n ? "--next-n" : "--page-size", "--phase decode");
  }
  if (changes.rows) profile.rows = *changes.rows;
  if (changes.compress_ratio) {
    profile.compress_ratio = changes.compress_ratio;
    add("compress_ratio", *changes.compress_ratio);
  }
  if (changes.next_n) set(profile.next_n, "next_n", *changes.next_n);
  if (changes.page_size) set(profile.page_size, "page_size", *changes.page_size);
  return profile;
}

SyntheticRequest make_request(const ModelProfile& model, const WorkloadProfile& workload, u64 seed) {
  SyntheticRequest request = unchecked_request(model, workload, seed);
  check_request(request);
  return request;
}

std::vector<ConfigEntry> parse_config(std::string_view text, const std::string& path) {
  const toml::table table = parse(text, path);
  std::vector<ConfigEntry> entries;
  for (auto&& [key, node] : table) {
    ConfigEntry entry{.key = std::string(key.str()), .values = {}};
    entry.line = key.source().begin.line;
    entry.column = key.source().begin.column;
    if (const toml::array* array = node.as_array()) {
      entry.list = true;
      for (const toml::node& element : *array) entry.values.push_back(text_of(path, key.str(), element));
    } else {
      entry.values.push_back(text_of(path, key.str(), node));
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const ConfigEntry& a, const ConfigEntry& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return entries;
}

std::string location(const std::string& path, const ConfigEntry& entry) {
  return fmt::format("{}:{}:{}", path, entry.line, entry.column);
}

}  // namespace misa
