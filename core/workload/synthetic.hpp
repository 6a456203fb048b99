#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/workload/quantise.hpp"
#include "core/workload/rng.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// What the generator can be told (docs/workloads.md has the formulas). The defaults are the preset `natural`.
struct SyntheticKnobs {
  i64 segment = 2048;       ///< mean run of tokens that share a topic
  double topic = 0.75;      ///< share of a key's content energy that is its segment's topic (rest: token noise)
  double recency = 0.5;     ///< energy of the positional carrier relative to content (RoPE distance decay)
  double active_heads = 6;  ///< effective heads of a query, (sum |w|)^2 / sum w^2
  double agree = 0.65;      ///< cosine of each head's query with the query's shared intent
  double neg = 0.1;         ///< share of heads with a negative weight (suppressors that aim at a distractor topic)

  i64 rank = 16;            ///< dimension of the topic subspace
  double own = 0.5;         ///< share of the intent that is the query's own segment topic
  double head_sub = 0.5;    ///< share of a head's private direction inside the topic subspace
  double theta = 1.0e6;     ///< RoPE base
  i64 sinks = 4;            ///< attention-sink tokens at the start
  double sink_k = 1.5;      ///< their strength in keys
  double sink_q = 0.5;      ///< and in queries
  double key_mean = 0.5;    ///< the mean key all tokens share
  double head_bias = 0.25;  ///< spread of the heads' response to it
  double head_shift = 0;    ///< mean of the heads' response to it; negative: more ReLUs are dead
  double persist = 0.5;     ///< share of the order of weights that is the layer's rather than the query's
  double qnorm_sd = 0.3;    ///< deviation of log |q|
  double neg_aligned = 0;   ///< share of the negative heads that aim at the shared intent after all
  i64 blind = 0;            ///< heads, those of the largest weights, that see only the mean key: a constant offset
  i64 dormant = 0;          ///< heads, those of the largest weights, that never fire
};

/// What kind of numbers a preset draws.
enum class Pattern : u8 {
  structured,  ///< the generator proper
  iid,         ///< Gaussian keys and queries, weights |N|
  ties,        ///< 16 distinct keys: many tokens of exactly equal score
  zeros,       ///< no ReLU ever fires: every score is 0
  extremes,    ///< magnitudes near the limits of the formats, scores finite
};

struct PresetInfo {
  std::string_view name;
  std::string_view what;    ///< one line for `misa-prof list`
  std::string_view expect;  ///< what it is meant to show
  Pattern pattern = Pattern::structured;
  SyntheticKnobs knobs = {};
};

std::span<const PresetInfo> presets();
/// Throws Error(usage) when there is none, with the nearest name.
const PresetInfo& find_preset(std::string_view name);

/// A knob by name: one of the two members is set.
struct KnobInfo {
  std::string_view name;
  double least, most;  ///< both allowed
  double SyntheticKnobs::*real = nullptr;
  i64 SyntheticKnobs::*whole = nullptr;

  double of(const SyntheticKnobs& knobs) const { return real ? knobs.*real : static_cast<double>(knobs.*whole); }
};

/// Every knob, in the order of SyntheticKnobs.
std::span<const KnobInfo> knobs();

/// Throws Error(usage) naming the first knob that is out of its range.
void check_knobs(const SyntheticKnobs& knobs);

/// The weights' magnitudes by rank: exp(-a sqrt(rank)), a by bisection so that (sum w)^2 / sum w^2 is `effective`
/// (1..heads); root mean square 1. [heads]
std::vector<double> weight_profile(i64 heads, double effective);

/// Which of a query's heads look for the needle.
enum class NeedleMode : u8 {
  all,     ///< every head with a positive weight
  top,     ///< the four largest positive weights
  silent,  ///< the same four, and they fire for nothing else: block means cannot see them
};
std::span<const std::string_view> needle_mode_names();

/// What a query is asked to look for.
struct NeedleQuestion {
  i64 id = 0;  ///< which needle
  NeedleMode mode = NeedleMode::all;
  double gain = 3;
};

/// One sequence of one layer. Everything is a pure function of (seed, position): keys do not depend on the length or
/// on the number of heads, a query does not depend on other queries, and threads do not matter. With a compress_ratio r
/// above 1 a key is an entry of r tokens: key e mixes the tokens e r to e r + r - 1.
///
/// Computes in double and rounds once to f32. Source: ours (docs/workloads.md).
class SyntheticSequence {
 public:
  /// head_dim 32, 64, 128 or 256; heads 1..128; length >= 1 tokens; compress_ratio >= 1.
  SyntheticSequence(Pattern pattern, const SyntheticKnobs& knobs, u64 seed, i64 length, i64 heads, i64 head_dim,
                    i64 compress_ratio = 1);

  /// Keys [first, first + count).  to [count, D] f32
  void keys(i64 first, i64 count, float* to) const;

  /// The keys [first, first + count) as members of needle `id`: their content is mostly the needle's direction.
  /// Structured patterns only.  to [count, D] f32
  void needle_keys(i64 id, i64 first, i64 count, float* to) const;

  /// The query at position t < length.
  ///
  /// q        [H, D] f32
  /// weights  [H] f32: weight * H^-1/2 * D^-1/2, signed
  void query(i64 t, float* q, float* weights, const NeedleQuestion* question = nullptr) const;

  /// The segment that token t belongs to, and where each segment ends (the last one at or after the length).
  i64 segment_of(i64 t) const;
  std::span<const i64> segment_ends() const { return segment_ends_; }

 private:
  void structured_query(i64 t, float* q, float* weights, const NeedleQuestion* question) const;
  template <class Content>
  void keys_of(i64 first, i64 count, double share, bool sinks, const Content& content, float* to) const;
  void structured_keys(i64 first, i64 count, float* to) const;
  void draw_topic(Stream stream, i64 segment, std::span<double> x) const;
  void project(std::span<const double> coordinates, std::span<double> to) const;
  void rope_angles(i64 t, std::span<double> cosine, std::span<double> sine) const;
  std::vector<double> needle_direction(i64 id) const;

  Pattern pattern_;
  SyntheticKnobs knobs_;
  u64 seed_;
  i64 heads_, dim_, rotated_, ratio_;
  std::vector<double> basis_;        // [rank, D] topic subspace
  std::vector<double> mean_, sink_;  // [D] unit
  std::vector<double> carrier_;      // [D] unit
  std::vector<double> frequency_;    // [D / 4] RoPE
  std::vector<double> weights_;      // [H] by rank, scaled
  std::vector<i64> segment_ends_;
};

/// The seed of sequence `sequence` in layer `layer`. Each (sequence, layer) has its own seed.
u64 sequence_seed(u64 base, i64 sequence, i64 layer);

enum class Phase : u8 { prefill, decode };
std::string_view phase_name(Phase phase);

/// Tokens to plant in every sequence. Row i of a sequence asks for needle i modulo their number.
struct NeedleRequest {
  std::vector<double> depths = {0.5};  ///< 0 = after the sinks, 1 = just before the sequence's first row
  i64 length = 24;                     ///< tokens, of keys that are entries as many as hold them
  NeedleMode mode = NeedleMode::all;
  double gain = 3;
};

/// Everything that determines a synthetic workload: equal requests give equal bytes.
struct SyntheticRequest {
  std::string name = "synthetic";
  std::string model = "synthetic";  ///< metadata only
  i64 heads = 64, head_dim = 128;
  i64 top_k = 2048;    ///< metadata only: selecting is the indexer's business
  Forced forced = {};  ///< metadata only
  i64 layer = 0;
  i64 layers = 1, indexer_layers = 1;  ///< metadata only: of the model, and those that have an indexer
  ValueFormat format = ValueFormat::e4m3_ue8m0;
  std::string preset = "natural";
  std::optional<SyntheticKnobs> knobs;  ///< instead of the preset's
  u64 seed = 1;

  Phase phase = Phase::prefill;
  std::vector<i64> contexts = {8192};  ///< tokens of each sequence; at decode they may be 0
  i64 compress_ratio = 1;              ///< tokens that a key stands for

  i64 rows = 128;       ///< prefill: query rows of all sequences together
  bool spread = false;  ///< prefill: rows evenly over each sequence's last half instead of its last positions

  i64 next_n = 1;      ///< decode: rows per sequence, 1..4
  i64 page_size = 64;  ///< decode: keys per page

  std::optional<NeedleRequest> needles;

  /// Keys that are whole after so many tokens of a sequence.
  i64 keys_after(i64 tokens) const { return tokens / compress_ratio; }
};

/// Limits that check_request holds a request to.
inline constexpr i64 kMaxHeads = 128;
inline constexpr i64 kMaxSequences = 4096;
inline constexpr i64 kMaxKeys = i64{1} << 26;  ///< of all sequences together
inline constexpr i64 kMaxRows = i64{1} << 17;
inline constexpr i64 kMaxPageSize = 4096;
inline constexpr i64 kMaxCompressRatio = 1024;

/// Throws Error(usage) naming what is out of range.
void check_request(const SyntheticRequest& request);

/// Host memory of the generated workload, bytes.
i64 generated_bytes(const SyntheticRequest& request);

/// Keys of each needle that `request` asks for.
i64 needle_keys(const SyntheticRequest& request);

/// A needle of depth d begins floor(d * room) keys after the first that it may begin at, in a sequence whose first row
/// is at position `first_row`. Below 0 where there is no room.
i64 needle_room(const SyntheticRequest& request, i64 first_row);

/// `count` lengths, uniform in [shortest, longest].
std::vector<i64> ragged_contexts(i64 shortest, i64 longest, i64 count, u64 seed);

/// The workload that generate() draws, without its numbers: shapes, windows and metadata, and tensors whose memory
/// nobody has written to. Enough to plan a run and to count what it costs. Throws Error(usage) as check_request does.
Workload lay_out(const SyntheticRequest& request);

/// Draws the workload. Prefill: sequence after sequence in contiguous keys. Decode: pages in shuffled order;
/// unused slots and pages hold finite garbage that would win if it were scored.
/// Throws Error(usage) as check_request does.
Workload generate(const SyntheticRequest& request);

}  // namespace misa
