// Compiled once for each level of vector instructions, MISA_LOOPS: a name for its table, and MISA_LEVEL: a name for
// people. Nothing here may come out of line as a function that other files have too, for the linker may keep the one
// that not every processor can run; a test looks at the symbols.

#include "backends/cpu/loops.hpp"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace misa::cpu {
namespace {

#ifdef __AVX512F__
constexpr i64 kWide = 8;
using Doubles = __m512d;

inline Doubles load_wide(const float* in) { return _mm512_cvtps_pd(_mm256_loadu_ps(in)); }
inline Doubles relu(Doubles x) { return _mm512_max_pd(_mm512_setzero_pd(), x); }  // the second, where either is NaN
#else
constexpr i64 kWide = 4;
typedef double Doubles __attribute__((vector_size(kWide * 8)));

inline Doubles load_wide(const float* in) { return Doubles{in[0], in[1], in[2], in[3]}; }
inline Doubles relu(Doubles x) { return Doubles{} > x ? Doubles{} : x; }
#endif
constexpr i64 kSums = 8, kBlock = kSums * kWide;  // what stays in registers

void e4m3_to_bf16(const E4m3* in, i64 count, Bf16* out) {
  i64 i = 0;
#ifdef __AVX512BW__
  // Below 2^-6 the number is a multiple of 2^-9, with a leading bit in bf16.
  const __m512i subnormal =
      _mm512_zextsi128_si512(_mm_setr_epi16(0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60));
  const auto all = [](int bits) { return _mm512_set1_epi16(static_cast<short>(bits)); };
  for (; i + 32 <= count; i += 32) {
    const __m512i bits = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i)));
    const __m512i magnitude = _mm512_and_si512(bits, all(0x7F));
    __m512i value = _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), all(120 << 7));
    value = _mm512_mask_permutexvar_epi16(value, _mm512_cmplt_epu16_mask(magnitude, all(8)), magnitude, subnormal);
    value = _mm512_mask_mov_epi16(value, _mm512_cmpeq_epi16_mask(magnitude, all(0x7F)), all(0x7FC0));
    const __m512i sign = _mm512_slli_epi16(_mm512_xor_si512(bits, magnitude), 8);
    _mm512_storeu_si512(out + i, _mm512_or_si512(value, sign));
  }
#endif
  for (; i < count; ++i) out[i].bits = static_cast<u16>(__builtin_bit_cast(u32, to_float(in[i])) >> 16);
}

void e4m3_to_f32(const E4m3* in, i64 count, float* out) {
#pragma omp simd
  for (i64 i = 0; i < count; ++i) out[i] = to_float(in[i]);
}

void bf16_to_f32(const Bf16* in, i64 count, float* out) {
#pragma omp simd
  for (i64 i = 0; i < count; ++i) out[i] = to_float(in[i]);
}

void int8_to_bf16(const i8* in, i64 count, Bf16* out) {
#pragma omp simd
  for (i64 i = 0; i < count; ++i) {
    out[i].bits = static_cast<u16>(__builtin_bit_cast(u32, static_cast<float>(in[i])) >> 16);
  }
}

void int8_to_f32(const i8* in, i64 count, float* out) {
#pragma omp simd
  for (i64 i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]);
}

/// One MXFP4 vector. The function stays in this file: see above.
inline void read_mxfp4(const u8* codes, const u8* scales, i64 dim, float* out) {
  constexpr i64 kShared = 32;
  for (i64 first = 0; first < dim; first += kShared) {
    const float scale = e8m0_to_float(scales[first / kShared]);
    const u8* block = codes + first / 2;
    float* to = out + first;
#pragma omp simd
    for (i64 i = 0; i < kShared; ++i) {
      const u32 code = static_cast<u32>(block[i / 2]) >> (i % 2 * 4);
      // Twice the number is whole: 0, 1, 2, 3, 4, 6, 8, 12.
      const u32 magnitude = code & 7u, exponent = magnitude >> 1u, normal = exponent > 0 ? 1u : 0u;
      const u32 twice = ((magnitude & 1u) | (normal << 1u)) << (exponent - normal);
      const float size = 0.5f * static_cast<float>(static_cast<i32>(twice));
      const float number = __builtin_bit_cast(float, __builtin_bit_cast(u32, size) | (code & 8u) << 28u);
      to[i] = number * scale;
    }
  }
}

void mxfp4_to_f32(const u8* codes, const u8* scales, i64 dim, float* out) { read_mxfp4(codes, scales, dim, out); }

void mxfp4_to_bf16(const u8* codes, const u8* scales, i64 dim, Bf16* out) {
  constexpr i64 kShared = 32;
  float block[kShared];
  for (i64 first = 0; first < dim; first += kShared) {
    read_mxfp4(codes + first / 2, scales + first / kShared, kShared, block);
#pragma omp simd
    for (i64 i = 0; i < kShared; ++i) out[first + i].bits = static_cast<u16>(__builtin_bit_cast(u32, block[i]) >> 16);
  }
}

void add_keys(const float* keys, i64 count, i64 dim, const float* scales, double* sum) {
  i64 d = 0;
  for (; d + kBlock <= dim; d += kBlock) {
    Doubles block[kSums];
    __builtin_memcpy(block, sum + d, sizeof block);
    for (i64 t = 0; t < count; ++t) {
      const Doubles scale = Doubles{} + scales[t];
      for (i64 i = 0; i < kSums; ++i) block[i] += scale * load_wide(keys + t * dim + d + i * kWide);
    }
    __builtin_memcpy(sum + d, block, sizeof block);
  }
  for (; d < dim; ++d) {
    for (i64 t = 0; t < count; ++t) sum[d] += static_cast<double>(scales[t]) * keys[t * dim + d];
  }
}

void weigh_heads(const float* products, i64 stride, const float* weights, i64 heads, const float* scales, i64 from,
                 i64 to, float* out) {
  for (i64 first = from / kBlock * kBlock; first < to; first += kBlock) {
    Doubles block[kSums] = {};
    for (i64 h = 0; h < heads; ++h) {
      const Doubles weight = Doubles{} + weights[h];
      for (i64 i = 0; i < kSums; ++i) {
        block[i] += weight * relu(load_wide(products + h * stride + first + i * kWide));
      }
    }
    double sum[kBlock];
    __builtin_memcpy(sum, block, sizeof sum);
    const i64 begin = from > first ? from : first, end = to < first + kBlock ? to : first + kBlock;
    for (i64 c = begin; c < end; ++c) out[c - from] = static_cast<float>(scales[c] * sum[c - first]);
  }
}

i64 keep_above(const float* in, i64 count, float bound, float* values, i32* places) {
  i64 kept = 0, i = 0;
#ifdef __AVX512F__
  const __m512 least = _mm512_set1_ps(bound);
  __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; i + 16 <= count; i += 16) {
    const __m512 value = _mm512_loadu_ps(in + i);
    const __mmask16 above = _mm512_cmp_ps_mask(value, least, _CMP_GT_OQ);
    // A store under a mask is slow where it compresses at once.
    _mm512_storeu_ps(values + kept, _mm512_maskz_compress_ps(above, value));
    _mm512_storeu_si512(places + kept, _mm512_maskz_compress_epi32(above, place));
    kept += __builtin_popcount(above);
    place = _mm512_add_epi32(place, _mm512_set1_epi32(16));
  }
#else
  constexpr i64 kLanes = 16;
  for (; i + kLanes <= count; i += kLanes) {
    u32 above = 0;
#pragma omp simd reduction(| : above)
    for (i64 lane = 0; lane < kLanes; ++lane) above |= static_cast<u32>(in[i + lane] > bound ? 1 : 0) << lane;
    for (; above != 0; above &= above - 1) {
      const i64 at = i + __builtin_ctz(above);
      values[kept] = in[at];
      places[kept++] = static_cast<i32>(at);
    }
  }
#endif
  for (; i < count; ++i) {
    if (!(in[i] > bound)) continue;
    values[kept] = in[i];
    places[kept++] = static_cast<i32>(i);
  }
  return kept;
}

i64 count_from(const float* in, i64 count, float least) {
  i32 found = 0;
#pragma omp simd reduction(+ : found)
  for (i64 i = 0; i < count; ++i) found += in[i] >= least ? 1 : 0;
  return found;
}

}  // namespace

extern const Loops MISA_LOOPS;
const Loops MISA_LOOPS{MISA_LEVEL,    e4m3_to_bf16, e4m3_to_f32, bf16_to_f32, int8_to_bf16, int8_to_f32,
                       mxfp4_to_bf16, mxfp4_to_f32, add_keys,    weigh_heads, keep_above,   count_from};

}  // namespace misa::cpu
