#!/usr/bin/env python3
"""misa-prof doctor: what it says of a machine, in text and JSON, and the fingerprint that results have, too."""
import json
import os
import pathlib
import shlex
import subprocess
import unittest

import program
from program import FAST, ROOT, Cli, main, misa, needs_jsonschema, strict_json


def control_group(test):
    """A new control group below that of this process, with a limit on CPU time; skips `test` where none may be made."""
    lines = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = pathlib.Path("/sys/fs/cgroup", "cpu" if controllers else "", path.lstrip("/"), f"misa-prof-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "cpu.max").exists() or (group / "cpu.cfs_quota_us").exists():
            return group
        group.rmdir()
    return test.skipTest("no control group with a limit on CPU time can be made here: only root can")


class Doctor(Cli):
    def doctor(self, **env):
        done = misa("doctor", "--format", "json", env=env)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return strict_json(done.stdout)

    def checks(self, **env):
        return {check["name"]: check for check in self.doctor(**env)["checks"] if check["group"] != "variables"}

    def test_the_table_has_every_check_and_counts_what_is_wrong(self):
        done = misa("doctor")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("compiler", "governor", "quota", "AMX", "load average", "OMP_NUM_THREADS", "backend cuda", "profiles"):
            self.assertRegex(done.stdout, rf"(?m)^  (ok|warning|problem|not known) +{word} ")
        self.assertRegex(done.stdout, r"(?m)^\d+ problems?, \d+ warnings?$")
        self.assertNotIn("\x1b", done.stdout)

    def test_json_keeps_to_its_schema_and_what_is_wrong_says_what_mends_it(self):
        document = self.doctor()
        checked = subprocess.run([needs_jsonschema(self), ROOT / "scripts/check_json.py", "-"], input=json.dumps(document),
                                 text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        for check in document["checks"]:
            with self.subTest(check["name"]):
                if check["state"] in ("warning", "problem"):
                    self.assertTrue(check["why"] and check["fix"])
                self.assertEqual(check["state"] == "not known", check["found"] == "not known")

    def test_the_fingerprint_is_that_of_results_and_the_same_twice(self):
        prints = {one["backend"]: one["fingerprint"] for one in self.doctor()["fingerprints"]}
        self.assertEqual(set(prints), {check["name"].removeprefix("backend ") for check in self.checks().values()
                                       if check["name"].startswith("backend ") and check["found"] != "absent"})
        result = strict_json(misa("profile", *FAST, "--indexer", "dsa", "--format", "json").stdout)
        self.assertEqual(result["environment"]["fingerprint"], prints["cpu"])

    def test_variables_and_their_harm_are_shown(self):
        document = self.doctor(OMP_NUM_THREADS="99999", OMP_WAIT_POLICY="passive")
        said = {(check["group"], check["name"]): check for check in document["checks"]}
        self.assertEqual(said["variables", "OMP_NUM_THREADS"]["found"], '"99999"')
        self.assertEqual(said["threads", "OMP_NUM_THREADS"]["state"], "problem")
        self.assertEqual(said["threads", "OMP_WAIT_POLICY"]["state"], "warning")

    def test_a_quota_of_half_a_core_gives_one_thread(self):
        group = control_group(self)
        self.addCleanup(group.rmdir)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("50000 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        words = " ".join(shlex.quote(str(word)) for word in [*program.PROGRAM, "doctor", "--format", "json"])
        done = subprocess.run(["sh", "-c", f"echo $$ >{group}/cgroup.procs && exec {words}"], capture_output=True, text=True,
                              check=False, env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        checks = {check["name"]: check for check in strict_json(done.stdout)["checks"] if check["group"] != "variables"}
        self.assertEqual(checks["threads"]["found"], "1")
        self.assertEqual(checks["quota"]["found"], "0.50 cores of CPU time")

    def test_nvidia_smi_and_python_are_asked(self):
        folder = pathlib.Path(self.folder)
        tool = folder / "nvidia-smi"
        tool.write_text('#!/bin/sh\necho "0, A <device>, 580.1, Disabled, [N/A], 345, 1980"\n')
        tool.chmod(0o755)
        checks = self.checks(PATH=f"{folder}:{os.environ['PATH']}", MISA_PYTHON="no-such-python")
        self.assertEqual(checks["device 0"]["found"], "A <device>")
        self.assertEqual(checks["driver"]["found"], "580.1")
        self.assertIn("nvidia-smi -i 0 -pm 1", checks["persistence 0"]["fix"])
        self.assertEqual(checks["MIG 0"]["state"], "ok")
        self.assertEqual(checks["clocks locked 0"]["state"], "not known")
        self.assertEqual(checks["python"]["state"], "warning")

    def test_wrong_profiles_are_shown_and_end_with_the_status_of_other_commands(self):
        done = misa("doctor", "--format", "json", env={"MISA_PROF_PROFILES": str(self.folder)})
        self.assertEqual(done.returncode, 2)
        self.assertIn("MP-E034", done.stderr)
        states = {check["name"]: check["state"] for check in strict_json(done.stdout)["checks"]}
        self.assertEqual(states["profiles"], "problem")

    def test_wrong_formats_and_words_are_refused(self):
        self.fails(2, "MP-E021", "doctor", "--format", "csv")
        self.fails(2, "MP-E020", "doctor", "me")


if __name__ == "__main__":
    main()
