#!/usr/bin/env python3
"""Builds profiles/kernels/score_cuda.cu by the command in its head, and asks the library for its table. No GPU is needed."""
import ctypes
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "profiles/kernels/score_cuda.cu"
sys.path.insert(0, str(ROOT / "profiles/recorder/misa"))  # the module alone: its package needs NumPy
import _abi  # noqa: E402

NVCC = shutil.which("nvcc", path=os.environ["PATH"] + ":/usr/local/cuda/bin")


class ScoreCuda(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_the_command_in_its_head_builds_a_plug_in(self):
        command = next(line[2:].split() for line in SOURCE.read_text().splitlines() if line.startswith("//   nvcc "))
        self.assertIn("-arch=sm_90a", command)
        output = self.folder / command.pop()
        done = subprocess.run([NVCC, *command[1:], str(output), "-Werror", "all-warnings"], cwd=SOURCE.parent,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}")

        kernels = ctypes.CDLL(str(output)).misa_kernels
        kernels.restype = ctypes.POINTER(_abi.misa_kernel_table)
        table = kernels(_abi.MISA_KERNEL_VERSION, _abi.MISA_CUDA, 0)
        self.assertTrue(table)
        self.assertEqual((table.contents.size, table.contents.name, table.contents.arithmetic),
                         (ctypes.sizeof(_abi.misa_kernel_table), b"score-cuda", b"f32"))
        for version, device in ((_abi.MISA_KERNEL_VERSION, _abi.MISA_CPU), (_abi.MISA_KERNEL_VERSION + 1, _abi.MISA_CUDA)):
            self.assertFalse(kernels(version, device, 0))
        self.assertTrue(self.accepts(table.contents, _abi.MISA_E4M3, _abi.MISA_E4M3, 128))
        self.assertTrue(self.accepts(table.contents, _abi.MISA_BF16, _abi.MISA_BF16, 32))
        self.assertFalse(self.accepts(table.contents, _abi.MISA_F32, _abi.MISA_F32, 128))
        self.assertFalse(self.accepts(table.contents, _abi.MISA_E4M3, _abi.MISA_F32, 128))
        self.assertFalse(self.accepts(table.contents, _abi.MISA_E4M3, _abi.MISA_E4M3, 256))

    @staticmethod
    def accepts(table, queries, keys, dim):
        task = _abi.misa_score_task(ctypes.sizeof(_abi.misa_score_task), _abi.misa_queries(4, 64, dim, queries),
                                    _abi.misa_keys(1, 9, dim, keys), columns=9)
        return table.accepts(None, _abi.MISA_SCORE, ctypes.addressof(task))


if __name__ == "__main__":
    if NVCC is None:
        print("skipped: there is no nvcc, neither on PATH nor in /usr/local/cuda/bin", file=sys.stderr)
        sys.exit(1 if os.environ.get("MISA_NO_SKIPS") else 77)
    unittest.main()
