#!/usr/bin/env python3
"""Runs tests/gpu/plugins.sh with stand-ins for nvcc and misa-prof: what it says and returns when something is wrong."""
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).with_name("plugins.sh")
MISA_PROF = r"""#!/usr/bin/env python3
import json, os, sys
words, wrong = sys.argv[1:], os.environ.get("MISA_MISBEHAVE")
files = [word[5:] for word in words if word.startswith("json:")]
slow = float(os.environ.get("STAND_IN_SLOW", "1"))
def case(backend, scale, **more):
    times = {"median": 1e6 * scale}
    return {"indexer": "dsa", "backend": backend, "end_to_end_ns": times, "stages": [{"name": "score", "time_ns": times}],
            "quality": {"recall": {"mean": float(os.environ.get("STAND_IN_RECALL", "1"))}}, **more}
beside = case("plugin:x", slow, base="cuda", speedup_over_base=1 / slow, base_speedup={"median": 1 / slow})
others = [dict(beside, indexer=name) for name in ("misa-lr-dagger",)] + [dict(case("cuda", 1), indexer="misa-lr-dagger")]
choices = [{"verdicts": {"exact": 3, "miss": int(os.environ.get("STAND_IN_MISSES", "0"))}}]
for file in files:
    json.dump({"cases": [case("cuda", 1), beside, *others] if words[0] == "profile" else [{"choices": choices}]}, open(file, "w"))
says = {"duplicates": "violation: duplicate", "outside": "64 bytes were overwritten", "crash": "crashed with SIGSEGV",
        "hang": "ran longer than 10 s", "fault": "an illegal memory access was encountered", "stale": "2048 miss"}
print(says[wrong] if wrong else "passed: 2 of 2 cases")
sys.exit(1 if wrong else 0)
"""


class Plugins(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for path, text in (("tools/nvcc", "#!/bin/sh\n"), ("build/cli/misa-prof", MISA_PROF), ("build/libmisa_kernels.so", "")):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
            (self.folder / path).chmod(0o755)

    def run_with(self, status, **more):
        environment = dict(os.environ, PATH=f"{self.folder / 'tools'}:{os.environ['PATH']}", **more)
        done = subprocess.run([SCRIPT, self.folder / "build"], env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        passed, failed = map(int, re.fullmatch(r"(\d+) passed, (\d+) failed", done.stdout.splitlines()[-1]).groups())
        self.assertEqual(failed > 0, status != 0)
        self.assertEqual(passed, len(re.findall("^ok ", done.stdout, re.M)))
        return re.findall(r"^FAILED +[0-9.]+ s  (\S+):", done.stdout, re.M), done.stdout

    def test_all_is_well(self):
        failed, shown = self.run_with(0)
        self.assertEqual(failed, [])
        self.assertIn("dsa: score 1.000 ms (ours 1.000), end to end 1.000 ms, 1.00 times ours, recall 1.0000", shown)

    def test_ours_may_not_be_slower_through_the_interface(self):
        failed, shown = self.run_with(1, STAND_IN_SLOW="1.03")
        self.assertEqual(failed, ["ours-same-time"])
        self.assertIn("1.0300 times ours", shown)

    def test_ours_may_not_select_other_ids_through_the_interface(self):
        self.assertEqual(self.run_with(1, STAND_IN_MISSES="1")[0], ["ours-same-ids"])

    def test_what_selects_other_tokens_fails(self):
        self.assertTrue(all("profile" in name for name in self.run_with(1, STAND_IN_RECALL="0.9")[0]))

    def test_the_ratio_to_a_peer_is_that_of_peers(self):
        rows = [{"stage": "score", "shape": [64, 1024, keys], "peers": {"deep_gemm": {"ratio": ratio}}}
                for keys, ratio in ((32768, 1.31), (131072, 1.2))]
        (self.folder / "peers.json").write_text(json.dumps({"rows": rows}))
        failed, shown = self.run_with(1, STAND_IN_SLOW="1.3", MISA_CHECKS="peer-.*", MISA_PLUGIN_PEER="peer.py",
                                      MISA_PEERS=str(self.folder / "peers.json"))
        self.assertEqual(failed, ["peer-profile-128k"])
        self.assertIn("ratio 1.300; peers.py: 1.310, -0.8 %", shown)


if __name__ == "__main__":
    unittest.main()
