#!/usr/bin/env python3
"""Makes what the generator of the site reads, out of the Markdown pages of the project as they are.

usage: scripts/site_pages.py FOLDER [PROGRAM]    writes the pages; PROGRAM adds its man page
       scripts/site_pages.py --check             writes nothing; exit status 1 if a link or a page is wrong
       scripts/site_pages.py --external          lists the links that leave the project; nobody follows them

README.md is the front page, docs/README.md the navigation: each of its sections is a group, each item a page. A
README.md of another folder is followed by the pages of its folder that it names. What a page links to and is no page, a
source file or a schema, becomes a page that shows it. Links are those of the files, relative to their folder.
"""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FRONT, NAVIGATION = "README.md", "docs/README.md"
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^()\s]+)\)")
LANGUAGES = {".h": "c", ".c": "c", ".py": "python", ".json": "json", ".sh": "bash", ".cu": "c++"}
PICTURES = (".svg", ".png")


class Wrong(Exception):
    """A link without a target, or a page that no navigation has."""


def without_code(text):
    """`text` with blanks for what stands in blocks and spans of code, so that positions stay."""
    def blank(found):
        return re.sub(r"[^\n]", " ", found[0])

    text = re.sub(r"^( *)```.*?^\1```$", blank, text, flags=re.M | re.S)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?:(?: {4}.*)?\n)+", blank, text)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", blank, text, flags=re.S)


def links(text):
    """(is a picture, words, target, where the target begins) of each link of a page."""
    for found in LINK.finditer(without_code(text)):
        yield bool(found[1]), " ".join(text[found.start(2):found.end(2)].split()), found[3], found.start(3)


def anchors(text):
    """What `#` may name in a page, as code hosts and the generator make it of its headings."""
    seen = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M):
        words = re.sub(r"\[([^][]*)\]\([^()]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(1 for one in seen if one == anchor or re.fullmatch(re.escape(anchor) + r"-\d+", one))
        seen.add(f"{anchor}-{number}" if number else anchor)
    return seen


class Pages:
    """Every page that can be reached from README.md, and the files that pages name."""

    def __init__(self, root=ROOT):
        self.root, self.texts, self.files, self.external, self.wrong = root, {}, set(), [], []
        self.add(FRONT)
        self.add(NAVIGATION)
        for page in sorted((root / "docs").rglob("*.md")):
            self.add(page.relative_to(root).as_posix())
        self.navigation = self.groups()
        self.look_for_lost()

    def add(self, page):
        if page in self.texts:
            return
        self.texts[page] = (self.root / page).read_text()
        for picture, _, target, _ in links(self.texts[page]):
            path, anchor = self.resolve(page, target)
            if path is None:
                if target.startswith("http"):
                    self.external.append((page, target))
            elif not (self.root / path).is_file():
                self.wrong.append(f"{page}: there is no {target}")
            elif path.endswith(".md"):
                self.add(path)
                if anchor and anchor not in anchors(self.texts[path]):
                    self.wrong.append(f"{page}: {path} has no heading #{anchor}")
            elif not picture:
                self.files.add(path)

    def resolve(self, page, target):
        """The file that a link names, from the root, and its anchor; None for what leaves the project."""
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            return None, ""
        if not path:
            return page, anchor
        whole = os.path.normpath(os.path.join(os.path.dirname(page), path))
        return (f"{whole}/README.md" if (self.root / whole).is_dir() else whole), anchor

    def items(self, page, text):
        """(words, page) of the list items and table rows in `text`, of `page`, that begin with a link to a page."""
        for found in re.finditer(r"^(?:- |\| )" + LINK.pattern, text, flags=re.M):
            path, _ = self.resolve(page, found[3])
            if path and path.endswith(".md"):
                yield " ".join(found[2].split()), path

    def groups(self):
        """Name -> (words, page) of the sections of docs/README.md."""
        sections = re.split(r"^## ", self.texts[NAVIGATION], flags=re.M)[1:]
        return {name: list(self.items(NAVIGATION, body))
                for name, _, body in (section.partition("\n") for section in sections)}

    def below(self, page):
        """The pages of a folder that its README.md names, in that order."""
        folder = os.path.dirname(page)
        if os.path.basename(page) != "README.md" or page in (FRONT, NAVIGATION):
            return []
        return [(self.title(path), path) for _, path in self.items(page, self.texts[page])
                if os.path.dirname(path) == folder and path != page]

    def title(self, page):
        return re.search(r"^# +(.*)$", self.texts[page], flags=re.M)[1]

    def look_for_lost(self):
        found = [FRONT, NAVIGATION, *(path for group in self.navigation.values() for _, path in group)]
        found += [path for page in found for _, path in self.below(page)]
        for page in sorted(set(found)):
            if found.count(page) > 1:
                self.wrong.append(f"{page}: the navigation has it twice")
        for page in sorted(set(self.texts) - set(found)):
            self.wrong.append(f"{page}: no navigation has it; name it in {NAVIGATION} or its folder's README.md")


def place(path):
    """Where the site has a page or a file: README.md is its front page, files have pages that show them."""
    if path == FRONT:
        return "index.md"
    return path if path.endswith((".md", *PICTURES)) else f"files/{path}.md"


def rewritten(pages, page):
    """A page whose links lead to the pages of the site."""
    text, here = pages.texts[page], os.path.dirname(place(page))
    for _, _, target, start in reversed(list(links(text))):
        path, anchor = pages.resolve(page, target)
        if path is not None and not target.startswith("#"):
            there = os.path.relpath(place(path), here or ".") + (f"#{anchor}" if anchor else "")
            text = text[:start] + there + text[start + len(target):]
    return text


def toctree(entries, caption=""):
    def entry(words, path):
        target = "self" if path == FRONT else "/" + place(path).removesuffix(".md")
        return f"{words} <{target}>" if words else f"/{path}"

    lines = [entry(words, path) for words, path in entries]
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, *lines, "```", ""])


def shown(text, language=""):
    """A block of code, with a fence that `text` does not have."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`{3,}", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def manual(roff):
    """The man page as Markdown: of troff it knows what cli/manual.cpp writes."""
    def words(line):
        line = re.sub(r"\\fB(.*?)\\fR", r"`\1`", re.sub(r"\\fI(.*?)\\fR", r"*\1*", line))
        line = line.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
        return re.sub(r"(?<!`)(<[^>`]*>)", r"`\1`", line)

    lines, page, at = roff.splitlines(), ["# Man page", "", "What `man misa-prof` shows, by the program itself.", ""], 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(".SH "):
            page += ["", f"## {words(line[4:]).replace('MISA-PROF', 'misa-prof')}", ""]
        elif line == ".TP":
            at += 1
            name = words(lines[at]) if not lines[at].startswith(".B ") else f"`{words(lines[at][3:])}`"
            page.append(f"- {name}: ")
        elif line == ".nf":
            end = lines.index(".fi", at)
            block = ["" if one == ".sp" else words(one) for one in lines[at + 1:end]]
            page += ["", shown("\n".join(block).strip("\n")), ""]
            at = end
        elif line == ".PP":
            page.append("")
        elif line.startswith((".B ", ".I ")):
            page.append(f"`{words(line[3:])}`")
        elif not line.startswith("."):
            text = words(line)
            page.append(f"  {text}" if page[-1].startswith(("- ", "  ")) else text)
        at += 1
    return "\n".join(page) + "\n"


def write(pages, folder, program):
    def put(path, text):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)

    for page in pages.texts:
        text = rewritten(pages, page)
        if below := pages.below(page):
            text += toctree(below)
        if page == FRONT:
            text += toctree([("Introduction", FRONT), ("All pages", NAVIGATION)])
            for name, group in pages.navigation.items():
                extra = [("", "files/index")] if name == "Reference" else []
                extra += [("", "manual")] if name == "Reference" and program else []
                text += toctree([*group, *extra], name)
        put(place(page), text)
    files = sorted(pages.files)
    for path in files:
        language = LANGUAGES.get(pathlib.Path(path).suffix, "text")
        put(place(path), f"# {path}\n\n{shown((pages.root / path).read_text(), language)}")
    listed = "".join(f"- [{path}](/{place(path)})\n" for path in files)
    put("files/index.md", f"# Files that pages name\n\n{listed}{toctree([('', f'files/{path}') for path in files])}")
    for picture in sorted((pages.root / "docs").rglob("*.svg")):
        target = folder / picture.relative_to(pages.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read_bytes())
    if program:
        roff = subprocess.run([program, "manual", "man"], check=True, capture_output=True, text=True).stdout
        put("manual.md", manual(roff))


def main():
    pages = Pages()
    for line in pages.wrong:
        print(line, file=sys.stderr)
    if pages.wrong:
        sys.exit(1)
    if sys.argv[1] == "--external":
        for page, target in pages.external:
            print(f"{page}: {target}")
    elif sys.argv[1] != "--check":
        write(pages, pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)


if __name__ == "__main__":
    main()
