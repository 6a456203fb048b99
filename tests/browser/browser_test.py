#!/usr/bin/env python3
"""Opens the pages of `misa-prof report` in a headless Chromium: what it draws, loads, runs, and what axe finds.

usage: browser_test.py BINARY [EMULATOR...]  [-- unittest arguments]

Screenshots go to MISA_SCREENSHOTS, or build/screenshots: look at them after changing a drawing. axe-core comes from
the wheel of requirements.txt, which is fetched once to build/axe.
"""
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from program import FAST, ROOT, Cli, main, misa, needs  # noqa: E402
from browser import Browser, axe_run, axe_source, found  # noqa: E402

WIDE, NARROW = 1280, 375
SCREENSHOTS = pathlib.Path(os.environ.get("MISA_SCREENSHOTS", ROOT / "build" / "screenshots"))
SAMPLES = ROOT / "docs" / "pictures"


class Pages(Cli):
    @classmethod
    def setUpClass(cls):
        cls.browser, cls.pages = None, {}
        if not found():
            return
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        kept = tempfile.TemporaryDirectory(prefix="misa pages ")
        cls.addClassCleanup(kept.cleanup)
        folder = pathlib.Path(kept.name)
        for name, words in (("profile", ["profile", "--rows", "16", *FAST[4:], "--indexer", "all"]),
                            ("compare", ["compare", *FAST[:4]])):
            made = misa(*words, "-o", f"html:{folder / name}.html")
            assert made.returncode == 0, made.stderr
            cls.pages[name] = folder / f"{name}.html"
        for sample in sorted(SAMPLES.glob("*.json")):
            page = folder / f"{sample.stem}.html"
            made = misa("report", sample, "-o", page)
            assert made.returncode == 0, made.stderr
            cls.pages[sample.stem] = page

    def setUp(self):
        super().setUp()
        needs(self, self.browser is not None, "chromium and chromedriver")

    def test_pages_load_nothing_run_nothing_and_say_nothing_in_the_console(self):
        for name, page in self.pages.items():
            with self.subTest(page=name):
                self.assertEqual(self.browser.open(page), ([], []))
                self.assertEqual(self.browser.evaluate("document.scripts.length"), 0)

    def test_a_script_that_got_into_a_page_would_not_run(self):
        page = self.folder / "planted.html"
        planted = "<script>document.title = 'it ran'</script><img src='https://example.com/a.png'>"
        page.write_text(self.pages["compare"].read_text().replace("</main>", planted + "</main>"))
        console, asked = self.browser.open(page)
        self.assertNotIn("it ran", self.browser.evaluate("document.title"))
        self.assertEqual(asked, [])
        self.assertIn("Content Security Policy directive", " ".join(console))

    def test_pages_fit_a_telephone_and_are_kept_as_screenshots(self):
        for name, page in self.pages.items():
            for width in (WIDE, NARROW):
                for scheme in ("light", "dark"):
                    with self.subTest(page=name, width=width, scheme=scheme):
                        self.browser.looks(width, scheme)
                        self.browser.open(page)
                        self.assertLessEqual(self.browser.evaluate("document.documentElement.scrollWidth"), width)
                        self.browser.screenshot(SCREENSHOTS / f"{name}-{width}-{scheme}.png")
            self.browser.print(SCREENSHOTS / f"{name}.pdf")
            self.assertTrue((SCREENSHOTS / f"{name}.pdf").read_bytes().startswith(b"%PDF"))

    def test_nothing_is_drawn_outside_its_drawing(self):
        self.browser.looks(WIDE, "light")
        for name, page in self.pages.items():
            self.browser.open(page)
            outside = self.browser.evaluate("""
                [...document.querySelectorAll("svg text, svg path, svg circle, svg rect")].filter(mark => {
                  const frame = mark.ownerSVGElement.getBoundingClientRect(), box = mark.getBoundingClientRect();
                  return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
                         box.bottom > frame.bottom + 1;
                }).map(mark => mark.outerHTML)""")
            self.assertEqual(outside, [], name)

    def test_no_text_of_a_drawing_covers_another(self):
        self.browser.looks(WIDE, "light")
        for name, page in self.pages.items():
            self.browser.open(page)
            covered = self.browser.evaluate("""
                [...document.querySelectorAll("svg")].flatMap(svg => {
                  const texts = [...svg.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
                  return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([b, q]) =>
                      p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
                    .map(([b]) => a.textContent + " | " + b.textContent));
                })""")
            self.assertEqual(covered, [], name)

    def test_the_keyboard_reaches_every_table_that_scrolls(self):
        self.browser.looks(NARROW, "light")
        self.browser.open(self.pages["profile"])
        tables = self.browser.evaluate("document.querySelectorAll('.scroll').length")
        reached = set()
        for _ in range(80):
            self.browser.press("Tab")
            reached.add(self.browser.evaluate("document.activeElement.getAttribute('aria-labelledby') || ''"))
        open_tables = self.browser.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(one => one.checkVisibility()).length")
        self.assertGreater(tables, 2)
        self.assertEqual(len({one for one in reached if one.startswith("t")}), open_tables)
        moved = self.browser.evaluate("""(() => {
            const wide = [...document.querySelectorAll(".scroll")].find(one => one.scrollWidth > one.clientWidth);
            wide.focus();
            return document.activeElement === wide;
          })()""")
        self.assertTrue(moved)

    def test_axe_finds_nothing_in_light_and_dark(self):
        source = axe_source()
        if source is None:
            self.skipTest("SKIPPED: axe-core cannot be had here, so nobody looked for what it finds")
        run = axe_run(source)
        for name, page in self.pages.items():
            for scheme in ("light", "dark"):
                with self.subTest(page=name, scheme=scheme):
                    self.browser.looks(NARROW if scheme == "dark" else WIDE, scheme)
                    self.browser.open(page)
                    self.assertEqual(self.browser.evaluate(run), [])
        worse = self.folder / "worse.html"
        worse.write_text(self.pages["compare"].read_text().replace(' lang="en"', "").replace(
            "--soft:#57606a", "--soft:#ddd"))
        self.browser.looks(WIDE, "light")
        self.browser.open(worse)
        found_in_worse = " ".join(self.browser.evaluate(run))
        for fault in ("html-has-lang", "color-contrast"):
            self.assertIn(fault, found_in_worse, "axe finds a fault that was planted")


if __name__ == "__main__":
    main()
