"""Makes the corpus: the text of documentation packages of Debian, which apt downloads and dpkg unpacks; nothing is installed.

    python -m tiny_dsa.texts FOLDER [--packages NAME...]

FOLDER/train.txt and FOLDER/held-out.txt have one document after the other, in the order of their hashes, each followed by a form feed.
FOLDER/texts.json says which version of each package they come from, how many documents and characters each gave, and the hashes of
both files. Each fiftieth document is held out. A text that several files have counts once.
"""

import argparse
import gzip
import hashlib
import html.parser
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile

PACKAGES = ("linux-doc-6.1 git-doc postgresql-doc-15 erlang-doc python-django-doc python-scipy-doc python-sympy-doc cmake-doc sqlite3-doc "
            "apache2-doc debian-handbook debian-policy debian-reference-en developers-reference maint-guide nodejs-doc octave-doc "
            "libreoffice-help-en-us vim-doc manpages manpages-dev perl-doc bash-doc haproxy-doc postgis-doc llvm-14-doc clang-14-doc "
            "mercurial-common libboost1.74-doc").split()
HELD_OUT = 50          # one document of so many
LEAST, MOST = 500, 2_000_000  # characters of a document
END = "\f"


class Text(html.parser.HTMLParser):
    """The text of a page: without scripts, styles, navigation and links of its head."""

    DROPPED = {"script", "style", "nav", "head", "footer", "svg", "noscript"}
    BLOCKS = {"p", "div", "li", "tr", "br", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "dt", "dd", "table", "section", "ul", "ol"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.dropped = [], 0

    def handle_starttag(self, tag, attributes):
        self.dropped += tag in self.DROPPED
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        if tag in self.DROPPED:
            self.dropped = max(0, self.dropped - 1)

    def handle_data(self, data):
        if self.dropped == 0:
            self.parts.append(data)


def clean(text):
    """Lines without trailing blanks, no empty line after another."""
    lines = []
    for line in text.replace(END, "\n").splitlines():
        line = line.rstrip()
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip() + "\n"


def read(path):
    """The text of a file of documentation; nothing where it is none, or of no use."""
    suffixes = path.suffixes
    kind = suffixes[-2] if path.suffix == ".gz" and len(suffixes) > 1 else path.suffix
    manual = len(kind) == 2 and kind[1].isdigit()
    if not manual and kind not in (".html", ".htm", ".xhtml", ".txt", ".rst", ".md", ".adoc", ".pod"):
        return None
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) > 4 * MOST:
        return None
    text = data.decode("utf-8", "replace")
    if kind in (".html", ".htm", ".xhtml"):
        parser = Text()
        parser.feed(text)
        text = "".join(parser.parts)
    elif manual:
        text = without_requests(text)
    text = clean(text)
    return text if LEAST <= len(text) <= MOST else None


def without_requests(text):
    """A manual page without changes of fonts and without requests; those that begin sections keep their words."""
    for mark in ("\\fB", "\\fI", "\\fR", "\\fP", "\\&"):
        text = text.replace(mark, "")
    headed = (".SH ", ".SS ", ".BR ", ".IR ")
    lines = (line[4:] if line.startswith(headed) else line for line in text.replace("\\-", "-").splitlines()
             if not line.startswith((".", "'")) or line.startswith(headed))
    return "\n".join(lines)


def unpack(package, folder):
    """The files of a package, in `folder`, and its version."""
    subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    [archive] = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive.name, "files"], cwd=folder, check=True)
    version = subprocess.run(["dpkg-deb", "-f", archive.name, "Version"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return sorted(path for path in (folder / "files").rglob("*") if path.is_file() and not path.is_symlink()), version.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--packages", nargs="+", default=PACKAGES, metavar="NAME")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found, about = {}, {"packages": {}}  # documents by their hashes
    with multiprocessing.Pool() as pool:
        for package in arguments.packages:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    paths, version = unpack(package, pathlib.Path(folder))
                except (subprocess.CalledProcessError, FileNotFoundError) as problem:
                    sys.exit(f"texts: {package} cannot be had: {problem}; try: apt-get update, or --packages")
                texts = [text for text in pool.imap(read, paths, chunksize=16) if text is not None]
            fresh = {hashlib.sha256(text.encode()).digest(): text for text in texts}
            characters = sum(len(text) for key, text in fresh.items() if key not in found)
            found.update(fresh)
            about["packages"][package] = {"version": version, "documents": len(texts), "characters": characters}
            print(f"{package} {version}: {len(texts)} documents, {characters / 1e6:.1f} million characters", flush=True)
    keys = sorted(found)
    for name, chosen in {"held-out": keys[::HELD_OUT], "train": [key for i, key in enumerate(keys) if i % HELD_OUT]}.items():
        data = "".join(found[key] + END for key in chosen).encode()
        (arguments.folder / f"{name}.txt").write_bytes(data)
        about[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (arguments.folder / "texts.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
