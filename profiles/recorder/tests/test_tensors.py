"""FP8 and bf16 without a package for them."""

import misa_trace as m
import numpy as np
import pytest


def test_every_e4m3_code_survives_decoding_and_rounding():
    codes = np.array([c for c in range(256) if c & 127 != 127], np.uint8)
    numbers = m.e4m3(codes).values()
    assert np.array_equal(m.to_e4m3(numbers).data, codes)
    assert numbers[codes == 0x7E] == 448 and numbers[codes == 1] == 2.0**-9 and numbers[codes == 0x38] == 1


def test_rounding_to_e4m3_is_to_nearest_and_ties_go_to_even():
    codes = np.arange(0, 0x7F, dtype=np.uint8)
    numbers = m.e4m3(codes).values().astype(float)
    halves = (numbers[:-1] + numbers[1:]) / 2
    assert np.array_equal(m.to_e4m3(halves).data, np.where(codes[:-1] % 2 == 0, codes[:-1], codes[1:]))
    assert np.array_equal(m.to_e4m3(np.nextafter(halves, 0)).data, codes[:-1])
    assert np.array_equal(m.to_e4m3(np.nextafter(halves, 999)).data, codes[1:])
    assert m.to_e4m3([1e9, -np.inf, np.nan]).data.tolist() == [0x7E, 0xFE, 0x7F]


def test_bf16_is_the_upper_half_of_f32_rounded_to_even():
    numbers = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -0.0, 3.4e38, np.nan, np.inf], np.float32)
    assert m.to_bf16(numbers).data.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x8000, 0x7F80, 0x7FC0, 0x7F80]
    assert m.bf16(np.array([0x3F80], np.uint16)).values() == [1.0]


def test_untagged_bits_are_not_taken_for_numbers():
    from drawn import contiguous

    arrays, metadata = contiguous()
    with pytest.raises(m.TraceError, match=r"MP-E560.*bytes.*misa_trace.e4m3"):
        m.make_trace(metadata, **{**arrays, "q": arrays["q"].data})
    with pytest.raises(m.TraceError, match=r"MP-E206.*U16.*misa_trace.bf16"):
        m.make_trace(metadata, **{**arrays, "q": m.to_bf16(arrays["q"].values()).data})
    with pytest.raises(m.TraceError, match="MP-E206"):
        m.Tensor("F8_E4M3", np.zeros(3, np.float32))


def test_numbers_that_a_conversion_would_change_are_refused():
    from drawn import contiguous

    arrays, metadata = contiguous()
    exact = m.make_trace(metadata, **{**arrays, "weights": arrays["weights"].astype(float)})
    assert np.array_equal(exact.weights.data, arrays["weights"])
    with pytest.raises(m.TraceError, match=r"MP-E206: F64 holds numbers that F32 does not; tensor 'weights'"):
        m.make_trace(metadata, **{**arrays, "weights": arrays["weights"].astype(float) + 1e-12})
    with pytest.raises(m.TraceError, match=r"MP-E206: I64 holds 42949"):
        m.make_trace(metadata, **{**arrays, "ke": arrays["ke"].astype(np.int64) + 2**32})
