#!/usr/bin/env python3
"""Starts the real program and reads the pages and drawings that it makes of results.

usage: report_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import collections
import copy
import html.parser
import json
import random
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as tree

from program import FAST, PROGRAM, ROOT, Cli, main, misa, tensors

HOSTILE = "</title><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>]]>"
PICTURES = ROOT / "docs" / "pictures"
VOID = {"meta", "br", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    """A page as a browser reads it: every element that opens must close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text, self.tables, self.ids = [], [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def cells(self):
        return [cell for table in self.tables for row in table for cell in row]


def hostile(value):
    """The document with a hostile text in the place of every text but those that say what it is a document of."""
    if isinstance(value, dict):
        return {key: one if key in ("schema", "schema_version", "$schema", "reference") else hostile(one)
                for key, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def places(value, path=()):
    """The path of every value within a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield (*path, key)
        yield from places(one, (*path, key))


class Report(Cli):
    made = {}  # the text of each result that a test asked for

    def result(self, *words, command="profile"):
        path = self.folder / f"{command}.json"
        words = (command, *(words or [*FAST, "--indexer", "all"]))
        if words not in self.made:
            self.made[words] = self.succeeds(*words, "-o", "json:-")
        path.write_text(self.made[words])
        return path

    def page(self, path):
        return Page(self.succeeds("report", path, "-o", "-"))

    def written(self, document, name="changed.json"):
        path = self.folder / name
        path.write_text(json.dumps(document))
        return path

    def test_a_page_is_made_of_the_document_alone_whether_at_once_or_later(self):
        for command, words in (("profile", FAST), ("compare", FAST[:4]),
                               ("niah", [*FAST[:2], "--context", "1k", "--depths", "2", "--seeds", "1", "--needles", "1"]),
                               ("sweep", [*FAST[:4], "--context", "512,1k", "--samples", "6"])):
            both = [self.folder / "a.json", self.folder / "a.html"]
            self.succeeds(command, *words, "-o", f"json:{both[0]}", "-o", both[1])
            later = self.succeeds("report", both[0], "-o", "-")
            # But for the name of the file and its own command line.
            self.assertEqual(later.replace(f"{both[0]} · ", ""), both[1].read_text())

    def test_numbers_of_the_tables_are_those_of_the_document(self):
        path = self.result()
        document, page = json.loads(path.read_text()), self.page(path)
        summary = {row[0]: row for row in page.tables[0][1:]}
        self.assertEqual(list(summary), [one["indexer"] for one in document["cases"]])
        for one in document["cases"]:
            self.assertIn(f"{one['quality']['recall']['mean']:.4f}", summary[one["indexer"]])
            time = float(summary[one["indexer"]][1])
            largest = max(case["end_to_end_ns"]["median"] for case in document["cases"])
            unit = 1e6 if largest >= 999500 else 1e3
            self.assertAlmostEqual(time, one["end_to_end_ns"]["median"] / unit, delta=0.006 * time + 0.001)
        stages = sum(len(one["stages"]) for one in document["cases"])
        self.assertEqual(len(page.tables[1]) - 1, stages)

    def test_filled_points_are_the_pareto_front(self):
        path = self.result()
        cases = [(one["end_to_end_ns"]["median"], one["quality"]["recall"]["mean"], one["indexer"])
                 for one in json.loads(path.read_text())["cases"]]
        front = {name for time, recall, name in cases
                 if not any(t <= time and r >= recall and (t, r) != (time, recall) for t, r, _ in cases)}
        drawn = tree.fromstring(self.succeeds("report", path, "--figure", "cost", "-o", "-"))
        filled = {mark[0].text.split(":")[0]: "hollow" not in mark.get("class").split()
                  for mark in drawn.iter() if "mark" in mark.get("class", "").split() and len(mark)}
        self.assertEqual(sorted(filled), sorted(name for _, _, name in cases))
        self.assertEqual({name for name, is_filled in filled.items() if is_filled}, front)

    def test_every_text_of_a_file_is_text_and_nothing_else(self):
        for path in (self.result(), self.result(*FAST[:4], command="compare")):
            shown = self.succeeds("report", self.written(hostile(json.loads(path.read_text()))), "-o", "-")
            page = Page(shown)
            self.assertEqual(page.named("script") + page.named("img"), [])
            self.assertEqual([name for _, attributes in page.elements for name in attributes if name.startswith("on")], [])
            self.assertIn(HOSTILE, "".join(page.text))
            self.assertIn(HOSTILE, page.cells())
            policy = [one["content"] for one in page.named("meta") if one.get("http-equiv")]
            self.assertEqual(policy, ["default-src 'none'; style-src 'unsafe-inline'"])
            for name in re.findall(r"drawings (.*)", self.succeeds("report", path, "-o", self.folder / "p.html"))[0].split(", "):
                changed = self.folder / "changed.json"
                if name.startswith("roofline"):
                    continue  # named after the backend, which is hostile now
                drawn = tree.fromstring(self.succeeds("report", changed, "--figure", name, "-o", "-"))
                self.assertEqual({one.tag.split("}")[1] for one in drawn.iter()}
                                 - {"svg", "title", "desc", "style", "rect", "path", "circle", "text"}, set())

    def test_a_trace_whose_model_is_a_script_is_shown_as_such(self):
        document = json.loads(self.result(*FAST).read_text())
        document["workload"]["model"] = document["workload"]["name"] = "<script>alert(1)</script>"
        shown = self.succeeds("report", self.written(document), "-o", "-")
        self.assertNotIn("<script", shown)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", shown)

    def test_whatever_a_document_lacks_there_is_a_page(self):
        document = json.loads(self.result(*FAST, "--indexer", "dsa,misa").read_text())
        draw = random.Random(5)
        paths = [path for path in places(document) if path[0] not in ("schema", "schema_version", "complete")]
        for _ in range(30):
            changed = copy.deepcopy(document)
            taken = [draw.choice(paths) for _ in range(4)]
            for path in taken:
                inner = changed
                try:
                    for key in path[:-1]:
                        inner = inner[key]
                    value = draw.choice(["gone", None, "text", -1, 1e300, [], {}, [1], True])
                    if value == "gone":
                        del inner[path[-1]]
                    else:
                        inner[path[-1]] = value
                except (KeyError, IndexError, TypeError):
                    continue
            result = misa("report", self.written(changed), "-o", "-")
            self.assertIn(result.returncode, (0, 3), f"{taken}: {result.stderr}")
            if result.returncode == 0:
                Page(result.stdout)
                self.assertNotRegex(result.stdout, r'"-?(nan|inf)')

    def test_an_interrupted_result_and_warnings_come_first(self):
        document = json.loads(self.result(*FAST).read_text())
        document["complete"] = False
        document["warnings"] = [{"id": "MP-W001", "text": "a warning of the test", "where": "here"}]
        document["skipped"] = [{"indexer": "hisa", "backend": "cpu", "reason": "a reason of the test"}]
        text = " ".join("".join(self.page(self.written(document)).text).split())
        places_of = [text.index(words) for words in ("Read these first", "not complete", "MP-W001: a warning of the test; here",
                                                     "hisa on cpu was skipped: a reason of the test", "Table 1.")]
        self.assertEqual(places_of, sorted(places_of))

    def test_tables_and_drawings_are_for_everybody(self):
        page = self.page(self.result())
        self.assertEqual(len(page.ids), len(set(page.ids)))
        self.assertEqual(page.named("html")[0]["lang"], "en")
        for one in page.named("th"):
            self.assertIn(one["scope"], ("col", "row"))
        self.assertEqual(len(page.named("caption")), len(page.named("table")))
        for one in page.named("svg"):
            self.assertEqual(one["role"], "img")
            for name in ("aria-labelledby", "aria-describedby"):
                self.assertIn(one[name], page.ids)
        for table in page.tables:
            self.assertEqual({len(row) for row in table}, {len(table[0])})

    def test_cases_of_one_indexer_are_told_apart(self):
        document = json.loads(self.result(*FAST, "--indexer", "misa").read_text())
        other = copy.deepcopy(document["cases"][0])
        other["used"]["active_heads"] = 2
        document["cases"].append(other)
        names = [row[0] for row in self.page(self.written(document)).tables[0][1:]]
        self.assertEqual(names[1], "misa, h 2")
        self.assertRegex(names[0], r"misa, h \d+")

    def test_two_hundred_cases_stay_below_two_megabytes(self):
        document = json.loads(self.result().read_text())
        document["cases"] = [copy.deepcopy(document["cases"][i % 6]) for i in range(200)]
        for i, one in enumerate(document["cases"]):
            one["used"]["candidates"] = 4096 + i
            one["end_to_end_ns"]["median"] += 1000 * i
        shown = self.succeeds("report", self.written(document), "-o", "-")
        self.assertLess(len(shown.encode()), 2e6)
        self.assertLess(shown.count("<svg"), 10)
        cost = tree.fromstring(self.succeeds("report", self.folder / "changed.json", "--figure", "cost", "-o", "-"))
        self.assertLess(sum(one.tag.endswith("}text") for one in cost.iter()), 40, "a legend of 200 names")

    def test_speed_against_context_is_that_of_the_sweep(self):
        path = PICTURES / "sweep.json"
        document, page = json.loads(path.read_text()), self.page(path)
        over_dsa = [one for one in document["crossovers"] if one["over"] == "dsa"]
        shown = [row for row in page.tables[0][1:]]
        ratios = [(one["of"], ratio) for one in over_dsa for ratio in one["ratios"]]
        self.assertGreater(len(ratios), 3)
        for (name, ratio), row in zip(ratios, shown, strict=True):
            self.assertEqual((row[0], row[1], row[4]), (name, f"{ratio['context'] // 1024}k", ratio["verdict"]))
            self.assertAlmostEqual(float(row[2]), ratio["ratio"], delta=0.006 * ratio["ratio"])
        for one in over_dsa:
            self.assertIn(one["of"], "".join(page.text))
            if one["verdict"] != "crossover":
                self.assertIn(f"{one['of']}: {one['verdict']}", "".join(page.text))
        drawn = tree.fromstring(self.succeeds("report", path, "--figure", "speed", "-o", "-"))
        tips = [one.text for one in drawn.iter() if one.tag.endswith("}title")]
        for name, ratio in ratios:
            self.assertTrue(any(tip.startswith(f"{name} at {ratio['context'] // 1024}k: ") for tip in tips))

    def test_a_needle_map_has_the_shares_of_its_document(self):
        path = PICTURES / "niah.json"
        document, page = json.loads(path.read_text()), self.page(path)
        for one, table in zip(document["maps"], page.tables[1:]):
            shown = [[float(cell.removesuffix(" %")) for cell in row[1:]] for row in table[1:]]
            for column, shares in enumerate(one["shares"]):
                for row, share in enumerate(shares):
                    self.assertAlmostEqual(shown[row][column], 100 * share, delta=0.051)

    def test_pictures_of_the_readme_are_those_of_their_results(self):
        done = subprocess.run([sys.executable, ROOT / "scripts" / "pictures.py", PROGRAM[-1], "--check"],
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for picture in re.findall(r"docs/pictures/[\w-]+\.svg", (ROOT / "README.md").read_text()):
            self.assertTrue((ROOT / picture).is_file(), picture)
            tree.parse(ROOT / picture)

    def test_two_results_give_their_difference(self):
        path = self.result(*FAST, "--indexer", "dsa,misa")
        document = json.loads(path.read_text())
        document["cases"][1]["quality"]["recall"]["mean"] -= 0.25
        changed = self.written(document)
        page = Page(self.succeeds("report", path, changed, "-o", "-"))
        rows = {row[0]: row for table in page.tables for row in table}
        self.assertEqual(next(row[3] for name, row in rows.items() if re.search("misa.*: recall$", name)), "-0.2500")
        self.assertIn("Recall has changed in 1 of 2 cases.", "".join(page.text))
        self.assertNotIn("not comparable", "".join(page.text))
        document["environment"]["cpu"] = "another <processor>"
        page = Page(self.succeeds("report", path, self.written(document), "-o", "-"))
        text = "".join(page.text)
        self.assertIn("another <processor>", text)
        self.assertIn("Times are not compared", text)
        self.assertEqual({row[5] for row in page.tables[0][1:]}, {"not comparable"})
        document["cases"] = document["cases"][:1]
        document["cases"][0]["indexer"] = "another"
        self.fails(5, "MP-E490", "report", path, self.written(document), "-o", "-")

    def test_heads_of_a_selection_are_those_that_its_rows_keep(self):
        path = self.folder / "misa.safetensors"
        self.succeeds("profile", *FAST, "--indexer", "misa", "--active-heads", "3", "--dump-selection", path, "-o",
                      self.folder / "a.json")
        _, shape, data = tensors(path)["out.heads"]
        heads = struct.unpack(f"<{shape[0] * shape[1]}i", data)
        page = self.page(path)
        shown = {int(row[0]): int(row[1]) for row in page.tables[0][1:]}
        self.assertEqual(shown, dict(collections.Counter(heads)))
        drawn = tree.fromstring(self.succeeds("report", path, "--figure", "heads", "-o", "-"))
        cells, = [one.get("d") for one in drawn.iter() if one.get("class") == "cell s0"]
        self.assertEqual(cells.count("M"), len(heads))
        self.succeeds("profile", *FAST, "--indexer", "dsa", "--dump-selection", path, "-o", self.folder / "a.json")
        self.assertIn("has no heads", "".join(self.page(path).text))

    def test_wrong_words_are_refused_with_what_to_do(self):
        path = self.result(*FAST)
        self.fails(2, "MP-E475: report needs a result; try: misa-prof profile -o json:result.json", "report")
        self.fails(2, "MP-E476", "report", path, path, path)
        self.fails(2, "MP-E477: there is no drawing 'costs'.*try: cost, stages", "report", path, "--figure", "costs")
        self.fails(2, "MP-E025", "report", path, "-o", f"html:{path}")
        self.fails(2, "MP-E054: a page has the ending .html, not '.pdf'.*try: -o html:", "report", path, "-o", "a.pdf")
        self.fails(2, "MP-E054: a drawing has the ending .svg", "report", path, "--figure", "cost", "-o", "a.html")
        self.fails(2, "MP-E023", "report", path, "-o", "html:")
        self.fails(3, "MP-E102", "report", self.folder)
        (self.folder / "empty.json").write_text("")
        self.fails(3, "MP-E485", "report", self.folder / "empty.json")
        self.fails(3, "MP-E486", "report", self.written({"schema": "another/result"}))
        self.only_files("changed.json", "empty.json", "profile.json")

    def test_the_page_has_a_name_of_its_own_where_none_is_given(self):
        path = self.result(*FAST)
        shown = misa("report", path, cwd=self.folder)
        self.assertRegex(shown.stdout, r"\Areport\.html: drawings cost, stages, .*rows\n\Z")
        self.assertEqual(misa("report", path, "--figure", "rows", cwd=self.folder).stdout, "")
        self.only_files("profile.json", "report.html", "rows.svg")


if __name__ == "__main__":
    main()
