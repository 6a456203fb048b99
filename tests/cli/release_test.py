"""scripts/release.sh in a scratch repository: what it makes, whose signature holds, and what it refuses."""
import os
import re
import shutil
import subprocess
import tarfile

import program
from program import ROOT, Cli, main, needs, strict_json

CHANGELOG = "# Changelog\n\n## Unreleased\n\n- later\n\n## 0.1.0\n\n### Added\n\n- everything\n\n## 0.0.9\n\n- before\n"


class Release(Cli):
    def setUp(self):
        super().setUp()
        needs(self, shutil.which("git"), "git")
        self.source = self.folder / "source"
        (self.source / "scripts").mkdir(parents=True)
        (self.source / "docs").mkdir()
        for name in ("release.sh", "sbom.py"):
            shutil.copy(ROOT / "scripts" / name, self.source / "scripts" / name)
        (self.source / "CMakeLists.txt").write_text("project(misa-prof VERSION 0.1.0 LANGUAGES CXX)\n")
        (self.source / "docs" / "changelog.md").write_text(CHANGELOG)
        self.git("init", "-q")
        self.git("add", ".")
        self.git("commit", "-qm", "all")
        self.packages = self.folder / "packages"
        self.packages.mkdir()
        self.pack(self.git("rev-parse", "--short=12", "HEAD"))
        (self.packages / "misa-prof_0.1.0-1_amd64.deb").write_text("a Debian package\n")
        (self.packages / "misa_prof-0.1.0-py3-none-any.whl").write_text("a wheel\n")
        self.out = self.folder / "out"

    def git(self, *arguments):
        done = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=self.source, check=True,
                              stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def pack(self, commit):
        """A tarball whose program says that it is of `commit`, and else is the one that is tested."""
        tree = self.folder / "tree" / "misa-prof-0.1.0-linux"
        (tree / "bin").mkdir(parents=True, exist_ok=True)
        (tree / "lib" / "misa-prof").mkdir(parents=True, exist_ok=True)
        (tree / "lib" / "misa-prof" / "libfmt.so.9.1.0").write_text("a library\n")
        starter = tree / "bin" / "misa-prof"
        words = " ".join(f"'{word}'" for word in program.PROGRAM)
        starter.write_text(f"#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'commit     {commit}'; exit; fi\n"
                           f"MISA_PROF_PROFILES='{ROOT / 'profiles'}' exec {words} \"$@\"\n")
        starter.chmod(0o755)
        with tarfile.open(self.packages / "misa-prof-0.1.0-linux-x86_64.tar.gz", "w:gz") as archive:
            archive.add(tree, tree.name)

    def release(self, *arguments, version="0.1.0", env=None):
        words = [self.source / "scripts" / "release.sh", version, *arguments, "--packages", self.packages, "--out", self.out]
        return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False,
                              env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **(env or {})})

    def made(self, *arguments, **more):
        done = self.release(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {path.name: path for path in self.out.iterdir()}

    def test_it_makes_packages_source_notes_components_and_checksums(self):
        files = self.made("--unsigned")
        self.assertEqual(sorted(files), ["SHA256SUMS", "misa-prof-0.1.0-linux-x86_64.tar.gz", "misa-prof-0.1.0-source.tar.gz",
                                         "misa-prof-0.1.0.cdx.json", "misa-prof_0.1.0-1_amd64.deb",
                                         "misa_prof-0.1.0-py3-none-any.whl", "notes.md"])
        self.assertEqual(files["notes.md"].read_text(), "### Added\n\n- everything\n")
        with tarfile.open(files["misa-prof-0.1.0-source.tar.gz"]) as archive:
            self.assertIn("misa-prof-0.1.0/docs/changelog.md", archive.getnames())
        self.assertEqual(len(files["SHA256SUMS"].read_text().splitlines()), len(files) - 1)
        self.sums_hold(True)
        first = {name: path.read_bytes() for name, path in files.items()}
        shutil.rmtree(self.out)
        self.assertEqual({name: path.read_bytes() for name, path in self.made("--unsigned").items()}, first)

    def sums_hold(self, holds):
        done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=self.out, capture_output=True, check=False)
        self.assertEqual(done.returncode == 0, holds)

    def test_the_components_are_those_of_the_build_each_with_its_licence(self):
        bill = strict_json(self.made("--unsigned")["misa-prof-0.1.0.cdx.json"].read_text())
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.5"))
        said = dict(re.split(r" +", line, maxsplit=1) for line in self.succeeds("--version").splitlines()[1:])
        found = {entry["name"]: entry for entry in bill["components"]}
        self.assertEqual({f"{name} {entry['version']}" for name, entry in found.items()}, set(said["libraries"].split(", ")))
        copyright_file = (ROOT / "scripts" / "package" / "copyright").read_text()
        for name, entry in found.items():
            self.assertTrue(entry["licenses"][0]["expression"])
            if entry.get("scope") != "excluded" and name != "CUDA":
                self.assertIn(name, copyright_file)
        self.assertIn("hashes", found["fmt"])
        references = [entry["bom-ref"] for entry in bill["components"]]
        self.assertEqual(len(set(references)), len(references))
        self.assertEqual(bill["dependencies"], [{"ref": "misa-prof", "dependsOn": references}])

    def test_a_key_of_openssh_signs_the_checksums_and_nothing_else_passes(self):
        needs(self, shutil.which("ssh-keygen"), "ssh-keygen")
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
        files = self.made("--ssh", key)
        signers = self.folder / "signers"
        signers.write_text(f"misa-prof {key.with_suffix('.pub').read_text()}")

        def verified():
            with files["SHA256SUMS"].open() as sums:
                done = subprocess.run(["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "misa-prof", "-n",
                                       "misa-prof-release", "-s", files["SHA256SUMS.sig"]], stdin=sums,
                                      capture_output=True, check=False)
            return done.returncode == 0

        self.assertTrue(verified())
        files["notes.md"].write_text("something else\n")
        self.sums_hold(False)
        files["SHA256SUMS"].write_text(files["SHA256SUMS"].read_text().replace("a", "b"))
        self.assertFalse(verified())

    def test_a_key_of_gnupg_signs_them_too(self):
        needs(self, shutil.which("gpg"), "gpg")
        home = self.folder / "g"
        home.mkdir(mode=0o700)
        env = {"GNUPGHOME": str(home)}

        def gpg(*words):
            return subprocess.run(["gpg", "--batch", *map(str, words)], env={**os.environ, **env}, capture_output=True,
                                  text=True, check=False)

        made = gpg("--passphrase", "", "--quick-generate-key", "a@b.example", "ed25519", "sign", "never")
        self.assertEqual(made.returncode, 0, made.stderr)
        files = self.made("--gpg", "a@b.example", env=env)
        self.assertEqual(gpg("--verify", files["SHA256SUMS.asc"], files["SHA256SUMS"]).returncode, 0)
        files["SHA256SUMS"].write_text("")
        self.assertNotEqual(gpg("--verify", files["SHA256SUMS.asc"], files["SHA256SUMS"]).returncode, 0)
        subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, **env}, check=False)

    def refused(self, words, *arguments, **more):
        done = self.release(*arguments, **more)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(words, done.stderr)
        self.assertFalse(self.out.exists())

    def test_what_does_not_fit_together_is_refused_and_leaves_nothing(self):
        self.refused("please say how to sign")
        self.refused("there is no key", "--ssh", self.folder / "none")
        self.refused("CMakeLists.txt says version 0.1.0, not 0.2.0", "--unsigned", version="0.2.0")
        stranger = self.packages / "misa_prof-0.0.9-py3-none-any.whl"
        stranger.write_text("")
        self.refused("is not of version 0.1.0", "--unsigned")
        stranger.unlink()
        self.pack("0123456789ab")
        self.refused("the packages are not of the commit", "--unsigned")
        (self.packages / "misa-prof-0.1.0-linux-x86_64.tar.gz").unlink()
        self.refused("has 0 tarballs of version 0.1.0", "--unsigned")
        changelog = self.source / "docs" / "changelog.md"
        changelog.write_text(CHANGELOG.replace("## 0.1.0", "## 0.1.01"))
        self.refused("files differ from the commit", "--unsigned")
        self.git("commit", "-qam", "another")
        self.refused("has no section '## 0.1.0'", "--unsigned")


if __name__ == "__main__":
    main()
