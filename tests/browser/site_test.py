#!/usr/bin/env python3
"""Opens the site of scripts/site.sh in a headless Chromium, from the disk: what it loads, how it looks, what axe finds.

usage: site_test.py FOLDER  [unittest arguments]

Screenshots go to MISA_SCREENSHOTS, or build/screenshots/site: look at them after changing the theme or its settings.
"""
import base64
import os
import pathlib
import struct
import sys
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from browser import Browser, axe_run, axe_source, found  # noqa: E402
from program import ROOT, needs  # noqa: E402

WIDE, NARROW = 1280, 375
SCREENSHOTS = pathlib.Path(os.environ.get("MISA_SCREENSHOTS", ROOT / "build" / "screenshots" / "site"))
LOOKED_AT = ["index.html", "docs/tutorial.html", "docs/diff.html", "docs/own-kernel.html", "search.html"]
SITE = pathlib.Path()


class Site(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = None
        if found():
            cls.browser = Browser()
            cls.addClassCleanup(cls.browser.close)
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def setUp(self):
        needs(self, self.browser is not None, "chromium and chromedriver")

    def open(self, page):
        """Opens a page, which must say nothing in the console and load nothing but files of the site."""
        console, asked = self.browser.open(SITE / page)
        self.assertEqual(console, [], page)
        self.assertEqual([one for one in asked if not one.startswith((SITE.as_uri(), "data:"))], [], page)

    def pixel(self, x, y):
        """The colour of a point of the window."""
        point = {"x": x, "y": y, "width": 1, "height": 1, "scale": 1}
        shot = self.browser.command("Page.captureScreenshot", clip=point)
        data, at, packed = base64.b64decode(shot["data"]), 8, b""
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at:at + 8])
            packed += data[at + 8:at + 8 + length] if kind == b"IDAT" else b""
            at += 12 + length
        return tuple(zlib.decompress(packed)[1:4])  # the first byte names a filter, which changes no single point

    def test_every_page_fits_a_telephone_says_nothing_and_loads_nothing_from_elsewhere(self):
        self.browser.looks(NARROW, "light")
        pages = [page.relative_to(SITE).as_posix() for page in sorted(SITE.rglob("*.html"))]
        self.assertGreater(len(pages), 50)
        for page in pages:
            with self.subTest(page=page):
                self.open(page)
                self.assertLessEqual(self.browser.evaluate("document.documentElement.scrollWidth"), NARROW)

    def test_the_search_finds_pages_without_a_server(self):
        self.browser.looks(WIDE, "light")
        self.browser.send("POST", "/url", {"url": (SITE / "search.html").as_uri() + "?q=crossover"})
        found_pages = self.browser.evaluate("""new Promise(done => {
            const look = tries => {
              const links = [...document.querySelectorAll("#search-results li a")].map(link => link.href);
              const ended = /found \\d+ pages/.test(document.querySelector(".search-summary")?.textContent);
              ended || !tries ? done(links) : setTimeout(look, 50, tries - 1);
            };
            look(100);
          })""")
        self.assertTrue(any("docs/sweep.html" in one for one in found_pages), found_pages)

    def test_pictures_follow_the_scheme_of_the_system_and_the_one_that_the_reader_chooses(self):
        where = "[document.querySelector('img').getBoundingClientRect()].flatMap(box => [box.x + 3, box.y + 3])"
        for system in ("light", "dark"):
            self.browser.looks(WIDE, system)
            self.open("index.html")
            for chosen in ("light", "dark", "auto"):
                self.browser.evaluate(f"document.body.dataset.theme = '{chosen}'")
                scheme = system if chosen == "auto" else chosen
                with self.subTest(system=system, chosen=chosen):
                    self.assertEqual(self.pixel(*self.browser.evaluate(where)),
                                     (255, 255, 255) if scheme == "light" else (13, 17, 23))

    def test_the_keyboard_skips_to_the_text_and_reaches_search_and_navigation(self):
        self.browser.looks(WIDE, "light")
        self.open("docs/sweep.html")
        reached = []
        for _ in range(8):
            self.browser.press("Tab")
            reached.append(self.browser.evaluate("document.activeElement.outerHTML"))
        self.assertIn("skip-to-content", reached[0])
        self.assertTrue(any("sidebar-search" in one for one in reached), reached)
        self.assertTrue(any('href="tutorial.html"' in one for one in reached), reached)

    def test_axe_finds_nothing_and_pages_are_kept_as_screenshots(self):
        source = axe_source()
        for page in LOOKED_AT:
            for width, scheme in ((WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")):
                with self.subTest(page=page, width=width, scheme=scheme):
                    self.browser.looks(width, scheme)
                    self.open(page)
                    name = page.replace("/", "-").removesuffix(".html")
                    self.browser.screenshot(SCREENSHOTS / f"{name}-{width}-{scheme}.png", whole=False)
                    # What it finds in one width or scheme alone, it finds in one of these two.
                    if source and (width == WIDE) == (scheme == "light"):
                        self.assertEqual("\n".join(self.browser.evaluate(axe_run(source))), "")
        if source is None:
            self.skipTest("SKIPPED: axe-core cannot be had here, so nobody looked for what it finds")


if __name__ == "__main__":
    SITE = pathlib.Path(sys.argv[1]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
