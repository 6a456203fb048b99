"""The man page and the completions name every command and option that the program has, and shells can read them."""
import os
import re
import shutil
import subprocess

from program import Cli, PROGRAM, main, misa, needs

FORMATS = ("man", "bash", "zsh", "fish")


def options_of(command):
    """The long options that the help of `command` names."""
    shown = misa(command, "--help").stdout
    return sorted(set(re.findall(r"^  (?:-\w,)?--([a-z][a-z-]*)", shown, re.M)))


def commands():
    shown = misa("--help").stdout
    return re.findall(r"^  ([a-z]+) ", shown[shown.index("Subcommands:"):], re.M)


class Manual(Cli):
    def test_each_format_names_every_command_and_option(self):
        texts = {name: self.succeeds("manual", name) for name in FORMATS}
        self.assertIn("profile", commands())
        for command in commands():
            for name in FORMATS:
                self.assertIn(command, texts[name])
            self.assertGreater(len(options_of(command)), 0)
            for option in options_of(command):
                escaped = option.replace("-", "\\-")
                self.assertIn(f"\\-\\-{escaped}", texts["man"], f"{command} --{option}")
                self.assertRegex(texts["bash"], rf"{command}\) words='[^']*--{option}\b")
                self.assertRegex(texts["zsh"], rf"(?s){command}\) arguments=\((?:(?!\) ;;).)*--{option}\[")
                self.assertRegex(texts["fish"], rf"(?m)from {command}' -l {option} ")

    def test_another_format_is_refused(self):
        self.fails(2, "FORMAT", "manual", "tcsh")

    def test_a_description_of_the_man_page_ends_with_one_stop(self):
        self.assertNotRegex(self.succeeds("manual", "man"), r"(?m)(\?\.|[^.]\.\.)$")

    def test_bash_completes_commands_options_and_names(self):
        script = self.folder / "misa-prof.bash"
        script.write_text(self.succeeds("manual", "bash"))
        (self.folder / "misa-prof").symlink_to(PROGRAM[-1])

        def completed(*words):
            line = " ".join(f"'{word}'" for word in words)
            code = (f"source '{script}'; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _misa_prof; "
                    "printf '%s\\n' \"${COMPREPLY[@]}\"")
            path = f"{self.folder}:{os.environ['PATH']}"
            done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, cwd=self.folder,
                                  env={**os.environ, "PATH": path})
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout.split()

        self.assertEqual(completed("misa-prof", "prof"), ["profile"])
        self.assertEqual(completed("misa-prof", "profile", "--top"), ["--top-k"])
        self.assertIn("misa-prof.bash", completed("misa-prof", "inspect", "misa-prof.b"))
        if len(PROGRAM) == 1:  # the completion runs misa-prof itself, which under an emulator it cannot
            self.assertIn("misa-lr-dagger", completed("misa-prof", "profile", "--indexer", "misa-lr-"))
            self.assertIn("dsa,hisa", completed("misa-prof", "profile", "--indexer", "dsa,hi"))

    def test_the_shells_accept_their_completions(self):
        for shell in ("bash", "zsh", "fish"):
            needs(self, shutil.which(shell), shell)
            script = self.folder / f"completion.{shell}"
            script.write_text(self.succeeds("manual", shell))
            done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), shell)

    def test_the_man_page_is_set_without_a_warning(self):
        needs(self, shutil.which("groff"), "groff")
        page = self.folder / "misa-prof.1"
        page.write_text(self.succeeds("manual", "man"))
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=100n", "-P-cbou", page], capture_output=True, text=True,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("SYNOPSIS", done.stdout)


if __name__ == "__main__":
    main()
