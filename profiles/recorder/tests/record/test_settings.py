"""What the variables mean, and what is said of one without a meaning."""

import pytest

from misa_trace.record.settings import Settings, SettingsError


def settings(**variables):
    return Settings.of({"MISA_TRACE_" + name: value for name, value in variables.items()})


def test_without_a_folder_nothing_is_recorded():
    assert settings() is None
    assert settings(LAYERS="3") is None
    assert settings(DIR="") is None


def test_every_variable_is_read(tmp_path):
    found = settings(DIR=str(tmp_path), LAYERS="3, 20", ROWS="7", CALLS="decode:4", TOPK="0", MAX_BYTES="2M",
                     RANKS="all", MODEL="org/name", PROVENANCE="random-init")
    assert found == Settings(folder=str(tmp_path), layers=frozenset({3, 20}), rows=7, calls={"prefill": 0, "decode": 4},
                             topk=False, max_bytes=2 << 20, ranks=None, model="org/name", provenance="random-init")


@pytest.mark.parametrize("name, value", [
    ("LAYERS", "3,x"), ("LAYERS", "-1"), ("ROWS", "0"), ("ROWS", "1e3"), ("CALLS", "prefill"), ("CALLS", "verify:2"),
    ("CALLS", "decode:-1"), ("TOPK", "yes"), ("MAX_BYTES", "2MB"), ("RANKS", "first"), ("PROVENANCE", "real"),
    ("LAYER", "3"),
])
def test_a_value_without_a_meaning_is_named(name, value):
    with pytest.raises(SettingsError) as caught:
        settings(DIR="traces", **{name: value})
    assert "MISA_TRACE_" + name in str(caught.value)
    assert "; try: " in str(caught.value)
