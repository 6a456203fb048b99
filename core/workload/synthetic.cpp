#include "core/workload/synthetic.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

namespace misa {
namespace {

constexpr i64 kTiedKeys = 16;          // distinct keys of the preset `ties`
constexpr i64 kNeedleHeads = 4;        // heads that modes top and silent take
constexpr double kNeedleShare = 0.75;  // of a needle key's content energy

constexpr std::array<PresetInfo, 12> kPresets = {{
    {.name = "natural",
     .what = "topics, recency and few active heads, tuned to what the papers report",
     .expect = "MISA h=8 .92-.97, MISA-dagger ~1, HISA .92-.99 of DSA's tokens at 8K-128K"},
    {.name = "learned",
     .what = "fitted to the trained indexers of a small language model",
     .expect = "many useful heads: MISA h=8 ~.73, MISA-dagger ~.92, HISA ~.95 at 32K",
     .knobs = {.segment = 5800,
               .topic = 0.63,
               .recency = 4.2,
               .active_heads = 50,
               .agree = 0.59,
               .neg = 0.62,
               .own = 0.82,
               .head_sub = 1,
               .theta = 41000,
               .sink_q = 0.45,
               .key_mean = 0.59,
               .head_bias = 0.75,
               .head_shift = -0.4,
               .persist = 0.56,
               .qnorm_sd = 0.5,
               .neg_aligned = 0.19}},
    {.name = "iid",
     .what = "plain Gaussian keys and queries",
     .expect = "no structure: MISA h=8 ~.42, HISA at chance",
     .pattern = Pattern::iid,
     .knobs = {.neg = 0}},
    {.name = "diffuse",
     .what = "every head matters and none agree",
     .expect = "MISA fails (~.61 at 32K); the preset for testing correctness: no head can be lost unseen",
     .knobs = {.active_heads = 64, .agree = 0, .neg = 0}},
    {.name = "cancel",
     .what = "weights of both signs on the same intent",
     .expect = "a partial sum over heads means nothing: MISA fails (~.65 at 32K)",
     .knobs = {.active_heads = 24, .neg = 0.5, .neg_aligned = 1}},
    {.name = "scattered",
     .what = "no topics, no recency",
     .expect = "nothing survives pooling: HISA at chance (~.30 at 32K)",
     .knobs = {.segment = 1, .topic = 0, .recency = 0}},
    {.name = "dormant",
     .what = "the 8 largest weights sit on heads that never fire",
     .expect = "routing by |weight| fails (~.44), pooled routing does not (~.92)",
     .knobs = {.dormant = 8}},
    {.name = "blind",
     .what = "the 8 largest weights see only the mean key",
     .expect = "pooled routing takes a constant offset for relevance (~.65)",
     .knobs = {.blind = 8}},
    {.name = "ties",
     .what = "16 distinct keys, so most scores are exactly equal",
     .expect = "numerics: the order of ties",
     .pattern = Pattern::ties,
     .knobs = {.neg = 0.3}},
    {.name = "zeros",
     .what = "no ReLU ever fires, every score is exactly 0",
     .expect = "numerics: one tie of the whole window, signed zeros",
     .pattern = Pattern::zeros,
     .knobs = {.neg = 0.3}},
    {.name = "negative",
     .what = "every weight is negative",
     .expect = "numerics: no score above 0",
     .knobs = {.neg = 1, .neg_aligned = 1}},
    {.name = "extremes",
     .what = "magnitudes from 2^-30 to 2^30, zero keys, zero heads",
     .expect = "numerics: scales at their limits, FP8 subnormals, scores still finite",
     .pattern = Pattern::extremes,
     .knobs = {.neg = 0.3}},
}};

using Knobs = SyntheticKnobs;
constexpr std::array<KnobInfo, 21> kKnobs = {{
    {.name = "segment", .least = 1, .most = 1 << 24, .whole = &Knobs::segment},
    {.name = "topic", .least = 0, .most = 1, .real = &Knobs::topic},
    {.name = "recency", .least = 0, .most = 100, .real = &Knobs::recency},
    {.name = "active_heads", .least = 1, .most = 128, .real = &Knobs::active_heads},
    {.name = "agree", .least = 0, .most = 1, .real = &Knobs::agree},
    {.name = "neg", .least = 0, .most = 1, .real = &Knobs::neg},
    {.name = "rank", .least = 1, .most = 64, .whole = &Knobs::rank},
    {.name = "own", .least = 0, .most = 1, .real = &Knobs::own},
    {.name = "head_sub", .least = 0, .most = 1, .real = &Knobs::head_sub},
    {.name = "theta", .least = 1, .most = 1e12, .real = &Knobs::theta},
    {.name = "sinks", .least = 0, .most = 1024, .whole = &Knobs::sinks},
    {.name = "sink_k", .least = 0, .most = 100, .real = &Knobs::sink_k},
    {.name = "sink_q", .least = 0, .most = 100, .real = &Knobs::sink_q},
    {.name = "key_mean", .least = 0, .most = 100, .real = &Knobs::key_mean},
    {.name = "head_bias", .least = 0, .most = 100, .real = &Knobs::head_bias},
    {.name = "head_shift", .least = -100, .most = 100, .real = &Knobs::head_shift},
    {.name = "persist", .least = 0, .most = 1, .real = &Knobs::persist},
    {.name = "qnorm_sd", .least = 0, .most = 4, .real = &Knobs::qnorm_sd},
    {.name = "neg_aligned", .least = 0, .most = 1, .real = &Knobs::neg_aligned},
    {.name = "blind", .least = 0, .most = 128, .whole = &Knobs::blind},
    {.name = "dormant", .least = 0, .most = 128, .whole = &Knobs::dormant},
}};

constexpr std::array<std::string_view, 3> kNeedleModes = {"all", "top", "silent"};

[[noreturn]] void reject(const std::string& what, const std::string& how) {
  throw Error(ErrorKind::usage, "MP-E308", what, {}, how);
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// x / |x|
void make_unit(std::span<double> x) {
  const double norm = std::sqrt(dot(x, x));
  for (double& value : x) value /= norm;
}

/// to += factor * x
void add(std::span<double> to, double factor, std::span<const double> x) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += factor * x[i];
}

/// to = RoPE(factor * unit(x)), pairs (i, i + pairs) of the first 2 * pairs dims, rounded to f32.
void finish(std::span<double> x, double factor, std::span<const double> cosine, std::span<const double> sine,
            float* to) {
  make_unit(x);
  for (double& value : x) value *= factor;
  const std::size_t pairs = cosine.size();
  for (std::size_t i = 0; i < pairs; ++i) {
    const double a = x[i], b = x[i + pairs];
    to[i] = static_cast<float>(a * cosine[i] - b * sine[i]);
    to[i + pairs] = static_cast<float>(a * sine[i] + b * cosine[i]);
  }
  for (std::size_t i = 2 * pairs; i < x.size(); ++i) to[i] = static_cast<float>(x[i]);
}

/// 2^least .. 2^(least + count - 1), by hash.
double random_power(u64 hash, u64 count, int least) { return std::ldexp(1.0, static_cast<int>(hash % count) + least); }

}  // namespace

std::span<const PresetInfo> presets() { return kPresets; }

const PresetInfo& find_preset(std::string_view name) {
  if (const PresetInfo* preset = find_row(kPresets, name)) return *preset;
  reject(fmt::format("there is no preset '{}'", name), suggestion(name, names_of(kPresets)));
}

std::span<const KnobInfo> knobs() { return kKnobs; }

void check_knobs(const SyntheticKnobs& values) {
  for (const KnobInfo& knob : kKnobs) {
    const double value = knob.of(values);
    if (value >= knob.least && value <= knob.most) continue;  // NaN is rejected as well
    reject(fmt::format("knob {} is {}", knob.name, value), fmt::format("a value from {} to {}", knob.least, knob.most));
  }
}

std::span<const std::string_view> needle_mode_names() { return kNeedleModes; }

std::string_view phase_name(Phase phase) { return phase == Phase::prefill ? "prefill" : "decode"; }

u64 sequence_seed(u64 base, i64 sequence, i64 layer) {
  return mix64(base + kGolden * (static_cast<u64>(sequence) + 1)) + static_cast<u64>(layer);
}

std::vector<double> weight_profile(i64 heads, double effective) {
  std::vector<double> weights(static_cast<std::size_t>(heads));
  double squares = 0;
  const auto fill = [&](double slope) {
    double sum = 0;
    squares = 0;
    for (std::size_t r = 0; r < weights.size(); ++r) {
      weights[r] = std::exp(-slope * std::sqrt(static_cast<double>(r)));
      sum += weights[r];
      squares += weights[r] * weights[r];
    }
    return sum * sum / squares;
  };
  double low = 0, high = 20;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (fill(middle) > effective ? low : high) = middle;
  }
  fill(0.5 * (low + high));
  const double rms = std::sqrt(squares / static_cast<double>(heads));
  for (double& value : weights) value /= rms;
  return weights;
}

SyntheticSequence::SyntheticSequence(Pattern pattern, const SyntheticKnobs& values, u64 seed, i64 length, i64 heads,
                                     i64 head_dim, i64 compress_ratio)
    : pattern_(pattern),
      knobs_(values),
      seed_(seed),
      heads_(heads),
      dim_(head_dim),
      rotated_(head_dim / 2),
      ratio_(compress_ratio) {
  const auto dim = static_cast<std::size_t>(dim_), rotated = static_cast<std::size_t>(rotated_);
  const double root_dim = std::sqrt(static_cast<double>(dim_));
  for (u64 r = 0; r < static_cast<u64>(knobs_.rank); ++r) {
    const RandomRow random(seed_, Stream::basis, r);
    for (u64 d = 0; d < dim; ++d) basis_.push_back(random.normal(d) / root_dim);
  }
  const auto direction = [&](Stream stream) {
    std::vector<double> x(dim, 0.0);
    for (std::size_t d = rotated; d < dim; ++d) x[d] = nrm(seed_, stream, 0, d);
    make_unit(x);
    return x;
  };
  mean_ = direction(Stream::mean);
  sink_ = direction(Stream::sink);

  const std::size_t pairs = rotated / 2;
  carrier_.assign(dim, 0.0);
  for (std::size_t i = 0; i < pairs; ++i) {
    const double phase = 2 * std::numbers::pi * uni(seed_, Stream::carrier, 0, i);
    carrier_[i] = std::cos(phase);
    carrier_[i + pairs] = std::sin(phase);
    frequency_.push_back(std::pow(knobs_.theta, -static_cast<double>(i) / static_cast<double>(pairs)));
  }
  make_unit(carrier_);

  weights_ = weight_profile(heads_, std::min(knobs_.active_heads, static_cast<double>(heads_)));
  for (double& weight : weights_) weight *= 1 / std::sqrt(static_cast<double>(heads_)) * (1 / root_dim);

  const auto spread = static_cast<u64>(std::max<i64>(1, 3 * knobs_.segment / 2));
  for (i64 end = 0; end < length; segment_ends_.push_back(end)) {
    const u64 extra = h64(seed_, Stream::segment_length, segment_ends_.size(), 0) % spread;
    end += knobs_.segment / 4 + 1 + static_cast<i64>(extra);
  }
}

i64 SyntheticSequence::segment_of(i64 t) const {
  return std::upper_bound(segment_ends_.begin(), segment_ends_.end(), t) - segment_ends_.begin();
}

/// x = unit(N), [rank]
void SyntheticSequence::draw_topic(Stream stream, i64 segment, std::span<double> x) const {
  const RandomRow random(seed_, stream, static_cast<u64>(segment));
  for (std::size_t r = 0; r < x.size(); ++r) x[r] = random.normal(r);
  make_unit(x);
}

/// to [D] = coordinates [rank] . basis [rank, D]
void SyntheticSequence::project(std::span<const double> coordinates, std::span<double> to) const {
  std::fill(to.begin(), to.end(), 0.0);
  for (std::size_t r = 0; r < coordinates.size(); ++r) {
    add(to, coordinates[r], std::span(basis_).subspan(r * to.size(), to.size()));
  }
}

void SyntheticSequence::rope_angles(i64 t, std::span<double> cosine, std::span<double> sine) const {
  for (std::size_t i = 0; i < frequency_.size(); ++i) {
    const double angle = static_cast<double>(t) * frequency_[i];
    cosine[i] = std::cos(angle);
    sine[i] = std::sin(angle);
  }
}

void SyntheticSequence::keys(i64 first, i64 count, float* to) const {
  if (pattern_ == Pattern::structured) return structured_keys(first, count, to);
  const auto dim = static_cast<std::size_t>(dim_);
  for (i64 s = first; s < first + count; ++s, to += dim) {
    const u64 token = static_cast<u64>(s);
    const RandomRow own(seed_, Stream::key, token), scale(seed_, Stream::scale, token);
    const RandomRow shared(seed_, Stream::key, (u64{1} << 40) + own.hash(0) % kTiedKeys);
    double size = 1;
    if (pattern_ == Pattern::extremes)
      size = scale.hash(dim) % 64 == 0 ? 0 : random_power(scale.hash(dim + 1), 61, -30);
    for (std::size_t d = 0; d < dim; ++d) {
      double value = size * (pattern_ == Pattern::ties ? shared : own).normal(d);
      if (pattern_ == Pattern::zeros) value = std::abs(value);
      if (pattern_ == Pattern::extremes) value *= random_power(scale.hash(d), 13, -12);
      to[d] = static_cast<float>(value);
    }
  }
}

/// Keys whose content has the energy `share` in a direction, [D], which content(s) gives for each token. An entry is
/// the mean of its tokens, weighted by the softmax of their gates N, and RoPE turns it as its first token.
template <class Content>
void SyntheticSequence::keys_of(i64 first, i64 count, double share, bool sinks, const Content& content,
                                float* to) const {
  const double root_dim = std::sqrt(static_cast<double>(dim_));
  std::vector<double> x(static_cast<std::size_t>(dim_)), cosine(frequency_.size()), sine(frequency_.size());
  const auto draw_token = [&](i64 s) {
    const std::vector<double>& direction = content(s);
    const RandomRow random(seed_, Stream::key, static_cast<u64>(s));
    for (std::size_t d = 0; d < x.size(); ++d) {
      x[d] = std::sqrt(share) * direction[d] + std::sqrt(1 - share) * (random.normal(d) / root_dim);
    }
    add(x, std::sqrt(knobs_.recency), carrier_);
    add(x, knobs_.key_mean, mean_);
    if (sinks && s < knobs_.sinks) add(x, knobs_.sink_k, sink_);
  };
  std::vector<double> entry(x.size());
  for (i64 key = first; key < first + count; ++key, to += dim_) {
    const i64 token = key * ratio_;
    if (ratio_ == 1) {
      draw_token(token);
    } else {
      std::fill(entry.begin(), entry.end(), 0.0);
      for (i64 i = 0; i < ratio_; ++i) {
        draw_token(token + i);
        add(entry, std::exp(nrm(seed_, Stream::gate, static_cast<u64>(token + i), 0)), x);
      }
      x.swap(entry);  // finish() divides by the sum of the gates, too
    }
    rope_angles(token, cosine, sine);
    finish(x, root_dim, cosine, sine, to);
  }
}

void SyntheticSequence::structured_keys(i64 first, i64 count, float* to) const {
  std::vector<double> topic(static_cast<std::size_t>(dim_)), coordinates(static_cast<std::size_t>(knobs_.rank));
  i64 segment = -1;
  const auto topic_of = [&](i64 s) -> const std::vector<double>& {
    if (segment < 0 || s >= segment_ends_[static_cast<std::size_t>(segment)]) {
      segment = segment_of(s);
      draw_topic(Stream::segment_topic, segment, coordinates);
      project(coordinates, topic);
    }
    return topic;
  };
  keys_of(first, count, knobs_.topic, true, topic_of, to);
}

/// A unit vector on the unrotated dims, there orthogonal to topics, mean key and sink. Of a topic space larger than
/// half of those dims only so many directions are avoided. [D]
std::vector<double> SyntheticSequence::needle_direction(i64 id) const {
  const auto dim = static_cast<std::size_t>(dim_), rotated = static_cast<std::size_t>(rotated_);
  std::vector<std::vector<double>> avoid;
  const auto without = [&](std::span<const double> from) {
    std::vector<double> x(from.begin(), from.end());
    std::fill(x.begin(), x.begin() + rotated_, 0.0);
    for (const std::vector<double>& e : avoid) add(x, -dot(x, e), e);
    make_unit(x);
    return x;
  };
  const auto topics = static_cast<std::size_t>(std::min(knobs_.rank, dim_ / 4));
  for (std::size_t r = 0; r < topics; ++r) avoid.push_back(without(std::span(basis_).subspan(r * dim, dim)));
  avoid.push_back(without(mean_));
  avoid.push_back(without(sink_));
  std::vector<double> drawn(dim, 0.0);
  for (std::size_t d = rotated; d < dim; ++d) drawn[d] = nrm(seed_, Stream::needle, static_cast<u64>(id), d);
  return without(drawn);
}

void SyntheticSequence::needle_keys(i64 id, i64 first, i64 count, float* to) const {
  const std::vector<double> needle = needle_direction(id);
  keys_of(
      first, count, kNeedleShare, false, [&](i64) -> const std::vector<double>& { return needle; }, to);
}

void SyntheticSequence::query(i64 t, float* q, float* weights, const NeedleQuestion* question) const {
  if (pattern_ == Pattern::structured) return structured_query(t, q, weights, question);
  const u64 token = static_cast<u64>(t), dim = static_cast<u64>(dim_);
  const double unit_weight = 1 / std::sqrt(static_cast<double>(heads_)) / std::sqrt(static_cast<double>(dim_));
  const RandomRow noise(seed_, Stream::head_noise, token), drawn(seed_, Stream::weight_query, token);
  const RandomRow sign(seed_, Stream::sign, token), scale(seed_, Stream::scale, ~token);
  for (u64 j = 0; j < static_cast<u64>(heads_); ++j, q += dim) {
    const u64 counter = j * (dim + 3);
    double weight = std::abs(drawn.normal(j)) * unit_weight, size = 1;
    if (pattern_ == Pattern::extremes) {
      size = scale.hash(counter + dim) % 16 == 0 ? 0 : random_power(scale.hash(counter + dim + 1), 41, -20);
      weight *= random_power(scale.hash(counter + dim + 2), 21, -10);
    }
    weights[j] = static_cast<float>(sign.uniform(j) < knobs_.neg ? -weight : weight);
    for (u64 d = 0; d < dim; ++d) {
      double value = size * noise.normal(j * dim + d);
      if (pattern_ == Pattern::zeros) value = -std::abs(value);
      if (pattern_ == Pattern::extremes) value *= random_power(scale.hash(counter + d), 13, -12);
      q[d] = static_cast<float>(value);
    }
  }
}

void SyntheticSequence::structured_query(i64 t, float* q, float* weights, const NeedleQuestion* question) const {
  const Knobs& p = knobs_;
  const auto dim = static_cast<std::size_t>(dim_), heads = static_cast<std::size_t>(heads_);
  const auto rank = static_cast<std::size_t>(p.rank);
  const double root_dim = std::sqrt(static_cast<double>(dim_));
  const u64 token = static_cast<u64>(t);
  const i64 segment = segment_of(t);

  // What the query is about, and what its suppressors are about.
  std::vector<double> coordinates(rank), topic(rank), intent(dim), distractor(dim);
  draw_topic(Stream::segment_topic, segment, topic);
  draw_topic(Stream::intent, segment, coordinates);
  for (std::size_t r = 0; r < rank; ++r) {
    coordinates[r] = std::sqrt(p.own) * topic[r] + std::sqrt(1 - p.own) * coordinates[r];
  }
  make_unit(coordinates);
  project(coordinates, intent);
  make_unit(intent);
  draw_topic(Stream::distractor, segment, coordinates);
  project(coordinates, distractor);
  make_unit(distractor);

  // Weights: a fixed profile, given to the heads in an order that is partly the layer's and partly the query's.
  const RandomRow layer(seed_, Stream::weight_layer, 0), own(seed_, Stream::weight_query, token);
  std::vector<double> standing(heads);
  for (std::size_t j = 0; j < heads; ++j) {
    standing[j] = std::sqrt(p.persist) * layer.normal(j) + std::sqrt(1 - p.persist) * own.normal(j);
  }
  std::vector<std::size_t> order(heads);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return standing[a] > standing[b]; });
  const RandomRow sign(seed_, Stream::sign, token), aligned(seed_, Stream::aligned, token);
  std::vector<char> negative(heads), asked(heads, 0);
  for (std::size_t j = 0; j < heads; ++j) negative[j] = sign.uniform(j) < p.neg;

  std::vector<double> needle;
  if (question != nullptr) {
    needle = needle_direction(question->id);
    i64 left = question->mode == NeedleMode::all ? heads_ : kNeedleHeads;
    for (std::size_t j : order) {
      if (negative[j] || left == 0) continue;
      asked[j] = 1;
      --left;
    }
  }

  std::vector<double> x(dim), cosine(frequency_.size()), sine(frequency_.size());
  rope_angles(t, cosine, sine);
  const RandomRow head_topic(seed_, Stream::head_topic, token), head_noise(seed_, Stream::head_noise, token);
  const RandomRow bias(seed_, Stream::bias, 0), norm(seed_, Stream::query_norm, token);
  const double own_size = std::sqrt(1 - p.agree * p.agree);
  const double inside = own_size * std::sqrt(p.head_sub), outside = own_size * std::sqrt(1 - p.head_sub);
  for (std::size_t place = 0; place < heads; ++place) {
    const std::size_t j = order[place];
    weights[j] = static_cast<float>(negative[j] ? -weights_[place] : weights_[place]);
    double only_mean = 0;  // a head that sees nothing but the mean key, in this strength
    if (place < static_cast<std::size_t>(p.blind)) only_mean = 4;
    if (place < static_cast<std::size_t>(p.dormant)) only_mean = -4;
    if (asked[j] && question->mode == NeedleMode::silent) only_mean = -1;
    if (only_mean != 0) {
      std::fill(x.begin(), x.end(), 0.0);
      add(x, only_mean, mean_);
    } else {
      for (std::size_t r = 0; r < rank; ++r) coordinates[r] = head_topic.normal(j * rank + r);
      make_unit(coordinates);
      project(coordinates, x);
      for (std::size_t d = 0; d < dim; ++d) {
        x[d] = inside * x[d] + outside * (head_noise.normal(j * dim + d) / root_dim);
      }
      const bool suppressor = negative[j] && !(aligned.uniform(j) < p.neg_aligned);
      add(x, p.agree, suppressor ? distractor : intent);
      if (!suppressor) {
        add(x, std::sqrt(p.recency), carrier_);
        add(x, p.sink_q, sink_);
      }
      add(x, p.head_shift + p.head_bias * bias.normal(j), mean_);
    }
    if (asked[j]) add(x, question->gain, needle);
    finish(x, std::exp(p.qnorm_sd * norm.normal(j)) * root_dim, cosine, sine, q + j * dim);
  }
}

}  // namespace misa
