"""What the tests of the program share: starting it, and what holds for every command."""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAST = ["--model", "tiny", "--workload", "ci", "--samples", "1", "--warm-up", "0"]
PROGRAM = []


def misa(*arguments, stdout=subprocess.PIPE, env=None, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "MISA_PROF_PROFILES")}
    environment.update(env or {})
    return subprocess.run([*PROGRAM, *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True,
                          env=environment, cwd=cwd, check=False)


def strict_json(text):
    """JSON without duplicate keys, NaN or Infinity."""
    def unique(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"duplicate key in {keys}"
        return dict(pairs)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def tensors(path):
    """Name -> (dtype, shape, bytes) of a safetensors file."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    base = 8 + length
    return {name: (entry["dtype"], entry["shape"], data[base + entry["data_offsets"][0]:base + entry["data_offsets"][1]])
            for name, entry in header.items()}


def needs(test, there, what):
    """Skips `test` where there is no `what`; with MISA_NO_SKIPS set, as .ci/run does, it fails instead."""
    if there:
        return
    if os.environ.get("MISA_NO_SKIPS"):
        test.fail(f"there is no {what}, and MISA_NO_SKIPS is set")
    test.skipTest(f"there is no {what}")


def needs_jsonschema(test):
    """The python that has jsonschema: Debian's package belongs to /usr/bin/python3."""
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    there = subprocess.run([python, "-c", "import jsonschema"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    needs(test, there, "python3-jsonschema")
    return python


def write_trace(path, **entries):
    """A misa-trace/1 of tensors given as (dtype, shape, values): numbers of F32 and I32, bytes of all others."""
    header, data = {"__metadata__": {"format": "misa-trace/1", "provenance": "synthetic"}}, b""
    for name, (dtype, shape, values) in entries.items():
        code = {"F32": "f", "I32": "i"}.get(dtype)
        part = struct.pack(f"<{len(values)}{code}", *values) if code else bytes(values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def without_noise(text):
    """Standard error without what depends on what else the machine does: some warnings, and how long a run takes."""
    return re.sub(r"^misa-prof: (warning: MP-W0(01|02|03|51|60|61|62|79|80): |this takes about ).*\n", "", text, flags=re.M)


def source_files(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.[ch]pp")):
            yield path, path.read_text()


def has_cuda():
    """Whether the cuda backend can run here."""
    shown = misa("list").stdout
    return "absent" not in shown[shown.index("\nbackends"):].split("cuda", 1)[1].split("\n", 1)[0]


class Cli(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="misa cli "))
        self.addCleanup(shutil.rmtree, self.folder)

    def succeeds(self, *arguments, **options):
        result = misa(*arguments, **options)
        self.assertEqual(result.returncode, 0, f"{arguments}: {result.stderr}")
        self.assertEqual(without_noise(result.stderr), "")
        return result.stdout

    def fails(self, status, message, *arguments, **options):
        result = misa(*arguments, **options)
        self.assertEqual(result.returncode, status, f"{arguments}: {result.stderr}")
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, r"\Amisa-prof: error: MP-E\d{3}: .+\n\Z")
        self.assertRegex(result.stderr, message)
        self.assertNotIn("\x1b", result.stderr)

    def only_files(self, *names):
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), sorted(names))


def main():
    words = sys.argv[1:]
    rest = words[words.index("--") + 1:] if "--" in words else []
    words = words[:words.index("--")] if "--" in words else words
    PROGRAM[:] = [*words[1:], os.path.abspath(words[0])]
    unittest.main(module="__main__", argv=[sys.argv[0], *rest])
