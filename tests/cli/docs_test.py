#!/usr/bin/env python3
"""Every command line of README.md, CONTRIBUTING.md, the pages of docs and profiles, and the program's own help is run.

A command is a line of an indented or fenced block, or of a YAML `run:`, that begins with one of our programs. COMMANDS
says how each is run here, by its text; a command that it does not have fails the test, and so does an entry that no
document has. Commands of one document run in order, in one folder.
"""
import html
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import unittest

import program
from program import FAST, ROOT, Cli, main, misa

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md",
             *(page for folder in ("docs", "profiles") for page in sorted((ROOT / folder).rglob("*.md")))]
OURS = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:misa-prof \w|misa-bench|[a-z0-9_]+\.(?:sh|py)\b|\.ci/run|ctest )")

QUICK = ["--rows", "4", "--samples", "1", "--warm-up", "0"]
DRY = ["--dry-run"]  # its backend needs a device that the machine may not have, or it takes long
SHORT = ["--model", "tiny", "--workload", "ci", "--rows", "4", "--budget", "0"]  # a sweep
ONCE = ["--samples", "1", "--warm-up", "0"]


class NotRun:
    """A command that is not run here: it must name files that exist and can be run."""

    def __init__(self, why):
        self.why = why


BY_CI = NotRun("a step of .ci/run or another test runs it")
BUILDS = NotRun("builds or changes the source tree")
NEEDS_WHEELS = NotRun("needs wheels; scripts/test_recorder.sh runs it")
MEASURED = NotRun("takes minutes; scripts/pictures.py --measure runs it")
BY_EXEC = NotRun("needs NumPy; tests/cli/exec_test.py runs the like")
NEEDS_GPU = NotRun("needs a GPU; a test beside the script runs it with stand-ins")

# Text of a command -> words to add, or (words to add, exit status), or why it is not run.
COMMANDS = {
    # README.md
    "./scripts/demo.sh": BY_CI,
    "./scripts/test.sh": BY_CI,
    "misa-prof profile": QUICK,
    "misa-prof profile --trace my-layer.safetensors --indexer dsa,misa --active-heads 4": ONCE,
    "misa-prof profile --model glm-5 --workload decode-8k -o - -o json:result.json": ONCE,
    "misa-prof profile --model deepseek-v3.2 --workload prefill-32k --preset diffuse --seed 7": QUICK,
    "misa-prof profile --backend cuda --model deepseek-v3.2 --workload prefill-128k --rows 1024": DRY,
    "misa-prof nsight --model deepseek-v3.2 --workload prefill-32k --indexer misa --stage score": [],
    "misa-prof compare": ["--rows", "2"],
    "misa-prof compare --against profiles/goldens --rows 16": [],
    "misa-prof compare --trace my-layer.safetensors --selection ids.npy --arithmetic fp8-mma": [],
    "misa-prof compare --against profiles/goldens --rows 16 --indexer misa --inject wrong-head": ([], 1),
    "misa-prof explain --indexer misa": ["--rows", "8"],
    "misa-prof selftest": [],
    "misa-prof generate --model glm-5 --workload prefill-8k --seed 7 -o glm.safetensors": [],
    "misa-prof inspect glm.safetensors": [],
    "misa-prof list": [],
    "misa-prof doctor": [],
    # docs/install.md
    "./scripts/build.sh release": BUILDS,
    # docs/drop-in.md
    "MISA_PROF=build/release/cli/misa-prof python3 tests/gpu/drop_in.py": NEEDS_GPU,
    # CONTRIBUTING.md
    "scripts/test.sh": BY_CI,
    ".ci/run": BY_CI,
    "scripts/aarch64.sh": BUILDS,
    "scripts/mutate.py": BUILDS,
    "scripts/fresh_debian.sh": BUILDS,
    "scripts/terminal_svg.py build/release/cli misa-prof profile --indexer dsa,misa,misa-lr > docs/profile.svg": BUILDS,
    "scripts/site.sh": BY_CI,
    "tests/gpu/run.sh": NEEDS_GPU,
    "tests/gpu/installed.sh build/packages/*.whl build/packages/*.deb": NEEDS_GPU,
    "tests/gpu/plugins.sh build/gpu": NEEDS_GPU,
    "scripts/mutate.py --work build/mutate --resume build/mutate.jsonl": BUILDS,
    "scripts/mutate.py --work build/mutate --only 'core/agreement'": BUILDS,
    # docs/agreement.md
    "misa-prof compare --backend cpu --against goldens": [],
    "misa-prof compare --backend cuda --write-golden goldens": [*DRY, "--force"],
    "misa-prof compare --against profiles/goldens/h200/decode-scattered": [],
    "misa-prof compare --indexer misa --against-indexer dsa --min-recall 0.7": ["--rows", "16"],
    "misa-prof compare --trace layer3.safetensors --selection ids.npy": [],
    "misa-prof compare --trace layer3.safetensors --selection ids.npy --arithmetic fp8-mma": [],
    # docs/ci.md
    "./scripts/install.sh && ./scripts/build.sh release": BUILDS,
    "misa-prof compare --against goldens --annotate -o - -o junit:agreement.xml -o json:agreement.json --bundle failure":
        NotRun("tests/cli/action_test.py runs the like"),
    "build/release/cli/misa-prof compare --against profiles/goldens --rows 16 --annotate -o - -o junit:agreement.xml "
    "-o json:agreement.json --bundle failure": [],
    "misa-prof compare --trace your-trace.safetensors --selection ids.npy --arithmetic fp8-mma -o - -o junit:ids.xml": [],
    "misa-prof compare --backend cuda --trace your-trace.safetensors --write-golden goldens": [*DRY, "--force"],
    # docs/releasing.md, docs/install.md
    "misa-prof-0.1.0-linux-x86_64/bin/misa-prof profile": NotRun("scripts/test_package.sh runs it"),
    "scripts/package.sh": BUILDS,
    "scripts/test_package.sh": BUILDS,
    "scripts/wheel.sh": BY_CI,
    "scripts/test_wheel.sh --twice": BY_CI,
    "scripts/release.sh 0.1.0 --ssh ~/.ssh/id_ed25519 --packages build/packages":
        NotRun("tests/cli/release_test.py runs it in a repository of its own"),
    # docs/cli.md
    "misa-prof COMMAND [OPTIONS]": NotRun("says how commands look"),
    "misa-prof profile --model deepseek-v3.2 --workload prefill-32k --indexer dsa,misa --active-heads 4": QUICK,
    "misa-prof profile --trace layer3.safetensors -o - -o json:result.json -o md:result.md": ONCE,
    "misa-prof compare --help": [],
    "misa-prof explain --indexer misa --row 30": [],
    "misa-prof report result.json": [],
    "misa-prof report before.json after.json -o difference.html": [],
    "misa-prof report result.json --figure cost -o cost.svg": [],
    "misa-prof shrink BUNDLE -o small.safetensors": [],
    "misa-prof inspect FILE": [],
    "misa-prof nsight --indexer misa --stage score": [],
    # docs/tutorial.md
    "misa-prof inspect learned-32k-h64": [],
    "misa-prof profile --indexer all -o - -o json:profile.json": ["--rows", "1", *ONCE],
    "misa-prof profile --indexer dsa,misa,misa-dagger --active-heads 16": QUICK,
    "misa-prof sweep --indexer dsa,misa,misa-dagger,hisa,misa-lr -o - -o json:sweep.json":
        [*SHORT, "--context", "512,1k"],
    "misa-prof report profile.json -o profile.html": [],
    "misa-prof report sweep.json --figure speed -o speed.svg": [],
    # docs/kernel-engineers.md
    "misa-prof compare --backend plugin:./libmine.so --indexer dsa,misa --rows 4": [],
    "misa-prof profile --backend plugin:./libmine.so --indexer dsa,misa --rows 2": ONCE,
    "misa-prof nsight --backend plugin:./libmine.so --indexer dsa": [],
    # docs/reproduce.md
    "scripts/pictures.py build/release/cli/misa-prof --check": BY_CI,
    "scripts/pictures.py build/release/cli/misa-prof": BUILDS,
    "scripts/pictures.py build/release/cli/misa-prof --measure": BUILDS,
    "misa-prof sweep --context 4k:64k:*2 --rows 32 --indexer dsa,misa,misa-dagger,hisa,misa-lr": MEASURED,
    "misa-prof niah --context 4k:128k:*2 --seeds 1 --indexer misa,misa:router=qnorm,active-heads=1": MEASURED,
    "misa-prof profile --indexer misa,misa-dagger,misa-lr": QUICK,
    "misa-prof profile --indexer all --samples 1": ["--rows", "1"],
    "misa-prof profile --indexer dsa,misa,misa-dagger --block-size 128 --samples 1": ["--rows", "1"],
    "misa-prof profile --indexer dsa,misa-lr-dagger --candidates 6144 --samples 1": ["--rows", "1"],
    "misa-prof compare --indexer misa-lr --against-indexer dsa --candidates 6144 --block-size 128": ["--rows", "4"],
    "misa-prof profile --model deepseek-v3.2 --workload prefill-32k --preset diffuse --indexer dsa,misa --samples 1":
        ["--rows", "1", "--context", "4k"],
    "misa-prof profile --backend cuda --model deepseek-v3.2 --workload prefill-128k --rows 1024 --indexer all": DRY,
    "misa-prof profile --backend cuda --model deepseek-v3.2 --workload decode-8k": DRY,
    "misa-prof sweep --model glm-5 --context 4k:64k:*2 --indexer misa,misa-lr,hisa -o figure.jsonl":
        ["--rows", "2", "--budget", "0"],
    "misa-prof report figure.jsonl --figure speed -o figure.svg": [],
    # docs/models.md
    "scripts/models.py build/release/cli/misa-prof --backend cpu": BUILDS,
    "scripts/models.py build/release/cli/misa-prof --backend cuda": BUILDS,
    "misa-prof profile --layers my-layers --indexer dsa,misa --group 4": [*ONCE, "--rows", "4"],
    # docs/measurements
    "misa-prof profile --model deepseek-v3.2 --workload prefill-32k --context 32k --rows 64": DRY,
    "misa-prof profile --backend cuda --model deepseek-v3.2": DRY,
    # docs/niah.md, docs/cli.md
    "misa-prof niah": ["--context", "4k", "--seeds", "1"],
    "misa-prof niah --context 4k:32k:*2 --depths 5 --indexer dsa,misa:active-heads=4,misa:router=gate": ["--seeds", "1"],
    "misa-prof niah -o needles.svg -o needles.html": ["--context", "4k", "--seeds", "1"],
    "misa-prof niah --needle-mode silent --context 4k,32k --depths 5": ["--seeds", "1"],
    "misa-prof niah --backend cuda --needles 8 -o - -o json:needles.json": DRY,
    # docs/measurement.md
    "MISA_UPDATE_GOLDENS=1 ctest --test-dir build/dev -R '^core/report$'": BUILDS,
    "scripts/build.sh dev --target misa-bench && build/dev/tests/bench/misa-bench --benchmark_min_time=1": BUILDS,
    "build/dev/tests/bench/misa-bench --benchmark_filter=threads": BUILDS,
    "misa-prof profile --indexer dsa,misa --ab '--threads 1'": QUICK,
    "tests/bench/peers/cpu_peers.py build/release/cli/misa-prof": NEEDS_WHEELS,
    "OUT=results MISA_BIN=build/gpu/bin tests/gpu/run.sh": NEEDS_GPU,
    # docs/diff.md
    "misa-prof profile --indexer misa --ab '--active-heads 4'": [*QUICK],
    "misa-prof profile --indexer misa --aa": [*QUICK],
    "misa-prof profile --indexer misa --ab '--no-fusion' --max-slowdown 5%": ([*QUICK], 7),  # by a sample of each side
    "misa-prof profile --indexer misa --ab '--active-heads 4' --max-slowdown 5%": ([*QUICK], 7),
    "misa-prof diff before.json after.json --max-slowdown 5%": [],
    "misa-prof diff --a a1.json,a2.json,a3.json --b b1.json,b2.json,b3.json": [],
    "misa-prof diff --a a1.json,a2.json,a3.json --b b1.json,b2.json,b3.json --max-slowdown 5%": [],
    # docs/misa-lr.md
    "misa-prof profile --indexer dsa,misa,misa-lr,misa-lr-dagger --candidates 6144": QUICK,
    "misa-prof profile --indexer misa-lr --router linear-residual --active-heads 16 --sampled-keys 256": QUICK,
    # docs/nsight.md
    "misa-prof profile --indexer dsa,misa --trace-out timeline.json": QUICK,
    "misa-prof nsight --model deepseek-v3.2 --workload prefill-128k --rows 4096 --indexer misa --stage score": [],
    # docs/own-kernel.md
    "misa-prof compare --backend 'exec:python3 my.py {trace} {selection}' --rows 16 --arithmetic f32": BY_EXEC,
    "misa-prof compare --backend 'exec:python3 my.py {trace} {selection}' --model tiny --workload ci "
    "--arithmetic f32": BY_EXEC,
    "misa-prof compare --backend plugin:./libdsa_cpu.so --rows 16": ["--indexer", "dsa"],
    "misa-prof profile --backend plugin:./libdsa_cpu.so --rows 16": ["--indexer", "dsa", *ONCE],
    "misa-prof compare --backend plugin:deepgemm.py --time-limit 300": NEEDS_GPU,
    "misa-prof profile --backend plugin:deepgemm.py --model deepseek-v3.2 --workload prefill-32k --rows 1024 --warm":
        NEEDS_GPU,
    # docs/paper.md
    "tests/gpu/peers/paper.py --bin build/gpu/bin -o paper.json": NEEDS_GPU,
    "misa-prof profile --backend cuda --model deepseek-v3.2 --indexer dsa,misa": DRY,
    # docs/sweep.md
    "misa-prof sweep": [*SHORT, "--context", "512,1k"],
    "misa-prof sweep --context 4k:128k:*2 --indexer misa,hisa --active-heads 2,4,8 -o sweep.jsonl": SHORT,
    "misa-prof sweep --context 4k:128k:*2 --indexer misa,hisa --active-heads 2,4,8 -o sweep.jsonl --resume": SHORT,
    "misa-prof sweep --indexer all --dry-run": SHORT,
    "misa-prof merge part1.jsonl part2.jsonl -o - -o all.json": [],
    "misa-prof merge part1.jsonl --allow-missing": [],
    # docs/recording.md
    "build/release/cli/misa-prof inspect traces/layer1.prefill.safetensors": NEEDS_WHEELS,
    "build/release/cli/misa-prof profile --trace traces/layer1.prefill.safetensors --indexer dsa,hisa": NEEDS_WHEELS,
    "build/release/cli/misa-prof compare --trace traces/layer1.decode.safetensors --indexer dsa": NEEDS_WHEELS,
    "scripts/test_recorder.sh": BY_CI,
    # docs/report.md
    "misa-prof profile --indexer all -o - -o json:result.json": QUICK,
    "misa-prof report result.json -o report.html": [],
    "misa-prof profile --indexer misa --dump-selection misa.safetensors": QUICK,
    "misa-prof report misa.safetensors -o heads.html": [],
    "misa-prof report result.json --figure stages -o stages.svg": [],
    # the program's help
    "misa-prof report result.json -o page.html": [],
    "misa-prof profile --model glm-5 --workload decode-8k --indexer dsa,misa --active-heads 4": ONCE,
    "misa-prof profile --trace layer3.safetensors -o - -o json:result.json": ONCE,
    "misa-prof compare --write-golden goldens": ["--rows", "2", "--indexer", "dsa"],
    "misa-prof compare --against goldens --annotate -o - -o junit:agreement.xml": [],
    "misa-prof compare --trace layer3.safetensors --backend 'exec:python3 my.py {trace} {selection}'":
        BY_EXEC,
    "misa-prof explain": ["--rows", "8"],
    "misa-prof explain --indexer misa-dagger --row 17 --format json": [],
    "misa-prof selftest --seeds 100": NotRun("takes minutes; tests/cli/compare_test.py runs fewer seeds"),
    "misa-prof compare --model tiny --workload ci --inject swapped-token --bundle failure": ([], 1),
    "misa-prof shrink failure -o small.safetensors": [],
    "misa-prof generate --preset ties --rows 16 -o ties.safetensors": [],
    "misa-prof inspect layer3.safetensors": [],
    "misa-prof inspect learned-32k-h64 --format json": [],
    "misa-prof nsight --model glm-5 --workload prefill-32k --tool nsys | sh": NotRun("needs nsys"),
    "misa-prof list --format json": [],
    "misa-prof doctor --format json": [],
    "misa-prof list --names indexers": [],
    "misa-prof list --arithmetic": [],
}


def a_trace(folder, name):
    made = misa("generate", "--model", "tiny", "--workload", "ci", "-o", folder / "a.safetensors")
    assert made.returncode == 0, made.stderr
    (folder / "a.safetensors").rename(folder / name)


def layers(folder, name):
    (folder / name).mkdir()
    for seed in ("1", "2"):
        made = misa("generate", *SHORT[:4], "--seed", seed, "-o", folder / name / f"{seed}.safetensors")
        assert made.returncode == 0, made.stderr


def a_result(folder, name):
    made = misa("profile", "--model", "tiny", "--workload", "ci", *ONCE, "-o", f"json:{folder / name}")
    assert made.returncode == 0, made.stderr


def a_part(folder, name):
    made = misa("sweep", *SHORT, "--context", "512,1k", "--shard", f"{name[4]}/2", "-o", folder / name)
    assert made.returncode == 0, made.stderr


def goldens(folder, name):
    made = misa("compare", "--rows", "2", "--indexer", "dsa", "--write-golden", folder / name)
    assert made.returncode == 0, made.stderr


def a_bundle(folder, name):
    made = misa("compare", "--model", "tiny", "--workload", "ci", "--indexer", "dsa", "--inject", "swapped-token",
                "--bundle", folder / name)
    assert made.returncode == 1, made.stderr


def selected_ids(folder, name):
    """What dsa selects on the trace that a_trace makes, as numpy.save writes it."""
    a_trace(folder, "selected.safetensors")
    dumped = misa("profile", "--trace", folder / "selected.safetensors", *ONCE, "--indexer", "dsa", "--dump-selection",
                  folder / "dumped.safetensors")
    assert dumped.returncode == 0, dumped.stderr
    _, shape, data = program.tensors(folder / "dumped.safetensors")["out.topk"]
    head = f"{{'descr': '<i4', 'fortran_order': False, 'shape': {tuple(shape)}, }}\n".encode()
    (folder / name).write_bytes(b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head + data)


def a_library(folder, name):
    """That of the worked example, as its head says it is built."""
    source = ROOT / "profiles" / "kernels" / (pathlib.Path(name).stem.removeprefix("lib") + ".c")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c99", "-O3", "-shared", "-fPIC", f"-I{ROOT / 'backends/plugin'}",
                    source, "-o", folder / name.removeprefix("plugin:"), "-lm"], check=True)


def the_kernel(change=lambda source: source):
    """Builds libmine.so in a folder of the C file of docs/kernel-engineers.md, as the page says."""
    def build(folder, _=None):
        page = (ROOT / "docs" / "kernel-engineers.md").read_text()
        (folder / "mine.c").write_text(change(re.search(r"^```c\n(.*?)^```", page, re.M | re.S)[1]))
        words = shlex.split(re.search(r"^    cc (.*mine\.c.*)$", page, re.M)[1])
        words = [str(ROOT / word) if word == "backends/plugin" else word for word in words]
        subprocess.run([os.environ.get("CC", "cc"), "-Wall", "-Wextra", "-Werror", *words], cwd=folder, check=True)

    return build


def a_quiet_result(folder, name):
    """A result of a machine without noise: the command shows what it does, not how this machine is."""
    result = program.strict_json(misa("profile", *FAST, "--indexer", "dsa", "--format", "json").stdout)
    result["measurement"]["contention"]["loaded"] = False
    for one in name.split(","):
        # No two runs are alike to the nanosecond.
        result["cases"][0]["end_to_end_ns"]["raw"] = [1000000 + len(list(folder.iterdir()))] * 12
        (folder / one).write_text(program.json.dumps(result))


# What a command finds where the document names something of the reader's own.
THE_READERS = {
    "my-layer.safetensors": a_trace, "layer3.safetensors": a_trace, "your-trace.safetensors": a_trace,
    "FILE": a_trace, "my-layers": layers, "result.json": a_result, "ids.npy": selected_ids,
    "part1.jsonl": a_part, "part2.jsonl": a_part, "goldens": goldens, "BUNDLE": a_bundle, "failure": a_bundle,
    "plugin:./libdsa_cpu.so": a_library, "plugin:./libmine.so": the_kernel(),
    **dict.fromkeys(("before.json", "after.json", "a1.json,a2.json,a3.json", "b1.json,b2.json,b3.json"), a_quiet_result),
}


def without_comment(line):
    """`line` without the comment that a shell would see, blanks at its ends, and a prompt."""
    return re.sub(r"(?:^|\s)#.*$", "", line).strip().removeprefix("$ ")


def blocks(text):
    """(language, lines) of each indented or fenced block."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        fence = re.fullmatch(r"\s*```(\w*)", lines[at])
        if fence:
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
            yield fence.group(1), lines[at + 1:end]
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield "", [line[4:] for line in lines[at:end]]
            at = end
        else:
            at += 1


def commands(text):
    """The command lines of a document, in order, and the output that it shows after a line with a prompt."""
    for language, lines in blocks(text):
        if language == "yaml":
            joined = re.sub(r"run: >\n((?:\s{10,}.*\n?)+)", lambda found: "run: " + " ".join(found[1].split()) + "\n",
                            "\n".join(lines))
            lines = [line.split("run: ", 1)[1] for line in joined.splitlines() if "run: " in line]
        elif language not in ("", "bash", "sh"):
            continue
        for at, line in enumerate(lines):
            command = without_comment(line)
            if OURS.match(command):
                shown = [one for one in lines[at + 1:] if one.strip()] if line.startswith("$ ") else None
                yield command, shown
            elif line.startswith("$ "):
                yield command, None
    for span in re.findall(r"`(misa-prof [a-z]+ -[^`\n]*)`", text):
        if not re.search(r"\b[A-Z]+\b", span):  # a placeholder
            yield span, None


def examples(command):
    """The command lines in the help of one of the program's commands."""
    shown = misa(command, "--help").stdout
    return [without_comment(line) for line in shown.splitlines() if line.startswith("  misa-prof ")]


class Documents(Cli):
    def clear_folder(self):
        """Leaves the shipped profiles, as in the folder where a reader stands."""
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (self.folder / "profiles").symlink_to(ROOT / "profiles")

    def check_script(self, text):
        for word in re.findall(r"(?:\./)?(?:\.ci|scripts|tests)/\S+", text):
            if not word.startswith("build/") and f"build/dev/{word}" not in text:
                path = ROOT / word
                self.assertTrue(path.is_file() and os.access(path, os.X_OK), f"'{text}': {word} is no program")
                if path.suffix == ".py":
                    compile(path.read_text(), path, "exec")
                else:
                    subprocess.run(["bash", "-n", path], check=True)
        for target in re.findall(r"--target (\S+)", text):
            self.assertTrue(any(f"add_executable({target} " in path.read_text()
                                for path in (ROOT / "tests").rglob("CMakeLists.txt")), f"'{text}': no target {target}")

    def run_command(self, text, shown=None):
        if text not in COMMANDS:
            self.fail(f"the test does not know how to run this command, add it to COMMANDS: {text}")
        how = COMMANDS[text]
        if isinstance(how, NotRun):
            return self.check_script(text)
        extra, status = how if isinstance(how, tuple) else (how, 0)
        if "plugin:" in text and len(program.PROGRAM) > 1:
            return self.skipTest("an emulated program cannot load a library of this machine")
        words = shlex.split(text)
        self.assertEqual(pathlib.Path(words[0]).name, "misa-prof", text)
        for before, word in zip(words, words[1:]):
            wanted = before not in ("-o", "--write-golden", "--bundle")
            if wanted and word in THE_READERS and not (self.folder / word).exists():
                THE_READERS[word](self.folder, word)
        done = misa(*words[1:], *extra, cwd=self.folder)
        if words[1] == "nsight" and "MP-E404" in done.stderr:
            return self.skipTest("this build has no ranges for profilers")
        self.assertEqual(done.returncode, status, f"{text} {shlex.join(extra)}: {done.stderr}")
        if status == 0:
            self.assertEqual(program.without_noise(done.stderr), "", text)
            self.assertNotEqual(done.stdout + " ".join(words[words.index("-o"):] if "-o" in words else []), "", text)
        if shown:
            printed = done.stdout.replace(os.path.abspath(program.PROGRAM[-1]), "build/release/cli/misa-prof")
            lines = [line for line in printed.splitlines() if not line.startswith("# backend cuda is absent")]
            joined = "\n".join(line.strip() for line in shown).replace(" \\\n", " ").split("\n")
            self.assertEqual(lines, joined, f"{text}: what it prints is not what the document shows")
        return None

    def test_every_command_of_the_documents_does_what_it_should(self):
        seen = set()
        for document in DOCUMENTS:
            self.clear_folder()
            for text, shown in commands(document.read_text()):
                with self.subTest(document=str(document.relative_to(ROOT)), command=text):
                    seen.add(text)
                    self.run_command(text, shown)
        for command in ("profile", "compare", "diff", "explain", "report", "selftest", "shrink", "generate", "inspect",
                        "nsight", "niah", "sweep", "merge", "doctor", "list"):
            self.clear_folder()
            for text in examples(command):
                with self.subTest(help=command, command=text):
                    seen.add(text)
                    self.run_command(text)
        self.assertEqual(sorted(set(COMMANDS) - seen), [], "no document has these commands any more")

    def test_the_fault_of_the_page_for_kernel_engineers_is_found_in_its_words(self):
        if len(program.PROGRAM) > 1:
            self.skipTest("an emulated program cannot load a library of this machine")
        the_kernel(lambda source: source.replace("fmaxf(dot, 0)", "dot"))(self.folder)
        done = misa("compare", "--backend", "plugin:./libmine.so", "--indexer", "dsa", "--rows", "4", cwd=self.folder)
        self.assertEqual(done.returncode, 1, done.stderr)
        page = (ROOT / "docs" / "kernel-engineers.md").read_text()
        verdict = re.search(r"^    verdict: .*\n(?:    .*\n)+", page, re.M)[0]
        self.assertIn(" ".join(verdict.split()), " ".join(done.stdout.split()))

    def test_the_tutorial_says_what_the_shipped_trace_and_the_pictures_show(self):
        page = " ".join((ROOT / "docs" / "tutorial.md").read_text().split())

        def says(words):
            self.assertTrue(words in page, f"docs/tutorial.md does not say: {words}")

        def quality(*words):
            result = program.strict_json(misa("profile", *words, *ONCE, "--format", "json").stdout)
            return {case["indexer"]: case["quality"] for case in result["cases"]}

        for indexer, found in quality("--indexer", "misa,misa-dagger,hisa,misa-lr,misa-lr-dagger").items():
            recall, mass = found["recall"], found["attention_mass"]
            says(f"| {indexer} | {recall['mean']:.2f} | {recall['worst']:.2f} | {mass:.2f} |")
        more = quality("--indexer", "misa", "--active-heads", "16")["misa"]["recall"]
        says(f"With 16 heads misa finds {more['mean']:.2f}, and {more['worst']:.2f} in the worst row.")
        row = program.strict_json(misa("explain", "--indexer", "misa", "--row", "30", "--format", "json").stdout)
        head = max((head for head in row["heads"] if not head["kept"]), key=lambda head: head["votes_share"])
        self.assertEqual(head["rank"], 10)
        says(f"Head {head['head']} has {100 * head['votes_share']:.0f} % of the votes for the missed tokens, "
             "and the router ranks it tenth")
        among = next(one["found"] for one in row["found_among_own_best"] if one["best"] == 4 * 2048)
        says(f"{among} of DSA's 2048 tokens are among misa's best 8192")
        drawn = (ROOT / "docs" / "pictures" / "speed.svg").read_text()
        self.assertIn("misa: faster throughout;", drawn)
        first, last = re.search(r"misa-dagger: faster above [^(]*\(between (\w+)k and (\w+)k\)", drawn).groups()
        says(f"misa is faster at every length from 4K on, and misa-dagger from somewhere between {first}K and {last}K:")

    def test_the_page_of_models_is_that_of_its_parts_and_a_part_is_measured_by_one_command(self):
        script = ROOT / "scripts" / "models.py"
        subprocess.run([script, "--check"], check=True)
        if len(program.PROGRAM) > 1:
            self.skipTest("an emulated program is no command of one word")
        subprocess.run([script, *program.PROGRAM, "--backend", "cpu", "--model", "glm-5,glm-5.2", "--context", "512",
                        "--rows", "2", "--budget", "0.01", "--out", self.folder], check=True, capture_output=True)
        part = program.strict_json((self.folder / "cpu.json").read_text())
        self.assertEqual({one["model"] for one in part["cases"]}, {"glm-5"})  # glm-5.2 has the same shape
        self.assertEqual({(one["phase"], one["indexer"], one["preset"]) for one in part["cases"]},
                         {(phase, indexer, preset) for phase in ("prefill", "decode") for preset in part["presets"]
                          for indexer in part["indexers"]})
        self.assertEqual(part["models"]["glm-5.2"]["indexer_layers"], 21)

    def test_the_picture_in_the_readme_is_of_the_command_that_it_names(self):
        alt, path = re.search(r"!\[Output of (misa-prof [^]]*)\]\((\S+)\)", (ROOT / "README.md").read_text()).groups()
        picture = (ROOT / path).read_text()
        lines = {}
        for x, y, text in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
            lines.setdefault(float(y), []).append((float(x), html.unescape(text)))
        drawn = [" ".join(" ".join(text for _, text in sorted(line)).split()) for _, line in sorted(lines.items())]
        self.assertEqual(drawn[0], f"$ {alt}")
        printed = [" ".join(line.split())
                   for line in misa(*shlex.split(alt)[1:], "--budget", "1", "--warm-up", "0").stdout.split("\n")]

        def headings(lines):  # but units, which follow the numbers
            return [[word for word in line.split() if "/" not in word] for line in lines
                    if line.startswith(("median ", "indexer "))]

        self.assertNotEqual(headings(drawn), [])
        # The table leaves out what does not fit, and numbers differ in width.
        for in_picture, now in zip(headings(drawn), headings(printed), strict=True):
            self.assertLessEqual(set(in_picture) ^ set(now), {"median", "p1", "IoU"},
                                 "scripts/terminal_svg.py draws the picture again")

    def test_commands_are_found_wherever_a_reader_would_copy_them(self):
        text = ("words `misa-prof list --format json` and `misa-prof inspect FILE`\n\n"
                "    misa-prof profile --seed 7   # a comment\n    OUT=x tests/gpu/run.sh\n\n"
                "    $ misa-prof nsight\n    # shown\n\nmore\n\n```sh\nscripts/test.sh -R x\n```\n"
                "```yaml\n      - run: ./scripts/build.sh\n      - run: >\n          misa-prof compare\n"
                "          --rows 16\n      - if: always()\n```\n```python\nmisa-prof\n```\n")
        found = list(commands(text))
        self.assertEqual([command for command, _ in found],
                         ["misa-prof profile --seed 7", "OUT=x tests/gpu/run.sh", "misa-prof nsight",
                          "scripts/test.sh -R x", "./scripts/build.sh", "misa-prof compare --rows 16",
                          "misa-prof list --format json"])
        self.assertEqual(found[2][1], ["# shown"])

    def test_a_command_that_nobody_knows_how_to_run_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "does not know how to run"):
            self.run_command("misa-prof profile --never-heard-of")


if __name__ == "__main__":
    main()
