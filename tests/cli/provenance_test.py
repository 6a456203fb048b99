"""Every result says what made it."""
import csv
import io
import platform
import re
import shutil
import subprocess

from program import FAST, ROOT, Cli, main, needs, strict_json


class Results(Cli):
    def test_json_names_build_machine_load_and_date_and_the_host_only_when_asked(self):
        report = strict_json(self.succeeds("profile", *FAST, "--format", "json"))
        environment = report["environment"]
        build = environment["build"]
        self.assertRegex(build["commit"] or "0123456789ab", r"^[0-9a-f]{12}$")
        self.assertEqual(build["commit"] is None, "commit_reason" in build)
        self.assertRegex(build["compiler"], r"^(GNU|Clang|AppleClang) \d+")
        for library in build["libraries"]:
            self.assertRegex(library["version"], r"^\d+(\.\d+)*$", library["name"])
        self.assertLessEqual({"OpenMP", "fmt", "nlohmann_json", "toml++", "CLI11"},
                             {library["name"] for library in build["libraries"]})
        self.assertRegex(environment["timestamp_utc"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertGreaterEqual(environment["load_average"], 0)
        self.assertIsNone(environment["host"])
        self.assertIn("governor", environment)
        self.assertEqual(report["workload"]["preset"], "natural")
        named = strict_json(self.succeeds("profile", *FAST, "--host", "--format", "json"))
        self.assertEqual(named["environment"]["host"], platform.node())
        self.assertIn(platform.node(), self.succeeds("profile", *FAST, "--host"))

    def test_a_comparison_says_the_same(self):
        report = strict_json(self.succeeds("compare", "--model", "tiny", "--workload", "ci", "--indexer", "dsa", "--host",
                                           "--format", "json"))
        profile = strict_json(self.succeeds("profile", *FAST, "--format", "json"))
        self.assertEqual(report["environment"]["build"], profile["environment"]["build"])
        self.assertEqual(report["environment"]["host"], platform.node())

    def test_csv_says_it_in_every_row(self):
        text = self.succeeds("profile", *FAST, "--seed", "18446744073709551615", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.assertGreater(len(rows), 4)
        for row in rows:
            self.assertEqual(row["seed"], "18446744073709551615")
            self.assertEqual(row["preset"], "natural")
            self.assertRegex(row["date"], r"Z$")
            self.assertRegex(row["version"], r"^\d+\.\d+\.\d+$")
            self.assertRegex(row["commit"], r"^([0-9a-f]{12}(-dirty)?)?$")
            self.assertTrue(row["machine"])
            self.assertGreater(int(row["context"]), 0)
            self.assertEqual(row["host"], "")
        ends = [row for row in rows if row["stage"] == "end_to_end"]
        for row in ends:
            self.assertLessEqual(float(row["recall_worst"]), float(row["recall_median"]))
            self.assertGreaterEqual(int(row["worst_row"]), 0)

    def test_the_version_and_list_say_what_the_program_was_built_from(self):
        lines = self.succeeds("--version").splitlines()
        self.assertRegex(lines[0], r"^misa-prof \d+\.\d+\.\d+$")
        said = dict(re.split(r" +", line, maxsplit=1) for line in lines[1:])
        self.assertEqual(list(said), ["commit", "compiler", "flags", "kernels", "libraries"])
        listed = {entry["name"]: entry["what"] for entry in strict_json(self.succeeds("list", "--format", "json"))["build"]}
        self.assertEqual(listed, {"version": lines[0].split()[1], **said})


class Commits(Cli):
    """scripts/cmake/commit.cmake, which every build runs."""

    def setUp(self):
        super().setUp()
        needs(self, shutil.which("git") and shutil.which("cmake"), "git and cmake")

    def git(self, *arguments, folder="source"):
        done = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *map(str, arguments)],
                              cwd=self.folder / folder, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def commit_of(self, folder, git=True):
        """What a build in `folder` would say: its commit, and whether files were changed."""
        header = self.folder / "commit.hpp"
        subprocess.run(["cmake", f"-DSOURCE={folder}", f"-DOUTPUT={header}", *(["-DGIT=git"] if git else []), "-P",
                        str(ROOT / "scripts/cmake/commit.cmake")], check=True, stdout=subprocess.DEVNULL)
        text = header.read_text()
        return re.search(r'kCommit = "(\w*)"', text).group(1), re.search(r"kChanged = (\w+);", text).group(1) == "true"

    def make_repository(self):
        source = self.folder / "source"
        (source / "scripts/cmake").mkdir(parents=True)
        for name in (".gitattributes", "scripts/cmake/commit.txt"):
            shutil.copy(ROOT / name, source / name)
        (source / "file").write_text("one")
        self.git("init", "-q")
        self.git("add", ".")
        self.git("commit", "-qm", "first")
        return source, self.git("rev-parse", "HEAD")[:12]

    def test_a_work_tree_tells_its_commit_and_whether_it_was_changed(self):
        source, commit = self.make_repository()
        self.assertEqual(self.commit_of(source), (commit, False))
        (source / "file").write_text("two")
        self.assertEqual(self.commit_of(source), (commit, True))
        self.git("tag", "-am", "a tag", "v1")
        self.git("commit", "-aqm", "second")
        self.assertEqual(self.commit_of(source), (self.git("rev-parse", "HEAD")[:12], False))

    def test_a_source_archive_tells_it_without_git_and_inside_another_repository(self):
        _, commit = self.make_repository()
        (self.folder / "outer/inner").mkdir(parents=True)
        self.git("archive", "--output", self.folder / "source.tar", "HEAD")
        subprocess.run(["tar", "-xf", self.folder / "source.tar", "-C", self.folder / "outer/inner"], check=True)
        self.assertEqual(self.commit_of(self.folder / "outer/inner"), (commit, False))
        self.git("init", "-q", folder="outer")
        self.git("add", ".", folder="outer")
        self.git("commit", "-qm", "somebody else's", folder="outer")
        self.assertEqual(self.commit_of(self.folder / "outer/inner"), (commit, False))
        self.assertEqual(self.commit_of(self.folder / "outer/inner", git=False), (commit, False))

    def test_a_copy_of_the_files_does_not_know_its_commit(self):
        source, _ = self.make_repository()
        shutil.rmtree(source / ".git")
        self.assertEqual(self.commit_of(source), ("", False))


if __name__ == "__main__":
    main()
