#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "backends/backends.hpp"

namespace misa::testing {

/// A backend's own copy of host values, and results back.
class On {
 public:
  explicit On(Backend& backend) : backend_(backend) {}

  template <class T, int Rank>
  View<T, Rank> make(std::array<i64, Rank> shape) {
    i64 count = 1;
    for (i64 extent : shape) count *= extent;
    buffers_.emplace_back(backend_, std::max<i64>(1, count) * static_cast<i64>(sizeof(T)));
    return View<T, Rank>(buffers_.back().template as<T>(), shape);
  }
  template <class T, int Rank>
  View<T, Rank> place(const std::vector<T>& values, std::array<i64, Rank> shape) {
    const View<T, Rank> view = make<T, Rank>(shape);
    if (!values.empty()) {
      backend_.upload(reinterpret_cast<std::byte*>(view.data), reinterpret_cast<const std::byte*>(values.data()),
                      static_cast<i64>(values.size() * sizeof(T)));
    }
    return view;
  }
  template <class View>
  auto fetch(const View& view) {
    std::vector<std::remove_const_t<std::remove_pointer_t<decltype(view.data)>>> values(
        static_cast<std::size_t>(view.size()));
    if (!values.empty()) {
      backend_.download(reinterpret_cast<std::byte*>(values.data()), reinterpret_cast<const std::byte*>(view.data),
                        static_cast<i64>(values.size() * sizeof(values[0])));
    }
    return values;
  }
  Logits logits(i64 rows, i64 columns) {
    if (backend_.logits_dtype() == Dtype::f64) return make<double, 2>({rows, columns});
    return make<float, 2>({rows, columns});
  }
  Logits place_logits(const std::vector<float>& values, i64 rows, i64 columns) {
    if (backend_.logits_dtype() == Dtype::f64) {
      return place<double, 2>(std::vector<double>(values.begin(), values.end()), {rows, columns});
    }
    return place<float, 2>(values, {rows, columns});
  }
  std::vector<double> fetch_logits(const Logits& logits) {
    return std::visit(
        [&](const auto& view) {
          const auto values = fetch(view);
          return std::vector<double>(values.begin(), values.end());
        },
        logits);
  }

 private:
  Backend& backend_;
  std::vector<Buffer> buffers_;
};

/// Rows of scores to choose from, in host memory.
struct SelectCase {
  i64 rows = 1, columns = 1, k = 1;
  std::vector<float> scores = {};         ///< [rows, columns]
  std::vector<i32> begin = {}, end = {};  ///< [rows]
  i64 length = 0;                         ///< of a run of candidates; 0: the columns are the rows' windows
  std::vector<i32> runs = {};             ///< [rows, columns / length]
  std::vector<i32> origin = {};           ///< [rows] of the candidates; empty: where the windows begin
  Forced forced = {};
};

inline SelectTask place_task(On& on, const SelectCase& from) {
  const std::vector<i32> sequence(static_cast<std::size_t>(from.rows), 0);
  SelectTask task;
  task.logits = on.place_logits(from.scores, from.rows, from.columns);
  task.windows = {on.place<i32, 1>(sequence, {from.rows}), on.place<i32, 1>(from.begin, {from.rows}),
                  on.place<i32, 1>(from.end, {from.rows})};
  if (from.length > 0) {
    task.candidates =
        Candidates{on.place<i32, 2>(from.runs, {from.rows, from.columns / from.length}),
                   from.origin.empty() ? task.windows.begin : on.place<i32, 1>(from.origin, {from.rows}), from.length};
  }
  task.forced = from.forced;
  task.selected = on.make<i32, 2>({from.rows, from.k});
  return task;
}

}  // namespace misa::testing
