#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace misa {

/// Edits that turn `a` into `b`: insertions, deletions, substitutions, and swaps of neighbours count one each.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({substituted, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

/// The name of `names`, a range of texts, that somebody who wrote `word` probably meant; empty when nothing is near.
/// Near is at most one edit in three letters, or a name that `word` begins (three letters or more). Ties: the first.
std::string nearest(std::string_view word, const auto& names) {
  if (word.empty() || word.size() > 64) return {};
  const std::size_t limit = std::max<std::size_t>(1, word.size() / 3);
  std::string_view best;
  std::size_t least = limit + 1;
  for (std::string_view name : names) {
    const std::size_t distance = edit_distance(word, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  if (best.empty() && word.size() >= 3) {
    for (std::string_view name : names) {
      if (name.substr(0, word.size()) == word) return std::string(name);
    }
  }
  return std::string(best);
}

/// What to try in place of `word`, which is none of `names`: the nearest, else what `otherwise` says, else any of them.
std::string suggestion(std::string_view word, const auto& names, std::string_view otherwise = {}) {
  if (std::string near = nearest(word, names); !near.empty()) return near;
  if (!otherwise.empty()) return std::string(otherwise);
  std::string all;
  for (const std::string_view name : names) all.append(all.empty() ? "one of " : ", ").append(name);
  return all;
}

/// The names of a table's rows.
template <class Rows>
std::vector<std::string_view> names_of(const Rows& rows) {
  std::vector<std::string_view> names;
  for (const auto& row : rows) names.push_back(row.name);
  return names;
}

/// The row of a table that has the name; null: none has.
template <class Rows>
auto find_row(const Rows& rows, std::string_view name) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return row.name == name; });
  return found == rows.end() ? nullptr : &*found;
}

}  // namespace misa
