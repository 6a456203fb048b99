"""The package's tables are those of the program and of the documents."""

import re

from conftest import ROOT
from misa_trace.schema import RULES


def test_tensors_are_those_of_the_program():
    header = (ROOT / "core/workload/workload_fields.hpp").read_text(encoding="utf-8")
    sets = {name: set(re.findall(r'"(\w+)"', dtypes)) for name, dtypes in re.findall(r"(k\w+)\{([^}]*)\}", header)}
    found = {}
    for name, axes, dtypes in re.findall(r'WorkloadField\{\{"(\w+)", "(\w+)", ([^}]+)\}', header):
        found[name] = axes, sets.get(dtypes.strip(), set(re.findall(r'"(\w+)"', dtypes)))
    found.pop("sequence", None)  # no trace has it
    ours = {name: (rule.axes, set(rule.dtypes)) for name, rule in RULES.items() if name != "needle"}
    assert found == ours


def test_every_id_is_documented():
    documented = set(
        re.findall(r"^\| (MP-E\d{3})", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    package = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "profiles/recorder/misa_trace").rglob("*.py")
    )
    assert set(re.findall(r"MP-E\d{3}", package)) <= documented
