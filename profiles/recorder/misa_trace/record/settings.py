"""What the environment asks the recorder to do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Mapping, Optional

PHASES = ("prefill", "decode")
PROVENANCES = ("real-checkpoint", "small-trained", "random-init", "synthetic")
VARIABLES = ("DIR", "LAYERS", "ROWS", "CALLS", "TOPK", "MAX_BYTES", "RANKS", "MODEL", "PROVENANCE")
_PREFIX = "MISA_TRACE_"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class SettingsError(ValueError):
    """A variable whose value has no meaning. The text names the variable and what it may be."""


@dataclass(frozen=True)
class Settings:
    """One field per variable; docs/recording.md has the table."""

    folder: str
    layers: Optional[FrozenSet[int]] = None  # None: all
    rows: int = 64  # query rows kept of each call
    calls: Mapping[str, int] = field(default_factory=lambda: {"prefill": 4, "decode": 16})  # kept of each layer
    topk: bool = True
    max_bytes: int = 4 * 2**30
    ranks: Optional[FrozenSet[int]] = frozenset({0})  # None: all
    model: str = ""
    provenance: str = ""

    @staticmethod
    def of(environment: Mapping[str, str] = os.environ) -> Optional[Settings]:
        """The settings of an environment; None without MISA_TRACE_DIR. SettingsError for a value without meaning."""
        given = {name[len(_PREFIX) :]: value.strip() for name, value in environment.items() if name.startswith(_PREFIX)}
        given = {name: value for name, value in given.items() if value}
        if "DIR" not in given:
            return None
        for name in given:
            if name not in VARIABLES:
                raise SettingsError("{}{} is unknown; try: one of {}".format(
                    _PREFIX, name, ", ".join(_PREFIX + known for known in VARIABLES)))
        usual = Settings(given["DIR"])
        return Settings(
            folder=os.path.abspath(given["DIR"]),
            layers=_numbers("LAYERS", given["LAYERS"]) if "LAYERS" in given else None,
            rows=_count("ROWS", given["ROWS"]) if "ROWS" in given else usual.rows,
            calls=_calls(given["CALLS"]) if "CALLS" in given else usual.calls,
            topk=_one_of("TOPK", given.get("TOPK", "1"), ("0", "1")) == "1",
            max_bytes=_bytes(given["MAX_BYTES"]) if "MAX_BYTES" in given else usual.max_bytes,
            ranks=None if given.get("RANKS") == "all" else _numbers("RANKS", given.get("RANKS", "0")),
            model=given.get("MODEL", ""),
            provenance=_one_of("PROVENANCE", given["PROVENANCE"], PROVENANCES) if "PROVENANCE" in given else "",
        )


def _bad(name: str, value: str, what: str) -> SettingsError:
    return SettingsError("{}{} is '{}'; try: {}".format(_PREFIX, name, value, what))


def _count(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", value) or int(value) == 0:
        raise _bad(name, value, "a number from 1")
    return int(value)


def _numbers(name: str, value: str) -> FrozenSet[int]:
    words = [word.strip() for word in value.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise _bad(name, value, "numbers from 0, separated by commas, for instance 3,20")
    return frozenset(int(word) for word in words)


def _calls(value: str) -> Dict[str, int]:
    calls = {phase: 0 for phase in PHASES}
    for word in value.split(","):
        phase, colon, count = word.strip().partition(":")
        if phase not in PHASES or not colon or not re.fullmatch("[0-9]{1,9}", count):
            raise _bad("CALLS", value, "calls of each phase, for instance prefill:2,decode:4")
        calls[phase] = int(count)
    return calls


def _bytes(value: str) -> int:
    match = re.fullmatch("([0-9]{1,12})([KMG]?)", value.upper())
    if match is None:
        raise _bad("MAX_BYTES", value, "a number of bytes, or one with K, M or G behind it, for instance 512M")
    return int(match.group(1)) * _UNITS[match.group(2)]


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise _bad(name, value, "one of " + ", ".join(choices))
    return value
