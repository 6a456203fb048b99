#!/usr/bin/env python3
"""Runs tests/gpu/run.sh with stand-ins for the GPU, its tools and our programs: what it does when something fails or is missing."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import unittest.mock

RUN = pathlib.Path(__file__).with_name("run.sh")
NVIDIA_SMI = 'printf "name, driver_version\\nNVIDIA H200, 580\\n"'
PROGRAMS = {
    "misa-prof": 'for word; do case $word in json:*/profile-*.json) echo \'{"cases": []}\' >"${word#json:}";; esac; done',
    "test_conformance": "", "test_agreement": 'echo "$MISA_RANDOM_BACKEND $MISA_RANDOM_CASES"',
    "misa-stages-bench": 'for word; do case $word in --benchmark_out=*) echo \'{"benchmarks": [{"name": "pool/keys:1/manual_time",'
                         ' "real_time": 2.5, "tbytes": 3.0}]}\' >"${word#*=}";; esac; done',
}


class Run(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in PROGRAMS.items():
            self.program("bin", name, text)
        self.program("tools", "nvidia-smi", NVIDIA_SMI)
        self.program("tools", "compute-sanitizer", 'while [ "${1#-}" != "$1" ]; do shift $(( $# > 1 ? 2 : 1 )); done; "$@"')
        self.program("tools", "python", '[ "$1" = -c ] && exit 1; exec python3 "$@"')

    def program(self, folder, name, text):
        path = self.folder / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/bash\n" + text + "\n")
        path.chmod(0o755)

    def run_with(self, status, **more):
        tools = self.folder / "tools"
        environment = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}", OUT=str(self.folder / "out"),
                           MISA_BIN=str(self.folder / "bin"), MISA_PYTHON=str(tools / "python"), MISA_RANDOM_CASES="7", **more)
        done = subprocess.run([RUN], env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads((self.folder / "out/summary.json").read_text()), done.stdout

    def test_everything_ends_in_one_summary(self):
        summary, shown = self.run_with(0)
        self.assertTrue(summary["passed"])
        self.assertEqual(summary["device"]["after"], {"name": "NVIDIA H200", "driver_version": "580"})
        self.assertEqual(summary["stages"], {"pool/keys:1": {"us": 2.5, "tbytes": 3.0}})
        names = [one["name"] for one in summary["steps"]]
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            self.assertIn(f"{tool}-drawn", names)
            self.assertIn(f"{tool}-means", names)
            self.assertIn(f"{tool}-prefill", names)
        self.assertNotIn("peers", names)
        self.assertIn("cannot import torch", shown)
        self.assertIn("not timed", summary["peers"])
        self.assertEqual((self.folder / "out/steps/drawn.txt").read_text(), "cuda 7\n")

    def test_only_the_steps_that_are_asked_for_run_and_without_conformance_nothing_passes(self):
        summary, _ = self.run_with(0, MISA_STEPS="conformance|.*-means")
        self.assertEqual([one["name"] for one in summary["steps"]],
                         ["conformance", "memcheck-means", "racecheck-means", "initcheck-means", "synccheck-means"])
        self.assertEqual(self.run_with(1, MISA_STEPS="drawn")[0]["failed"], ["nothing was tested"])

    def test_a_failed_step_fails_the_run_and_the_others_still_run(self):
        self.program("bin", "misa-stages-bench", "exit 3")
        summary, _ = self.run_with(1)
        self.assertEqual(summary["failed"], ["stages"])
        self.assertEqual({one["name"]: one["status"] for one in summary["steps"]}["stages"], 3)
        self.assertIn("profile-128k", [one["name"] for one in summary["steps"]])

    def test_a_missing_tool_is_a_failure(self):
        (self.folder / "tools/compute-sanitizer").unlink()
        if subprocess.run(["which", "compute-sanitizer"], capture_output=True, check=False).returncode == 0:
            self.skipTest("compute-sanitizer is installed")
        summary, shown = self.run_with(1)
        self.assertIn("compute-sanitizer is not there", shown)
        self.assertEqual([name for name in summary["failed"] if "check" not in name], ["tools"])

    def test_without_a_gpu_or_programs_nothing_is_tested_and_that_is_said(self):
        self.program("tools", "nvidia-smi", "exit 9")
        self.assertIn("device", self.run_with(1)[0]["failed"])
        (self.folder / "bin/misa-prof").unlink()
        summary, shown = self.run_with(1)
        self.assertIn("nothing was tested", summary["failed"])
        self.assertIn("misa-prof is not there", shown)

    def test_results_that_are_not_written_are_a_failure(self):
        self.program("bin", "misa-stages-bench", "")
        self.assertEqual(self.run_with(1)[0]["failed"], ["stages: no results"])

    def test_the_summary_is_written_without_git_too(self):
        tools = ("bash", "dirname", "mkdir", "realpath", "rm", "tee", "sed", "cat", "env", "python3")
        for name in tools:
            (self.folder / "tools" / name).symlink_to(shutil.which(name))
        with unittest.mock.patch.dict(os.environ, PATH=""):
            summary, _ = self.run_with(0)
        self.assertIsNone(summary["commit"])


if __name__ == "__main__":
    unittest.main()
