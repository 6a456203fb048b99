"""The program as a library: the same results as the program, in a process that is somebody else's."""
import pathlib
import shutil
import subprocess
import sys

from program import PROGRAM, ROOT, Cli, main, misa

LOADER = """
import ctypes, sys
words = ["misa-prof", *sys.argv[2:]]
argv = (ctypes.c_char_p * (len(words) + 1))(*[word.encode() for word in words], None)
sys.exit(ctypes.CDLL(sys.argv[1]).misa_main(len(words), argv, None, None))
"""


def library():
    return pathlib.Path(PROGRAM[-1]).parent / "libmisa_prof.so"


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

    def test_it_exports_one_function(self):
        nm = shutil.which("nm")
        if nm is None:
            self.skipTest("there is no nm")
        shown = subprocess.run([nm, "-D", "--defined-only", library()], text=True, check=True, capture_output=True).stdout
        self.assertEqual([line.split()[-1] for line in shown.splitlines()], ["misa_main"])


if __name__ == "__main__":
    main()
