#!/usr/bin/env python3
"""What scripts/site_pages.py makes of the pages, and what it and scripts/check_site.py find wrong, without a generator.

usage: site_test.py  [unittest arguments]
"""
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_site  # noqa: E402
import site_pages  # noqa: E402

PAGES = {
    "README.md": "# Front\n\n[one](docs/one.md) ![drawn](docs/drawn.svg)\n",
    "docs/README.md": "# All\n\n## First\n\n- [One](one.md): a page\n\n## Second\n\n- [Notes](notes/README.md)\n",
    "docs/one.md": "# One\n\n## A `--part` of it\n\n[back](../README.md), [here](#a---part-of-it), [notes](notes/), "
                   "[code](../code.py)\n\n    [no](link.md)\n\n`[none](either.md)`\n",
    "docs/notes/README.md": "# Notes\n\n| | |\n|---|---|\n| [first](first.md) | [one](../one.md#a---part-of-it) |\n",
    "docs/notes/first.md": "# The first\n\n[elsewhere](https://example.com/a)\n",
    "docs/drawn.svg": "<svg/>",
    "code.py": "print('```')\n",
}
PAGE = ('<html><body><div class="sidebar-tree"><a href="other.html">other</a></div>'
        '<a href="other.html#there">a part</a><img src="drawn.svg" alt="words"></body></html>')


class Folder(unittest.TestCase):
    def setUp(self):
        kept = tempfile.TemporaryDirectory(prefix="misa site ")
        self.addCleanup(kept.cleanup)
        self.folder = pathlib.Path(kept.name)

    def put(self, files):
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)


class Pages(Folder):
    def wrong(self, **changes):
        self.put({**PAGES, **{name.replace("__", "/") + ".md": text for name, text in changes.items()}})
        return site_pages.Pages(self.folder).wrong

    def test_every_page_of_the_project_is_in_the_navigation_and_every_link_has_its_target(self):
        pages = site_pages.Pages()
        self.assertEqual(pages.wrong, [])
        self.assertGreater(len(pages.texts), 60)
        self.assertEqual(list(pages.navigation),
                         ["Start", "Use", "Understand", "Extend", "Reference", "Decisions", "Measurements"])

    def test_links_are_found_but_not_in_code(self):
        self.assertEqual(self.wrong(), [])
        pages = site_pages.Pages(self.folder)
        self.assertEqual(pages.files, {"code.py"})
        self.assertEqual(pages.external, [("docs/notes/first.md", "https://example.com/a")])
        self.assertEqual(pages.below("docs/notes/README.md"), [("The first", "docs/notes/first.md")])

    def test_each_fault_is_named(self):
        lost, = self.wrong(docs__lost="# Lost\n")
        self.assertTrue(lost.startswith("docs/lost.md: no navigation has it"), lost)
        (self.folder / "docs/lost.md").unlink()
        one = PAGES["docs/one.md"]
        self.assertEqual(self.wrong(docs__one=one + "[gone](gone.md)\n"), ["docs/one.md: there is no gone.md"])
        self.assertEqual(self.wrong(docs__one=one + "[gone](notes/first.md#gone)\n"),
                         ["docs/one.md: docs/notes/first.md has no heading #gone"])
        self.assertEqual(self.wrong(docs__README=PAGES["docs/README.md"] + "- [Again](one.md)\n"),
                         ["docs/one.md: the navigation has it twice"])

    def test_anchors_are_those_of_code_hosts(self):
        self.assertEqual(site_pages.anchors("# Peaks and `% roof`\n\n## [A link](b.md), twice\n\n## A link, twice\n"),
                         {"peaks-and--roof", "a-link-twice", "a-link-twice-1"})

    def test_links_of_the_site_lead_to_pages_of_the_site(self):
        self.put(PAGES)
        site_pages.write(site_pages.Pages(self.folder), self.folder / "site", None)
        one = (self.folder / "site/docs/one.md").read_text()
        for link in ("[back](../index.md)", "[here](#a---part-of-it)", "[notes](notes/README.md)",
                     "[code](../files/code.py.md)"):
            self.assertIn(link, one)
        self.assertIn("    [no](link.md)", one)
        self.assertIn("````python\nprint('```')\n````", (self.folder / "site/files/code.py.md").read_text())
        front = (self.folder / "site/index.md").read_text()
        self.assertLess(front.index(":caption: First\nOne </docs/one>"), front.index("Notes </docs/notes/README>"))
        self.assertTrue((self.folder / "site/docs/drawn.svg").is_file())

    def test_the_man_page_becomes_headings_lists_and_blocks(self):
        page = site_pages.manual(".SH MISA\\-PROF profile\nTimes indexers.\n.PP\nWorkload:\n.TP\n"
                                 "\\fB\\-\\-rows\\fR \\fIN\\fR\nQuery rows.\n.nf\n.sp\n"
                                 "Examples:\n  misa\\-prof profile\n.fi\n")
        self.assertIn("\n## misa-prof profile\n", page)
        self.assertIn("\nWorkload:\n- `--rows` *N*: \n  Query rows.\n", page)
        self.assertIn("```\nExamples:\n  misa-prof profile\n```\n", page)


class Site(Folder):
    def found(self, **changes):
        self.put({"index.html": PAGE, "other.html": '<p id="there">words</p>', "drawn.svg": "<svg/>",
                  **{name.replace("_", "."): text for name, text in changes.items()}})
        return check_site.wrong_of(self.folder)[0]

    def test_a_site_without_fault_has_none(self):
        self.assertEqual(self.found(), [])

    def test_each_fault_is_named(self):
        self.assertEqual(self.found(lost_html="<p>lost</p>"), ["lost.html: the navigation does not have it"])
        (self.folder / "lost.html").unlink()
        for fault, named in (('<a href="gone.html">gone</a>', "there is no gone.html"),
                             ('<a href="other.html#gone">gone</a>', "other.html#gone has no such anchor"),
                             ('<script src="https://example.com/a.js"></script>', "loads https://example.com/a.js"),
                             ('<link rel="stylesheet" href="//example.com/a.css">', "loads //example.com/a.css"),
                             ('<img src="drawn.svg">', "the picture drawn.svg has no words for who cannot see it")):
            self.assertEqual(self.found(index_html=PAGE + fault), [f"index.html: {named}"])
        style = "@import 'https://example.com/b.css'; a { background: url(https://example.com/c) }"
        self.assertEqual(self.found(index_html=PAGE, a_css=style),
                         ["a.css: loads https://example.com/b.css", "a.css: loads https://example.com/c"])


if __name__ == "__main__":
    unittest.main()
