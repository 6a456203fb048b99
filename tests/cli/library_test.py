"""The program as a library: the same results as the program, in a process that is somebody else's."""
import pathlib
import shutil
import subprocess
import sys

from program import PROGRAM, ROOT, Cli, main, misa, strict_json

LOADER = """
import ctypes, sys
words = ["misa-prof", *sys.argv[2:]]
argv = (ctypes.c_char_p * (len(words) + 1))(*[word.encode() for word in words], None)
sys.exit(ctypes.CDLL(sys.argv[1]).misa_main(len(words), argv, None, None))
"""


def library():
    return pathlib.Path(PROGRAM[-1]).parent / "libmisa_prof.so"


def kernels():
    return pathlib.Path(PROGRAM[-1]).parents[1] / "backends/libmisa_kernels.so"


def exported(file):
    return subprocess.run(["nm", "-D", "--defined-only", file], text=True, check=True, capture_output=True).stdout


def loaded(*arguments):
    return subprocess.run([sys.executable, "-c", LOADER, library(), *map(str, arguments)], text=True, check=False,
                          capture_output=True)


class Library(Cli):
    def test_it_says_and_returns_what_the_program_does(self):
        for words in (["inspect", "learned-32k-h64"], ["list", "--names", "models"], ["--version"],
                      ["profile", "--indexer", "nonsense"], ["inspect", self.folder / "missing"]):
            with self.subTest(words=words):
                ours, theirs = loaded(*words), misa(*words)
                self.assertEqual((ours.returncode, ours.stdout, ours.stderr),
                                 (theirs.returncode, theirs.stdout, theirs.stderr))

    def test_each_library_exports_one_function(self):
        if shutil.which("nm") is None:
            self.skipTest("there is no nm")
        for file, function in ((library(), "misa_main"), (kernels(), "misa_kernels")):
            self.assertEqual([line.split()[-1] for line in exported(file).splitlines()], [function])


class Kernels(Cli):
    def test_our_kernels_as_a_plugin_give_the_same_bits_as_the_backend(self):
        """As whole indexers, which show their tokens alone, and step by step."""
        for words in (["--rows", "8"], ["--rows", "8", "--no-fusion"],
                      ["--model", "deepseek-v3.2", "--workload", "decode-8k"]):
            with self.subTest(words=words):
                text = self.succeeds("compare", "--backend", f"plugin:{kernels()}", "--against", "cpu", "--indexer", "all",
                                     "--format", "json", *words)
                cases = strict_json(text)["cases"]
                self.assertEqual([case["verdict"] for case in cases], ["passed"] * 6)
                for case in cases:
                    seen = {choice["name"]: choice for choice in case["choices"] if choice["rows"]}
                    self.assertIn("tokens", seen)
                    self.assertEqual("scores" in seen, "--no-fusion" in words)
                    for choice in seen.values():
                        self.assertEqual(choice["verdicts"]["exact"], choice["rows"], f"{case['indexer']} {choice}")


if __name__ == "__main__":
    main()
