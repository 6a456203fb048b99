// Rows that make it hard to find the k best: plateaus, near-equal scores, infinities, NaN, and more of them than a
// buffer of 4096 or 16384 holds. Every backend, against a plain sort.

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>

#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
constexpr float kDenormal = std::numeric_limits<float>::denorm_min();

const std::vector<i64> kSizes{4095, 4096, 4097, 16383, 16384, 16385, 16448};
const std::vector<i64> kCounts{1, 64, 2048};

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

/// What SelectTask promises, by a sort of the whole row.
std::vector<i32> sorted_selection(const SelectCase& from) {
  std::vector<i32> selected(static_cast<std::size_t>(from.rows * from.k), -1);
  for (i64 m = 0; m < from.rows; ++m) {
    struct Seen {
      float score;
      i64 token;
      int forced = 0;  // 2: the first, 1: the last
    };
    std::vector<Seen> seen;
    for (i64 c = 0; c < from.columns; ++c) {
      if (const i64 token = token_of(from, m, c); token >= 0) {
        seen.push_back({from.scores[static_cast<std::size_t>(m * from.columns + c)], token});
      }
    }
    if (from.force_ends && !seen.empty()) {
      seen.back().forced = 1;
      seen.front().forced = 2;
    }
    const auto kept = seen.begin() + std::min<i64>(from.k, static_cast<i64>(seen.size()));
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

/// Checks selections on every present backend; with MISA_SELECT_SEED only those of that seed.
class Stress {
 public:
  Stress() {
    for (const std::string& name : present_backends()) backends_.push_back(make_backend(name, 2));
    backends_.push_back(make_backend("oracle", 2));
    if (const char* text = std::getenv("MISA_SELECT_SEED")) only_ = std::strtoull(text, nullptr, 10);
  }

  void check(const SelectCase& from, const std::string& what, u64 seed) {
    if (only_ && seed != *only_) return;
    const std::vector<i32> expected = sorted_selection(from);
    for (const auto& backend : backends_) {
      const std::vector<i32> found = select_on(*backend, from);
      const i64 at = std::mismatch(found.begin(), found.end(), expected.begin()).first - found.begin();
      if (at == static_cast<i64>(found.size())) continue;
      const std::size_t place = static_cast<std::size_t>(at);
      FAIL_CHECK(backend->name() << ", " << what << ", " << from.columns << " columns, k " << from.k << ": row "
                                 << at / from.k << ", place " << at % from.k << " holds " << found[place]
                                 << ", expected " << expected[place] << "\nMISA_SELECT_SEED=" << seed
                                 << " runs it again");
    }
  }

  /// Rows of equal length that see all their columns.
  void check(const std::vector<std::vector<float>>& rows, i64 k, const std::string& what, u64 seed) {
    SelectCase from{.rows = static_cast<i64>(rows.size()), .columns = static_cast<i64>(rows.front().size()), .k = k};
    for (const std::vector<float>& row : rows) {
      from.scores.insert(from.scores.end(), row.begin(), row.end());
      from.begin.push_back(7);
      from.end.push_back(static_cast<i32>(7 + from.columns));
    }
    check(from, what, seed);
  }

 private:
  std::vector<std::unique_ptr<Backend>> backends_;
  std::optional<u64> only_;
};

std::vector<float> row_of(i64 columns, float value) {
  return std::vector<float>(static_cast<std::size_t>(columns), value);
}

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

}  // namespace

TEST_CASE("a row of equal scores selects its first columns") {
  Stress stress;
  u64 seed = 0;
  for (const i64 columns : {1, 15, 16, 64, 65, 4095, 4096, 4097, 16384, 16385, 16448}) {
    std::vector<std::vector<float>> rows;
    for (const float value : {1.0f, -3.0f, 0.0f, -0.0f, kDenormal, -kDenormal, kInf, -kInf, kNan}) {
      rows.push_back(row_of(columns, value));
    }
    for (const i64 k : {i64{1}, i64{64}, i64{2048}, std::max<i64>(1, columns - 1)}) {
      stress.check(rows, k, "equal scores", ++seed);
    }
  }
}

TEST_CASE("a plateau of exact zeros fills up from its first columns, and zeros of both signs are one plateau") {
  Stress stress;
  u64 seed = 100;
  for (const i64 columns : kSizes) {
    for (const i64 k : kCounts) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows;
      for (const i64 positives : {i64{0}, k / 2, k - 1, k, k + 1}) {
        for (const i64 negatives : {i64{0}, (columns - k) / 2, columns - k}) {
          std::vector<float> row = row_of(columns, 0.0f);
          for (float& score : row) score = draw.whole(0, 1) == 0 ? 0.0f : -0.0f;
          const std::vector<std::size_t> order = draw_columns(draw, columns, positives + negatives);
          for (std::size_t i = 0; i < order.size(); ++i) {
            const float size = std::abs(draw.normal()) + kDenormal;
            row[order[i]] = static_cast<i64>(i) < positives ? size : -size;
          }
          rows.push_back(std::move(row));
        }
      }
      stress.check(rows, k, "plateau of zeros", seed);
    }
  }
}

TEST_CASE("a few zeros of either sign above negative scores are one plateau, wherever a sample puts its bar") {
  Stress stress;
  constexpr i64 kColumns = 20'000, kTop = 1024, kZeros = 1330;  // about as many as a bar shall let through
  for (u64 seed = 500; seed < 520; ++seed) {
    Draw draw(seed);
    std::vector<std::vector<float>> rows;
    for (int m = 0; m < 10; ++m) {
      std::vector<float> row = row_of(kColumns, -1.0f);
      const std::vector<std::size_t> order = draw_columns(draw, kColumns, kZeros);
      for (const std::size_t column : order) row[column] = draw.whole(0, 9) == 0 ? -0.0f : 0.0f;
      rows.push_back(std::move(row));
    }
    stress.check(rows, kTop, "few zeros", seed);
  }
}

TEST_CASE("thousands of scores that differ in their last bits keep their order") {
  Stress stress;
  u64 seed = 200;
  for (const i64 candidates : kSizes) {
    for (const i64 k : kCounts) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows;
      for (const float base : {1.0f, 0x1.fffffep0f, -1.0f, 0.0f, -3e38f}) {
        for (const i64 spread : {1, 3, 255}) {
          // Ids of lower scores stand between the candidates of every other row.
          std::vector<float> row = row_of(20000, base == 0 ? -1.0f : -kInf);
          const std::vector<std::size_t> order = draw_columns(draw, 20000, candidates);
          for (const std::size_t column : order) row[column] = beyond(base, draw.whole(0, spread));
          rows.push_back(std::move(row));
        }
      }
      stress.check(rows, k, "near-equal scores, " + std::to_string(candidates) + " of them", seed);
      for (std::size_t spread = 1; spread <= rows.size(); ++spread) {
        std::vector<float>& row = rows[spread - 1];
        row.resize(static_cast<std::size_t>(candidates));
        for (float& score : row) score = beyond(1.5f, draw.whole(0, static_cast<i64>(spread)));
      }
      stress.check(rows, k, "nothing but near-equal scores", seed);
    }
  }
}

TEST_CASE("denormal scores are numbers like any other") {
  Stress stress;
  u64 seed = 300;
  for (const i64 columns : kSizes) {
    for (const i64 k : kCounts) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows(4, row_of(columns, 0));
      for (i64 c = 0; c < columns; ++c) {
        const std::size_t at = static_cast<std::size_t>(c);
        rows[0][at] = beyond(0.0f, draw.whole(0, 1 << 22));
        rows[1][at] = -beyond(0.0f, draw.whole(0, 3));
        rows[2][at] = std::copysign(beyond(0.0f, draw.whole(0, 40)), draw.normal());
        rows[3][at] = std::copysign(beyond(0x1p-126f, draw.whole(-9, 9)), draw.normal());
      }
      stress.check(rows, k, "denormals", seed);
    }
  }
}

TEST_CASE("infinities stand at both ends of the order, however many there are") {
  Stress stress;
  u64 seed = 400;
  for (const i64 columns : kSizes) {
    for (const i64 k : kCounts) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows;
      for (const i64 infinite : {i64{1}, k - 1, k, k + 1, columns - 1}) {
        for (const float value : {kInf, -kInf}) {
          std::vector<float> row = row_of(columns, 0);
          for (float& score : row) score = draw.normal();
          for (const std::size_t column : draw_columns(draw, columns, infinite)) row[column] = value;
          rows.push_back(std::move(row));
        }
      }
      // Fewer than k are above -inf.
      std::vector<float> bottom = row_of(columns, -kInf);
      for (const std::size_t column : draw_columns(draw, columns, k / 2)) bottom[column] = kInf;
      rows.push_back(std::move(bottom));
      stress.check(rows, k, "infinities", seed);
    }
  }
}

TEST_CASE("NaN comes after every number, -inf too, and fills up from its first columns") {
  Stress stress;
  u64 seed = 500;
  for (const i64 columns : kSizes) {
    for (const i64 k : kCounts) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows;
      for (const i64 numbers : {i64{0}, k / 2, k - 1, k, k + 1, columns / 2}) {
        std::vector<float> mixed = row_of(columns, kNan), bottom = row_of(columns, kNan);
        for (float& score : mixed) score = std::copysign(score, draw.normal());
        for (const std::size_t column : draw_columns(draw, columns, numbers)) {
          mixed[column] = draw.normal();
          bottom[column] = -kInf;
        }
        rows.push_back(std::move(mixed));
        rows.push_back(std::move(bottom));
      }
      stress.check(rows, k, "NaN", seed);
    }
  }
}

TEST_CASE("a row that sees no more than k columns selects them all, and pads come last") {
  Stress stress;
  u64 seed = 700;
  for (const i64 visible : {0, 1, 63, 64, 2047, 2048}) {
    for (const i64 k : kCounts) {
      if (visible > k) continue;
      Draw draw(++seed);
      SelectCase from{.rows = 3, .columns = 4097, .k = k};
      // What a row does not see may hold the best scores.
      for (i64 m = 0; m < from.rows; ++m) {
        for (i64 c = 0; c < from.columns; ++c) {
          from.scores.push_back(c >= visible ? kInf : draw.one_of<float>({kNan, -kInf, 0.0f, -1.0f}));
        }
        from.begin.push_back(static_cast<i32>(m));
        from.end.push_back(static_cast<i32>(m + visible));
      }
      stress.check(from, "few visible columns", seed);
    }
  }
}

TEST_CASE("no regular pattern of high and low columns misleads a sample") {
  Stress stress;
  u64 seed = 600;
  for (const i64 columns : {4096, 8192, 12345, 16384, 16448}) {
    for (const i64 k : {1, 64, 1024, 2048}) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows;
      for (const i64 stride : {columns / 1024, columns / 1024 + 1, i64{16}, i64{64}}) {
        for (const float regular : {5.0f, -5.0f, kInf, kNan}) {
          std::vector<float> row = row_of(columns, 0);
          for (std::size_t c = 0; c < row.size(); ++c) {
            row[c] = static_cast<i64>(c) % stride == 0 ? regular : std::abs(regular) == 5 ? draw.normal() : 0.0f;
          }
          rows.push_back(std::move(row));
        }
      }
      // The best stand together, first or last.
      for (const bool last : {false, true}) {
        std::vector<float> row = row_of(columns, 0);
        for (std::size_t c = 0; c < row.size(); ++c) row[c] = -static_cast<float>(last ? row.size() - c : c);
        rows.push_back(std::move(row));
      }
      stress.check(rows, k, "regular patterns", seed);
    }
  }
}

TEST_CASE("many rows at once and very wide ones select like any other") {
  Stress stress;
  u64 seed = 800;
  struct Size {
    i64 rows, columns;
  };
  for (const Size& size : {Size{600, 4100}, Size{40, 16400}, Size{1, 131072}, Size{2, 300001}}) {
    for (const i64 k : {64, 2048, 8192}) {
      Draw draw(++seed);
      std::vector<std::vector<float>> rows;
      for (i64 m = 0; m < size.rows; ++m) {
        std::vector<float> row = row_of(size.columns, 0);
        for (float& score : row) {
          const float normal = draw.normal();
          score = m % 4 == 0 ? std::max(0.0f, normal - 1) : m % 4 == 1 ? std::round(8 * normal) : normal;
        }
        if (m % 4 == 3) std::sort(row.begin(), row.end());
        rows.push_back(std::move(row));
      }
      stress.check(rows, k, "rows of every size", seed);
    }
  }
}

TEST_CASE("so many rows that a device shares none of them between processors select like any other") {
  Stress stress;
  u64 seed = 900;
  struct Size {
    i64 rows, columns;
  };
  for (const Size& size : {Size{270, 4100}, Size{270, 8192}, Size{270, 12300}, Size{270, 16384}, Size{140, 16400},
                           Size{140, 32768}, Size{70, 32772}}) {
    for (const i64 k : kCounts) {
      Draw draw(++seed);
      SelectCase from{.rows = size.rows, .columns = size.columns, .k = k};
      const std::vector<float> few{kInf, -kInf, 0.0f, -0.0f, kNan, 1.0f};
      for (i64 m = 0; m < size.rows; ++m) {
        std::vector<float> row = row_of(size.columns, m % 8 == 7 ? kNan : 1.0f);
        if (m % 8 == 7) {
          for (const std::size_t column : draw_columns(draw, size.columns, k - 1)) row[column] = draw.normal();
        } else if (m % 8 > 0) {
          for (float& score : row) {
            score = m % 8 == 1   ? std::max(0.0f, draw.normal() - 1)
                    : m % 8 == 2 ? std::round(8 * draw.normal())
                    : m % 8 == 3 ? draw.one_of(few)
                    : m % 8 == 4 ? beyond(-1.5f, draw.whole(0, 2000))
                                 : draw.normal();
          }
        }
        if (m % 8 == 6) std::sort(row.begin(), row.end());
        from.scores.insert(from.scores.end(), row.begin(), row.end());
        const i64 begin = draw.whole(0, 50);
        from.begin.push_back(static_cast<i32>(begin));
        from.end.push_back(static_cast<i32>(begin + (m % 3 == 0 ? draw.whole(0, size.columns) : size.columns)));
      }
      stress.check(from, "many rows", seed);
    }
  }
}

TEST_CASE("drawn rows of every kind, seen in part, as windows, lists and blocks, with and without forced ends") {
  Stress stress;
  for (u64 seed = 1000; seed < 1250; ++seed) {
    Draw draw(seed);
    SelectCase from;
    from.rows = draw.whole(1, 4);
    from.length = draw.one_of<i64>({0, 0, 1, 16});
    const i64 size = draw.one_of<i64>({1, 3, 16, 100, 4095, 4097, 8192, 16448});
    const i64 runs = from.length == 0 ? 0 : ceil_div(size, from.length);
    from.columns = from.length == 0 ? size : runs * from.length;
    from.k = draw.one_of<i64>({1, 2, 64, 2048, from.columns, from.columns + 1, 2 * from.columns});
    from.force_ends = draw.whole(0, 1) == 0;
    const std::vector<float> values = draw.one_of<std::vector<float>>({{kNan, kInf, -kInf, 0.0f, -0.0f},
                                                                       {kInf, 1.0f},
                                                                       {kNan, -kInf},
                                                                       {0.0f, -0.0f, kDenormal, -kDenormal},
                                                                       {-1.0f, beyond(-1.0f, 1), beyond(-1.0f, 2)},
                                                                       {}});
    for (i64 i = 0; i < from.rows * from.columns; ++i) {
      from.scores.push_back(values.empty() ? draw.normal() : draw.one_of(values));
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
    stress.check(from, "drawn rows", seed);
  }
}
