"""action.yml and the git hook, as GitHub and git run them: in a repository of somebody else, from packages."""
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile

import program
from program import ROOT, Cli, main, needs, strict_json

GOLDENS = ROOT / "profiles" / "goldens"


class Somebody(Cli):
    """Has a repository, and a tarball of misa-prof whose program is the one that is tested."""

    def setUp(self):
        super().setUp()
        needs(self, shutil.which("git"), "git")
        self.home = self.folder / "home"
        self.tree = self.folder / "misa-prof-0.1.0-linux"
        (self.tree / "bin").mkdir(parents=True)
        starter = self.tree / "bin" / "misa-prof"
        words = " ".join(f"'{word}'" for word in program.PROGRAM)
        starter.write_text(f"#!/bin/sh\nMISA_PROF_PROFILES='{ROOT / 'profiles'}' exec {words} \"$@\"\n")
        starter.chmod(0o755)
        self.repository = self.folder / "repository"
        self.repository.mkdir()
        self.git("init", "-q")

    def environment(self, **more):
        return {**{key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "MISA_"))},
                "HOME": str(self.home), "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
                "GIT_COMMITTER_EMAIL": "a@b", **more}

    def git(self, *arguments, **more):
        return subprocess.run(["git", *map(str, arguments)], cwd=self.repository, capture_output=True, text=True,
                              env=self.environment(**more), check=False)


class Action(Somebody):
    def setUp(self):
        super().setUp()
        try:
            import yaml
        except ImportError:
            needs(self, False, "python3-yaml")
        self.action = yaml.safe_load((ROOT / "action.yml").read_text())

    origin = "somebody/misa-prof"  # empty where a repository uses an action of its own

    def pack(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            archive.add(self.tree, self.tree.name)
        return path

    def use(self, **given):
        """Runs the action's steps with the inputs `given`; returns (status, standard output, outputs, summary)."""
        inputs = {name: entry.get("default", "") for name, entry in self.action["inputs"].items()}
        self.assertLessEqual(set(given) - {"server"}, {name.replace("-", "_") for name in inputs})
        inputs.update({name.replace("_", "-"): value for name, value in given.items()})
        files = {name: self.folder / name.lower() for name in ("GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        temporary = self.folder / "runner"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        environment = self.environment(**{name: str(path) for name, path in files.items()}, RUNNER_TEMP=str(temporary),
                                       GITHUB_ACTION_PATH=str(ROOT), GITHUB_SERVER_URL=given.get("server", ""))
        said = ""
        for step in self.action["runs"]["steps"]:
            self.assertEqual(step["shell"], "bash")
            for name, value in step["env"].items():
                value = re.sub(r"\${{ inputs\.([a-z-]+) }}", lambda found: str(inputs[found.group(1)]), value)
                environment[name] = value.replace("${{ github.action_repository }}", self.origin)
                self.assertNotIn("${{", environment[name])
            for line in files["GITHUB_PATH"].read_text().splitlines():
                environment["PATH"] = f"{line}:{environment['PATH']}"
            done = subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.repository, env=environment,
                                  check=False)
            said += done.stdout
            if done.returncode != 0:
                break
        outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return done.returncode, said, outputs, files["GITHUB_STEP_SUMMARY"].read_text()

    def test_a_comparison_that_agrees_passes_and_leaves_its_results(self):
        package = self.pack(self.repository / "misa.tar.gz")
        status, said, outputs, summary = self.use(package=package.name, command=f"compare --against '{GOLDENS}' --rows 16")
        self.assertEqual((status, outputs["status"]), (0, "0"), said)
        self.assertEqual(set(outputs), set(self.action["outputs"]))
        self.assertGreater(len(strict_json((self.repository / outputs["json"]).read_text())["cases"]), 1)
        self.assertIn("<testsuite", (self.repository / outputs["junit"]).read_text())
        self.assertEqual(summary, (self.repository / outputs["markdown"]).read_text())
        self.assertIn("misa-dagger", summary)
        self.assertNotIn("::error", said)

    def test_a_wrong_selection_fails_the_job_and_is_annotated_when_asked(self):
        package = self.pack(self.repository / "misa.tar.gz")
        wrong = f"compare --against '{GOLDENS}' --rows 16 --indexer misa --inject wrong-head"
        status, said, outputs, _ = self.use(package=package.name, command=wrong)
        self.assertEqual((status, outputs["status"]), (1, "1"), said)
        self.assertIn("::error", said)
        self.assertIn("<failure", (self.repository / outputs["junit"]).read_text())
        status, said, _, _ = self.use(package=package.name, command=wrong, annotate="false")
        self.assertEqual(status, 1)
        self.assertNotIn("::error", said)

    def test_a_profile_is_gated_and_summed_up(self):
        package = self.pack(self.repository / "misa.tar.gz")
        profile = "profile --model tiny --workload ci --rows 4 --budget 0 --samples 1 --warm-up 0 --indexer misa"
        status, said, outputs, summary = self.use(package=package.name, command=profile)
        self.assertEqual((status, outputs["status"], outputs["junit"]), (0, "0", ""), said)
        self.assertIn("| misa", summary)
        # A sample of each side tells nothing: the gate's own status is that of the job.
        status, said, outputs, _ = self.use(package=package.name, command=f"{profile} --ab '--no-fusion'", max_slowdown="5%")
        self.assertEqual((status, outputs["status"]), (7, "7"), said)

    def test_a_release_is_fetched_and_checked(self):
        release = self.folder / "server" / "somebody" / "misa-prof" / "releases" / "download" / "v0.1.0"
        package = self.pack(release / f"misa-prof-0.1.0-linux-{platform.machine()}.tar.gz")
        sums = release / "SHA256SUMS"
        sums.write_text(f"{hashlib.sha256(package.read_bytes()).hexdigest()}  {package.name}\n")
        given = {"version": "0.1.0", "server": (self.folder / "server").as_uri(),
                 "command": f"compare --against '{GOLDENS}' --rows 16 --indexer dsa"}
        status, said, _, _ = self.use(**given)
        self.assertEqual(status, 0, said)
        package.write_bytes(package.read_bytes() + b"more")
        status, said, outputs, _ = self.use(**given)
        self.assertEqual((status, outputs), (2, {}))
        self.assertIn("is not what SHA256SUMS says", said)
        status, said, _, _ = self.use(**{**given, "version": "9.9.9"})
        self.assertEqual(status, 2)
        self.assertIn("cannot fetch", said)

    def test_the_steps_of_the_documents_work(self):
        (self.repository / "profiles").symlink_to(ROOT / "profiles")
        self.pack(self.repository / "dist" / "misa-prof.tar.gz")
        steps = [step for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.S)
                 for step in re.findall(r"uses: OWNER/misa-prof@.*\n +with:\n((?: {10}.*\n)+)", block)]
        self.assertEqual(len(steps), 2)
        for step in steps:
            given = {name.replace("-", "_"): value for name, value in re.findall(r"^ +([a-z-]+): (.*)$", step, re.M)}
            if "version" in given:  # the release is the tarball here
                given = {**given, "version": "", "package": "dist/misa-prof.tar.gz"}
            if "max_slowdown" in given:
                given["command"] += " --model tiny --workload ci --rows 4 --samples 1 --warm-up 0"
            status, said, outputs, _ = self.use(**given)
            self.assertEqual((status, outputs["status"]), (7, "7") if "max_slowdown" in given else (0, "0"), said)
        inputs = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "ci.md").read_text(), re.M)
        self.assertEqual(sorted(inputs), sorted(self.action["inputs"]))

    def test_what_is_missing_or_wrong_is_said(self):
        self.origin = ""
        self.assertIn("please give 'package'", self.use(version="0.1.0")[1])
        package = self.pack(self.repository / "misa.tar.gz").name
        for given, words in (({}, "needs 'package', a file, or 'version'"),
                             ({"package": "none.whl"}, "there is no file 'none.whl'"),
                             ({"package": ".git/config"}, "is no .whl, .deb or .tar.gz"),
                             ({"package": package, "command": "sweep"}, "begins with compare or profile, not 'sweep'"),
                             ({"package": package, "command": ""}, "begins with compare or profile, not ''"),
                             ({"package": package, "max_slowdown": "5%"}, "'max-slowdown' is for profile --ab")):
            with self.subTest(given=given):
                status, said, _, _ = self.use(**given)
                self.assertEqual(status, 2, said)
                self.assertIn(words, said)

    def test_nothing_in_a_command_is_expanded(self):
        package = self.pack(self.repository / "misa.tar.gz").name
        status, said, _, _ = self.use(package=package, command="compare --against $(touch harm) `touch harm`; touch harm")
        self.assertEqual(status, 2, said)
        self.assertFalse((self.repository / "harm").exists())


class Hook(Somebody):
    def setUp(self):
        super().setUp()
        shutil.copy(ROOT / "scripts" / "pre-commit.sh", self.repository / ".git" / "hooks" / "pre-commit")
        self.path = f"{self.tree / 'bin'}:{os.environ['PATH']}"

    def commit(self, name, **more):
        (self.repository / name).write_text(f"{name}\n")
        self.git("add", name)
        done = self.git("commit", "-qm", name, PATH=self.path, **more)
        subject = self.git("log", "-1", "--format=%s").stdout.strip()
        self.assertEqual(done.returncode == 0, subject == name, done.stderr)
        return done

    def test_a_commit_is_refused_where_the_selection_is_wrong(self):
        self.git("config", "misa.compare", f"--against '{GOLDENS}' --rows 16 --indexer misa")
        self.assertEqual(self.commit("one.cu").returncode, 0)
        self.git("config", "misa.compare", f"--against '{GOLDENS}' --rows 16 --indexer misa --inject wrong-head")
        refused = self.commit("two.cu")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("misa-prof ended with status 1, so nothing is committed", refused.stderr)
        self.assertEqual(self.commit("two.cu", MISA_SKIP="1").returncode, 0)
        self.git("config", "misa.paths", "*.cu *.cpp")
        self.assertEqual(self.commit("README").returncode, 0)
        self.assertNotEqual(self.commit("three.cu").returncode, 0)

    def test_a_build_that_fails_refuses_it_and_so_do_goldens_that_are_not_there(self):
        self.assertIn("goldens", self.commit("one").stderr)
        self.git("config", "misa.build", "echo no compiler >&2; false")
        refused = self.commit("one")
        self.assertIn("no compiler", refused.stderr)
        self.assertNotIn("misa-prof:", refused.stderr)


if __name__ == "__main__":
    main()
