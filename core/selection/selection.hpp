#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/indexer/arithmetic.hpp"
#include "core/tensor/host_tensor.hpp"

namespace misa {

/// Points of a run at which something is chosen, in their order: `linear` is the query of a linear head, and `scores`
/// are those that the last choice was made by.
enum class Choice : u8 { heads, linear, blocks, candidates, tokens, scores };

constexpr std::array<Choice, 6> kChoices{Choice::heads,      Choice::linear, Choice::blocks,
                                         Choice::candidates, Choice::tokens, Choice::scores};

constexpr std::string_view choice_name(Choice choice) {
  constexpr std::array<std::string_view, 6> kNames{"heads", "linear", "blocks", "candidates", "tokens", "scores"};
  return kNames[static_cast<std::size_t>(choice)];
}

/// What a run of an indexer chose for each of M rows, in host memory: a tensor per choice, empty where there is none.
///
///   heads       [M, h] i32         distinct heads
///   linear      [M, D + 1] f32     the numbers of a linear head's query as it was scored, and its weight
///   blocks      [M, m] i32         relative to the row's first block, ascending, -1 pads last
///   candidates  [M, k'] i32        of a re-rank, as tokens
///   tokens      [M, k] i32         relative to the row's begin, ascending, -1 pads last
///   scores      [M, k] f32 or f64  the score of each token, 0 at pads
struct Selection {
  std::string name, description;         ///< of who chose: a backend, or a file
  std::optional<Arithmetic> arithmetic;  ///< nothing: unknown, and no difference can be explained by it
  bool exact = false;                    ///< its arithmetic is the reference: its choices need no proof
  std::array<HostTensor, kChoices.size()> tensors;

  HostTensor& operator[](Choice choice) { return tensors[static_cast<std::size_t>(choice)]; }
  const HostTensor& operator[](Choice choice) const { return tensors[static_cast<std::size_t>(choice)]; }
};

/// The first choice whose tensors differ in a bit, a shape or a dtype; nothing: all are the same.
std::optional<Choice> first_difference(const Selection& a, const Selection& b);

/// Row m of [M, n] values, empty of an empty tensor.
template <class T>
std::span<const T> row_of(const HostTensor& values, i64 m) {
  if (values.empty()) return {};
  const std::size_t width = static_cast<std::size_t>(values.shape[1]);
  return values.span<const T>().subspan(static_cast<std::size_t>(m) * width, width);
}

/// The ids of a row before its first pad.
inline std::span<const i32> without_pads(std::span<const i32> row) {
  return row.first(static_cast<std::size_t>(std::find(row.begin(), row.end(), -1) - row.begin()));
}

/// Entry `at` of f32 or f64 scores.
double score_at(const HostTensor& scores, i64 at);

}  // namespace misa
