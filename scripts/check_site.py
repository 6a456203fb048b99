#!/usr/bin/env python3
"""Reads a site of static pages and says what in it is wrong.

usage: scripts/check_site.py FOLDER

Every page must be reachable from the navigation of index.html; every link within the site must have its file and its
anchor; nothing may be loaded from elsewhere; every picture has words. Exit status 1 if anything is wrong.
"""
import html.parser
import pathlib
import re
import sys
import urllib.parse

LOADERS = ("script", "img", "iframe", "source", "video", "audio", "embed")


class Page(html.parser.HTMLParser):
    """Links, anchors and what is loaded of one page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.loads, self.mute, self.navigation, self.depth = [], set(), [], [], set(), 0
        self.title = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if given.get("id"):
            self.anchors.add(given["id"])
        if tag == "div" and (self.depth or "sidebar-tree" in (given.get("class") or "").split()):
            self.depth += 1
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
            if self.depth:
                self.navigation.add(given["href"])
        if tag == "link" and {"stylesheet", "icon", "preload"} & set((given.get("rel") or "").split()):
            self.loads.append(given.get("href") or "")
        if tag in LOADERS and given.get("src"):
            self.loads.append(given["src"])
        if tag == "img" and not given.get("alt"):
            self.mute.append(given.get("src") or "")

    def handle_endtag(self, tag):
        if tag == "div" and self.depth:
            self.depth -= 1


def elsewhere(target):
    return bool(re.match(r"(?:[a-z][a-z0-9+.-]*:|//)", target)) and not target.startswith("data:")


def wrong_of(folder):
    """A line for each thing that is wrong, and the number of pages and links that were looked at."""
    pages = {path.relative_to(folder).as_posix(): Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    found, links = [], 0

    def target_of(page, target):
        parts = urllib.parse.urlsplit(target)
        path = urllib.parse.unquote(parts.path)
        whole = (folder / page).parent / path if path else folder / page
        return pathlib.Path(re.sub(r"/index\.html$|/$", "/index.html", str(whole.resolve()))), parts.fragment

    for name, page in pages.items():
        for target in page.links + page.loads:
            links += 1
            if elsewhere(target):
                if target in page.loads:
                    found.append(f"{name}: loads {target}")
                continue
            if target.startswith("data:"):
                continue
            path, anchor = target_of(name, target)
            if not path.is_file():
                found.append(f"{name}: there is no {target}")
            elif anchor and path.suffix == ".html":
                there = pages[path.relative_to(folder.resolve()).as_posix()]
                if urllib.parse.unquote(anchor) not in there.anchors:
                    found.append(f"{name}: {target} has no such anchor")
        found += [f"{name}: the picture {one} has no words for who cannot see it" for one in page.mute]
    for style in sorted(folder.rglob("*.css")):
        for target in re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", style.read_text()):
            if elsewhere(target[0] or target[1]):
                found.append(f"{style.relative_to(folder)}: loads {target[0] or target[1]}")
    reached = {target_of("index.html", target)[0] for target in pages["index.html"].navigation}
    for name in pages:
        if (folder / name).resolve() not in reached and name not in ("index.html", "search.html", "404.html"):
            found.append(f"{name}: the navigation does not have it")
    return found, len(pages), links


def main():
    found, pages, links = wrong_of(pathlib.Path(sys.argv[1]))
    for line in found:
        print(line, file=sys.stderr)
    print(f"{pages} pages, {links} links, {len(found)} wrong")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
