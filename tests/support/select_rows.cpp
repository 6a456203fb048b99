#include "tests/support/select_rows.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/support/cases.hpp"

namespace misa::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
constexpr float kDenormal = std::numeric_limits<float>::denorm_min();

using Row = std::vector<float>;

Row row_of(i64 columns, float value) { return Row(static_cast<std::size_t>(columns), value); }

/// `count` different columns below `columns`, in random order.
std::vector<std::size_t> draw_columns(Draw& draw, i64 columns, i64 count) {
  std::vector<std::size_t> order(static_cast<std::size_t>(columns));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), draw.engine());
  order.resize(static_cast<std::size_t>(std::min(count, columns)));
  return order;
}

/// The number `steps` units in the last place further from zero than `value`.
float beyond(float value, i64 steps) {
  return std::bit_cast<float>(static_cast<u32>(std::bit_cast<u32>(value) + static_cast<u32>(steps)));
}

/// Positive and negative numbers around zeros of both signs.
void add_zeros(std::vector<Row>& rows, Draw& draw, i64 columns, i64 k) {
  for (const i64 positives : {i64{0}, k / 2, k - 1, k, k + 1}) {
    for (const i64 negatives : {i64{0}, (columns - k) / 2, columns - k}) {
      Row& row = rows.emplace_back(row_of(columns, 0.0f));
      for (float& score : row) score = draw.whole(0, 1) == 0 ? 0.0f : -0.0f;
      const std::vector<std::size_t> order = draw_columns(draw, columns, positives + negatives);
      for (std::size_t i = 0; i < order.size(); ++i) {
        const float size = std::abs(draw.normal()) + kDenormal;
        row[order[i]] = static_cast<i64>(i) < positives ? size : -size;
      }
    }
  }
}

/// About as many zeros above negative scores as a bar from a sample lets through.
void add_few_zeros(std::vector<Row>& rows, Draw& draw, i64 columns, i64 /*k*/) {
  for (int m = 0; m < 50; ++m) {
    Row& row = rows.emplace_back(row_of(columns, -1.0f));
    for (const std::size_t column : draw_columns(draw, columns, 1330))
      row[column] = draw.whole(0, 9) == 0 ? -0.0f : 0.0f;
  }
}

/// Thousands of scores that differ in their last bits, lower ones between those of every other row.
void add_near(std::vector<Row>& rows, Draw& draw, i64 candidates, i64 /*k*/) {
  for (const float base : {1.0f, 0x1.fffffep0f, -1.0f, 0.0f, -3e38f}) {
    for (const i64 spread : {1, 3, 255}) {
      Row& row = rows.emplace_back(row_of(20000, base == 0 ? -1.0f : -kInf));
      for (const std::size_t column : draw_columns(draw, 20000, candidates)) {
        row[column] = beyond(base, draw.whole(0, spread));
      }
    }
  }
}

void add_denormals(std::vector<Row>& rows, Draw& draw, i64 columns, i64 /*k*/) {
  rows.assign(4, row_of(columns, 0));
  for (std::size_t c = 0; c < rows[0].size(); ++c) {
    rows[0][c] = beyond(0.0f, draw.whole(0, 1 << 22));
    rows[1][c] = -beyond(0.0f, draw.whole(0, 3));
    rows[2][c] = std::copysign(beyond(0.0f, draw.whole(0, 40)), draw.normal());
    rows[3][c] = std::copysign(beyond(0x1p-126f, draw.whole(-9, 9)), draw.normal());
  }
}

void add_infinities(std::vector<Row>& rows, Draw& draw, i64 columns, i64 k) {
  for (const i64 infinite : {i64{1}, k - 1, k, k + 1, columns - 1}) {
    for (const float value : {kInf, -kInf}) {
      Row& row = rows.emplace_back(row_of(columns, 0));
      for (float& score : row) score = draw.normal();
      for (const std::size_t column : draw_columns(draw, columns, infinite)) row[column] = value;
    }
  }
  // Fewer than k are above -inf.
  Row& bottom = rows.emplace_back(row_of(columns, -kInf));
  for (const std::size_t column : draw_columns(draw, columns, k / 2)) bottom[column] = kInf;
}

/// NaN comes after -inf too.
void add_nan(std::vector<Row>& rows, Draw& draw, i64 columns, i64 k) {
  for (const i64 numbers : {i64{0}, k / 2, k - 1, k, k + 1, columns / 2}) {
    Row mixed = row_of(columns, kNan), bottom = mixed;
    for (float& score : mixed) score = std::copysign(score, draw.normal());
    for (const std::size_t column : draw_columns(draw, columns, numbers)) {
      mixed[column] = draw.normal();
      bottom[column] = -kInf;
    }
    rows.push_back(std::move(mixed));
    rows.push_back(std::move(bottom));
  }
}

/// Regular patterns of high and low columns, which may mislead a sample; and the best together, first or last.
void add_regular(std::vector<Row>& rows, Draw& draw, i64 columns, i64 /*k*/) {
  for (const i64 stride : {columns / 1024, columns / 1024 + 1, i64{16}, i64{64}}) {
    for (const float regular : {5.0f, -5.0f, kInf, kNan}) {
      Row& row = rows.emplace_back(row_of(columns, 0));
      for (std::size_t c = 0; c < row.size(); ++c) {
        row[c] = static_cast<i64>(c) % stride == 0 ? regular : std::abs(regular) == 5 ? draw.normal() : 0.0f;
      }
    }
  }
  for (const bool last : {false, true}) {
    Row& row = rows.emplace_back(row_of(columns, 0));
    for (std::size_t c = 0; c < row.size(); ++c) row[c] = -static_cast<float>(last ? row.size() - c : c);
  }
}

void add_equal(std::vector<Row>& rows, Draw& /*draw*/, i64 columns, i64 /*k*/) {
  for (const float x : {1.0f, -3.0f, 0.0f, -0.0f, kDenormal, -kDenormal, kInf, -kInf, kNan}) {
    rows.push_back(row_of(columns, x));
  }
}

void add_only_near(std::vector<Row>& rows, Draw& draw, i64 columns, i64 /*k*/) {
  for (i64 spread = 1; spread <= 15; ++spread) {
    for (float& score : rows.emplace_back(row_of(columns, 0))) score = beyond(1.5f, draw.whole(0, spread));
  }
}

/// What is not seen holds the best scores.
void add_few_visible(std::vector<Row>& rows, Draw& draw, i64 visible, i64 /*k*/) {
  rows.assign(3, row_of(4097, kInf));
  for (Row& row : rows) {
    for (i64 c = 0; c < visible; ++c) row[static_cast<std::size_t>(c)] = draw.one_of<float>({kNan, -kInf, 0.0f, -1.0f});
  }
}

struct Hard {
  std::string_view name;
  void (*add)(std::vector<Row>& rows, Draw& draw, i64 columns, i64 k);
};
constexpr std::array<Hard, 10> kHard{{{"equal", add_equal},
                                      {"zeros", add_zeros},
                                      {"few_zeros", add_few_zeros},
                                      {"near", add_near},
                                      {"only_near", add_only_near},
                                      {"denormal", add_denormals},
                                      {"infinite", add_infinities},
                                      {"nan", add_nan},
                                      {"regular", add_regular},
                                      {"few_visible", add_few_visible}}};

/// The token of a column, -1 where the row does not see one.
i64 token_of(const SelectCase& from, i64 m, i64 column) {
  const std::size_t row = static_cast<std::size_t>(m);
  i64 token = from.begin[row] + column;
  if (from.length > 0) {
    const i64 run = from.runs[static_cast<std::size_t>(m * (from.columns / from.length) + column / from.length)];
    token =
        run < 0 ? -1 : (from.origin.empty() ? from.begin : from.origin)[row] + run * from.length + column % from.length;
  }
  return token >= from.begin[row] && token < from.end[row] ? token : -1;
}

}  // namespace

std::vector<float> select_scores(i64 rows, i64 columns, i64 kind) {
  constexpr i64 kDrawn = 1 << 22;  // more of them repeat
  std::mt19937 engine(6);
  std::normal_distribution<float> normal;
  std::vector<float> scores(static_cast<std::size_t>(rows * columns));
  for (i64 i = 0; i < std::ssize(scores); ++i) {
    scores[static_cast<std::size_t>(i)] = i < kDrawn ? normal(engine) : scores[engine() % kDrawn];
  }
  for (i64 i = 0; i < std::ssize(scores); ++i) {
    float& score = scores[static_cast<std::size_t>(i)];
    if (kind == 1) score = std::max(0.0f, score - 2.5f);
    if (kind == 2) score = 1;
    if (kind == 3) score = static_cast<float>(i % columns);
  }
  return scores;
}

SelectCase plain_rows(i64 rows, i64 columns, i64 k, i64 kind) {
  SelectCase from{.rows = rows, .columns = columns, .k = k, .scores = select_scores(rows, columns, kind)};
  from.begin.assign(static_cast<std::size_t>(rows), 0);
  from.end.assign(static_cast<std::size_t>(rows), static_cast<i32>(columns));
  return from;
}

SelectCase hard_rows(std::string_view kind, i64 columns, i64 k) {
  Draw draw(static_cast<u64>(columns * 10007 + k));
  std::vector<Row> rows;
  std::find_if(kHard.begin(), kHard.end(), [&](const Hard& one) {
    return one.name == kind;
  })->add(rows, draw, columns, k);
  SelectCase from{.rows = std::ssize(rows), .columns = std::ssize(rows.front()), .k = k};
  const i64 visible = kind == "few_visible" ? columns : from.columns;
  for (const Row& row : rows) {
    from.scores.insert(from.scores.end(), row.begin(), row.end());
    from.begin.push_back(static_cast<i32>(from.begin.size()));
    from.end.push_back(from.begin.back() + static_cast<i32>(visible));
  }
  return from;
}

SelectCase many_rows(i64 rows, i64 columns, i64 k) {
  Draw draw(static_cast<u64>(columns * 10007 + k));
  SelectCase from{.rows = rows, .columns = columns, .k = k};
  const std::vector<float> few{kInf, -kInf, 0.0f, -0.0f, kNan, 1.0f};
  for (i64 m = 0; m < rows; ++m) {
    const i64 kind = m % 8;
    Row row = row_of(columns, kind == 7 ? kNan : 1.0f);
    if (kind == 7) {
      for (const std::size_t column : draw_columns(draw, columns, k - 1)) row[column] = draw.normal();
    } else if (kind > 0) {
      for (float& score : row) {
        score = kind == 1   ? std::max(0.0f, draw.normal() - 1)
                : kind == 2 ? std::round(8 * draw.normal())
                : kind == 3 ? draw.one_of(few)
                : kind == 4 ? beyond(-1.5f, draw.whole(0, 2000))
                            : draw.normal();
      }
    }
    if (kind == 6) std::sort(row.begin(), row.end());
    from.scores.insert(from.scores.end(), row.begin(), row.end());
    const i64 begin = draw.whole(0, 50);
    from.begin.push_back(static_cast<i32>(begin));
    from.end.push_back(static_cast<i32>(begin + (m % 3 == 2 ? draw.whole(0, columns) : columns)));
  }
  return from;
}

SelectCase drawn_rows(u64 seed, bool many) {
  Draw draw(seed);
  SelectCase from;
  from.rows = many ? 270 : draw.whole(1, 4);
  from.length = draw.one_of<i64>({0, 0, 1, 16});
  const i64 size =
      many ? draw.one_of<i64>({32772, 33000, 40001})
           : draw.one_of<i64>({1, 2, 3, 15, 16, 17, 100, 2049, 4095, 4096, 4097, 8192, 9000, 16385, 16448, 20000});
  const i64 runs = from.length == 0 ? 0 : ceil_div(size, from.length);
  from.columns = from.length == 0 ? size : runs * from.length;
  from.k = std::max<i64>(1, draw.one_of<i64>({1, 2, 17, 64, 2048, from.columns - 1, from.columns, from.columns + 3,
                                              from.columns / 8, 2 * from.columns}));
  if (draw.whole(0, 1) == 0) from.forced = {1, 1};
  const std::vector<float> values = draw.one_of<std::vector<float>>({{kNan, kInf, -kInf, 0.0f, -0.0f},
                                                                     {kInf, 1.0f},
                                                                     {kNan, -kInf},
                                                                     {0.0f, -0.0f, kDenormal, -kDenormal},
                                                                     {-1.0f, beyond(-1.0f, 1), beyond(-1.0f, 2)},
                                                                     {-2.0f, -1.0f, 0.0f, 1.0f, 2.0f, 3.0f},
                                                                     {1.0f},
                                                                     {},
                                                                     {}});
  const i64 kind = draw.whole(0, 3);
  for (i64 i = 0; i < from.rows * from.columns; ++i) {
    const float x = draw.normal();
    from.scores.push_back(!values.empty() ? draw.one_of(values)
                          : kind == 0     ? std::max(0.0f, x - 1.5f)
                          : kind == 1     ? x * 1e-42f
                          : kind == 2     ? static_cast<float>(i % from.columns)
                                          : x);
  }
  for (i64 m = 0; m < from.rows; ++m) {
    const i64 begin = draw.whole(0, 50);
    from.begin.push_back(static_cast<i32>(begin));
    from.end.push_back(static_cast<i32>(begin + (draw.whole(0, 2) == 0 ? draw.whole(0, size) : 2 * size)));
    if (from.length == 0) continue;
    from.origin.push_back(static_cast<i32>(begin / from.length * from.length));
    const i64 used = draw.whole(0, 2) == 0 ? draw.whole(0, runs) : runs;
    i64 run = 0;
    for (i64 r = 0; r < runs; ++r) {
      from.runs.push_back(r < used ? static_cast<i32>(run) : -1);
      run += draw.whole(1, 2);
    }
  }
  return from;
}

SelectCase with_forced(SelectCase from, i64 seed) {
  Draw draw(static_cast<u64>(seed) + 90001);
  const i64 most = draw.one_of<i64>({1, 3, from.k / 2, from.k, 2 * from.k});
  from.forced = {draw.whole(0, most), draw.whole(0, most)};
  return from;
}

std::vector<i32> sorted_selection(const SelectCase& from) {
  std::vector<i32> selected(static_cast<std::size_t>(from.rows * from.k), -1);
  for (i64 m = 0; m < from.rows; ++m) {
    struct Seen {
      float score;
      i64 token;
      i64 forced = 0;
    };
    std::vector<Seen> seen;
    for (i64 c = 0; c < from.columns; ++c) {
      if (const i64 token = token_of(from, m, c); token >= 0) {
        seen.push_back({from.scores[static_cast<std::size_t>(m * from.columns + c)], token});
      }
    }
    // The last ones are less forced the farther they are from the end, the first ones more than all of them.
    const i64 all = std::ssize(seen);
    for (i64 i = 0; i < std::min(from.forced.last, all); ++i)
      seen[static_cast<std::size_t>(all - 1 - i)].forced = all - i;
    for (i64 i = 0; i < std::min(from.forced.first, all); ++i) seen[static_cast<std::size_t>(i)].forced = 2 * all - i;
    const auto kept = seen.begin() + std::min<i64>(from.k, std::ssize(seen));
    const auto better = [](const Seen& a, const Seen& b) {
      if (a.forced != b.forced) return a.forced > b.forced;
      if (std::isnan(a.score) != std::isnan(b.score)) return std::isnan(b.score);
      if (a.score > b.score || a.score < b.score) return a.score > b.score;
      return a.token < b.token;
    };
    if (kept != seen.end()) std::nth_element(seen.begin(), kept, seen.end(), better);
    const auto out = selected.begin() + m * from.k;
    std::transform(seen.begin(), kept, out, [&](const Seen& one) {
      return static_cast<i32>(one.token - from.begin[static_cast<std::size_t>(m)]);
    });
    std::sort(out, out + (kept - seen.begin()));
  }
  return selected;
}

}  // namespace misa::testing
