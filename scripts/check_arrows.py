#!/usr/bin/env python3
"""Checks who includes whom (docs/architecture.md, "Arrows") and which headers live where.

usage: check_arrows.py [ROOT]      prints file:line: why, for each violation; exit status 1 if there is one
       check_arrows.py --self-test proves that every rule fires on a bad example
"""

import posixpath
import re
import sys
import tempfile
from pathlib import Path

# Folder -> folders it may include, itself among them. The longest prefix counts; tests/ is free.
ARROWS = {
    "core/base": ["core/base"],
    "core/platform": ["core/platform", "core/base"],
    "core/tensor": ["core/tensor", "core/base"],
    "core/indexer": ["core/indexer", "core/tensor", "core/base"],
    "core/workload": ["core/workload", "core/indexer", "core/tensor", "core/platform", "core/base"],
    "core/measure": ["core/measure", "core/ranges", "core/indexer", "core/tensor", "core/platform", "core/base"],
    "core/ranges": ["core/ranges", "core/indexer/stage.hpp", "core/base"],
    "core/selection": ["core/selection", "core/workload", "core/indexer", "core/tensor", "core/base"],
    "core/agreement": ["core/agreement", "core/selection", "core/workload", "core/indexer", "core/tensor", "core/base"],
    "core/quality": ["core/quality", "core/measure/statistics.hpp", "core/workload", "core/indexer", "core/tensor",
                     "core/base"],
    "core/chart": ["core/chart", "core/report/text.hpp", "core/base"],
    "core/report": ["core/report", "core/chart", "core/agreement", "core/selection", "core/quality", "core/measure",
                    "core/indexer", "core/tensor", "core/platform", "core/base"],
    "core/experiment": ["core"],
    "backends": ["backends", "core/indexer", "core/tensor", "core/platform", "core/base"],  # the list itself
    "backends/exported": ["backends/exported", "backends/cpu/cpu.hpp", "backends/cuda/cuda.hpp",
                          "backends/plugin/misa_kernel.h", "core/indexer", "core/tensor", "core/platform", "core/base"],
    "cli": ["cli", "core", "backends/backends.hpp", "backends/plugin/given.hpp"],
}
BACKEND = ["core/indexer", "core/tensor", "core/platform", "core/base"]  # and its own folder

# Headers (as a regular expression on the whole name) and the only folders that may include them.
HEADERS = [
    (r"sys/.*|linux/.*|(unistd|fcntl|signal|pthread|sched|dirent|dlfcn|poll|spawn|termios|ucontext)\.h|csignal",
     ["core/platform"], "POSIX and Linux headers"),
    (r"\w*intrin\.h|cpuid\.h|arm_\w+\.h", ["backends/cpu"], "intrinsics"),
    (r"(oneapi/dnnl/)?dnnl\w*\.(h|hpp)", ["backends/cpu"], "oneDNN"),
    (r"cuda\w*\.h(pp)?|cuda/.*|cub/.*|cublas\w*\.h|nvml\.h", ["backends/cuda"], "CUDA"),
    (r"nvtx3/.*", ["core/ranges"], "NVTX"),
    (r"CLI/.*", ["cli"], "CLI11"),
    (r"iostream", ["cli"], "<iostream>"),
]

# core and the backends print nothing.
PRINTING = re.compile(
    r"\bstd\s*::\s*(cout|cerr|clog)\b|\bfmt\s*::\s*print(ln)?\b|\b(printf|fprintf|vprintf|puts|fputs|putchar|perror)\s*\(")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = {".cpp", ".hpp", ".h", ".cc", ".cu", ".cuh"}
FOLDERS = ["core", "backends", "cli"]
# Comments and literals; group 1 is what must stay. A lone ' between digits is a separator, not a literal.
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'', re.S)


def within(path, folder):
    return path == folder or path.startswith(folder + "/")


def allowed_for(path):
    """What `path` may include, or None when its folder is not in the table."""
    parts = path.split("/")
    if parts[0] == "backends" and len(parts) > 2 and "/".join(parts[:2]) not in ARROWS:
        return ["/".join(parts[:2]), *BACKEND]
    for folder in ("/".join(parts[:2]), parts[0]):
        if folder in ARROWS:
            return ARROWS[folder]
    return None


def resolve(root, path, name):
    """The project file that `#include name` in `path` means, or None for a header from elsewhere."""
    beside = posixpath.normpath(path.rsplit("/", 1)[0] + "/" + name)
    if (root / beside).is_file():
        return beside
    return posixpath.normpath(name) if name.split("/")[0] in (*FOLDERS, "tests") else None


def check_file(root, path, text):
    allowed = allowed_for(path)
    if allowed is None:
        return [(1, "this folder is not in the table of scripts/check_arrows.py; add what it may include")]
    found = []
    code = NOISE.sub(lambda match: "\n" * match.group(0).count("\n"), text)
    in_comment = {number for match in re.finditer(r"/\*.*?\*/", text, re.S)
                  for number in range(text.count("\n", 0, match.start()) + 2, text.count("\n", 0, match.end()) + 2)}
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if not match or number in in_comment:
            continue
        name = match.group(2)
        target = resolve(root, path, name)
        if target is not None:
            if not any(within(target, folder) for folder in allowed):
                found.append((number, f"must not include {target}; it may include {', '.join(allowed)}"))
            continue
        for pattern, folders, what in HEADERS:
            if re.fullmatch(pattern, name) and not any(within(path, folder) for folder in folders):
                found.append((number, f"includes <{name}>: {what} only in {', '.join(folders)}"))
    if not within(path, "cli"):
        for number, line in enumerate(code.split("\n"), 1):
            if match := PRINTING.search(line):
                found.append((number, f"prints ({match.group(0).rstrip('( ')}); only cli writes to a terminal"))
    return sorted(found)


def check(root):
    """(path, line, why) of every violation below root, and how many files were read."""
    violations, files = [], 0
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in SOURCES:
                files += 1
                path = file.relative_to(root).as_posix()
                text = file.read_text(encoding="utf-8")
                violations += [(path, number, why) for number, why in check_file(root, path, text)]
    return violations, files


GOOD = [
    ("core/indexer/plan.cpp", '#include "core/tensor/view.hpp"\n#include <vector>\n'),
    ("core/report/json.cpp", '#include "core/indexer/stage.hpp"\n#include <nlohmann/json.hpp>\n'),
    ("core/platform/file.cpp", "#include <unistd.h>\n#include <sys/stat.h>\n"),
    ("core/measure/say.cpp", '// printf("no") and std::cout\n/*\n#include <unistd.h>\n*/\nauto s = "std::cerr";\n'
                             "int big = 1'000'000; int n = snprintf(b, 1, s);\n"),
    ("core/ranges/a.cpp", '#include <nvtx3/nvToolsExt.h>\n#include "core/indexer/stage.hpp"\n'),
    ("backends/backends.cpp", '#include "backends/cpu/cpu.hpp"\n#include "backends/oracle/oracle.hpp"\n'),
    ("backends/cpu/score.cpp", '#include <immintrin.h>\n#include "cpu.hpp"\n#include <dnnl.hpp>\n'),
    ("backends/cpu/cpu.hpp", '#include "core/indexer/backend.hpp"\n'),
    ("cli/main.cpp", '#include "core/report/report.hpp"\n#include "backends/backends.hpp"\n#include <CLI/CLI.hpp>\n'
                     'void f() { std::cout << "fine"; }\n'),
]
BAD = [  # path, text, the line that must be reported
    ("core/tensor/a.cpp", '\n#include "backends/backends.hpp"\n', 2),
    ("core/tensor/b.cpp", '#include "cli/options.hpp"\n', 1),
    ("core/tensor/c.cpp", '#include "tests/support/random.hpp"\n', 1),
    ("core/tensor/d.cpp", "#include <core/indexer/spec.hpp>\n", 1),
    ("core/tensor/e.cpp", '#include "../workload/workload.hpp"\n', 1),
    ("core/base/a.hpp", '#include "core/tensor/view.hpp"\n', 1),
    ("core/platform/a.cpp", '#include "core/tensor/buffer.hpp"\n', 1),
    ("core/indexer/a.cpp", '#include "core/platform/file.hpp"\n', 1),
    ("core/indexer/b.cpp", '#include "core/workload/workload.hpp"\n', 1),
    ("core/workload/a.cpp", '#include "core/agreement/agreement.hpp"\n', 1),
    ("core/measure/a.cpp", '#include "core/report/report.hpp"\n', 1),
    ("core/agreement/a.cpp", '#include "core/report/report.hpp"\n', 1),
    ("core/quality/a.cpp", '#include "core/agreement/agreement.hpp"\n', 1),
    ("core/experiment/a.cpp", '#include "cli/options.hpp"\n', 1),
    ("core/report/a.cpp", '#include "core/experiment/profile.hpp"\n', 1),
    ("core/unknown/a.cpp", "int x;\n", 1),
    ("backends/cpu/a.cpp", '#include "backends/oracle/oracle.hpp"\n', 1),
    ("backends/cpu/b.cpp", '#include "core/workload/workload.hpp"\n', 1),
    ("backends/oracle/a.cpp", '#include "../cpu/cpu.hpp"\n', 1),
    ("backends/oracle/b.cpp", '#include "backends/backends.hpp"\n', 1),
    ("cli/a.cpp", '#include "backends/cpu/cpu.hpp"\n', 1),
    ("cli/b.cpp", "#include <unistd.h>\n", 1),
    ("core/measure/b.cpp", "#include <sys/resource.h>\n", 1),
    ("core/measure/c.cpp", "  #  include <signal.h>\n", 1),
    ("core/tensor/f.cpp", "#include <immintrin.h>\n", 1),
    ("backends/oracle/c.cpp", "#include <arm_neon.h>\n", 1),
    ("backends/oracle/d.cpp", "#include <oneapi/dnnl/dnnl.hpp>\n", 1),
    ("core/measure/d.cpp", "#include <cuda_runtime.h>\n", 1),
    ("backends/cuda/a.cpp", "#include <nvtx3/nvToolsExt.h>\n", 1),
    ("core/ranges/b.cpp", '#include "core/indexer/plan.hpp"\n', 1),
    ("core/workload/b.cpp", "#include <CLI/CLI.hpp>\n", 1),
    ("core/report/b.cpp", "#include <iostream>\n", 1),
    ("core/report/c.cpp", "/* a\n comment */\nvoid f() { std::cout << 1; }\n", 3),
    ("core/report/d.cpp", "void f() { fmt::print(file, text); }\n", 1),
    ("backends/cpu/c.cpp", "void f() {\n  std::fprintf(stderr, text);\n}\n", 2),
]


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, text, *_ in GOOD + BAD + [("core/workload/workload.hpp", "")]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        found = {(path, number) for path, number, _ in check(root)[0]}
    expected = {(path, line) for path, _, line in BAD}
    for path, line in sorted(expected - found):
        print(f"self-test: {path}:{line}: the violation was missed")
    for path, line in sorted(found - expected):
        print(f"self-test: {path}:{line}: reported, but it is fine")
    if found != expected:
        return 1
    print(f"self-test: {len(BAD)} bad examples are reported and {len(GOOD)} good ones are not")
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) > 2 or any(argument.startswith("-") for argument in sys.argv[1:]):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    root = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).resolve().parent.parent
    violations, files = check(root)
    for path, number, why in violations:
        print(f"{path}:{number}: {why}")
    if files == 0:
        print(f"no sources below {root}", file=sys.stderr)
        return 1
    if not violations:
        print(f"include arrows hold in {files} files")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
