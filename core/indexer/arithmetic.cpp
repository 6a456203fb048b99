#include "core/indexer/arithmetic.hpp"

#include <algorithm>
#include <array>

namespace misa {
namespace {

constexpr double kF64 = 0x1p-53, kF32 = 0x1p-24, kBf16 = 0x1p-8, kF16 = 0x1p-10;
constexpr double kLargestF64 = 0x1.fffffffffffffp1023, kLargestF32 = 0x1.fffffep127;
constexpr double kTiny64 = 0x1p-1074, kTiny32 = 0x1p-126;  // f32 kernels may flush subnormals to zero

constexpr Arithmetic kSingle{.name = "f32",
                             .what = "everything in f32, in any order",
                             .dot = kF32,
                             .head_sum = kF32,
                             .pool = kF32,
                             .result = kF32,
                             .overflow = kLargestF32,
                             .underflow = kTiny32};

constexpr Arithmetic kFp8Mma{
    .name = "fp8-mma",
    .what =
        "Hopper's FP8 tensor cores: 32 products and the accumulator aligned, 13 fraction bits kept; block means "
        "in f16",
    .dot = kF32,
    .group = 32,
    .cut = 0x1p-13,
    .sampled_cut = 0x1p-25,
    .head_sum = kF32,
    .pool = kF32,
    .mean = kF16,
    .result = kF32,
    .overflow = kLargestF32,
    .underflow = kTiny32};

constexpr Arithmetic kBf16Mma{
    .name = "bf16-mma",
    .what =
        "Hopper's bf16 tensor cores: 16 products and the accumulator aligned, 25 fraction bits kept; block means "
        "in f16",
    .dot = kF32,
    .group = 16,
    .cut = 0x1p-25,
    .sampled_cut = 0x1p-25,
    .head_sum = kF32,
    .pool = kF32,
    .mean = kF16,
    .result = kF32,
    .overflow = kLargestF32,
    .underflow = kTiny32};

/// `base` with weights and scores rounded to bf16.
constexpr Arithmetic bf16_result(Arithmetic base, std::string_view name, std::string_view what) {
  base.name = name;
  base.what = what;
  base.weight = base.result = kBf16;
  return base;
}

constexpr std::array kArithmetics{
    Arithmetic{.name = "f64",
               .what = "everything in double; stored block means in f32",
               .dot = kF64,
               .head_sum = kF64,
               .pool = kF64,
               .result = kF64,
               .overflow = kLargestF64,
               .underflow = kTiny64},
    Arithmetic{.name = "f32-dot",
               .what = "dot products in f32, in any order; everything after them in double, scores rounded to f32",
               .dot = kF32,
               .head_sum = kF64,
               .pool = kF64,
               .result = kF32,
               .overflow = kLargestF32,
               .underflow = kTiny32},
    Arithmetic{.name = "bf16-dot",
               .what = "as f32-dot, of bf16 numbers whose subnormals count as 0: AMX and AVX512-BF16",
               .dot = kF32,
               .head_sum = kF64,
               .pool = kF64,
               .result = kF32,
               .flush = kTiny32,
               .overflow = kLargestF32,
               .underflow = kTiny32},
    kSingle,
    Arithmetic{.name = "bf16",
               .what = "queries, keys and weights rounded to bf16, accumulated in f32",
               .operand = kBf16,
               .dot = kF32,
               .head_sum = kF32,
               .pool = kF32,
               .result = kF32,
               .overflow = kLargestF32,
               .underflow = kTiny32},
    Arithmetic{.name = "bf16-result",
               .what = "as bf16, and scores rounded to bf16",
               .operand = kBf16,
               .dot = kF32,
               .head_sum = kF32,
               .pool = kF32,
               .result = kBf16,
               .overflow = kLargestF32,
               .underflow = kTiny32},
    kFp8Mma,
    kBf16Mma,
    bf16_result(kSingle, "f32+bf16-result", "as f32, but weights and scores rounded to bf16"),
    bf16_result(kFp8Mma, "fp8-mma+bf16-result", "as fp8-mma, but weights and scores rounded to bf16: vLLM on SM100"),
    bf16_result(kBf16Mma, "bf16-mma+bf16-result", "as bf16-mma, but weights and scores rounded to bf16"),
};

}  // namespace

std::span<const Arithmetic> arithmetics() { return kArithmetics; }

std::optional<Arithmetic> find_arithmetic(std::string_view name) {
  const auto found = std::find_if(kArithmetics.begin(), kArithmetics.end(),
                                  [&](const Arithmetic& arithmetic) { return arithmetic.name == name; });
  return found == kArithmetics.end() ? std::nullopt : std::optional<Arithmetic>(*found);
}

}  // namespace misa
