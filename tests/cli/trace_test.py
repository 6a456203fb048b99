"""Recorded traces of every kind that stacks write, made here from seeds: what the program reads, rates and judges."""
import csv
import io
import json
import math
import random
import re
import struct
import unittest

from program import Cli, ROOT, main, misa, strict_json, tensors

DIM, HEADS = 32, 4
RUN = ["--samples", "1", "--warm-up", "0"]


def write_trace(path, metadata, parts):
    """parts: name -> (dtype, shape, bytes)."""
    order = sorted(parts, key=lambda name: ({"F8_E4M3": 1, "U8": 1, "F16": 2, "BF16": 2}.get(parts[name][0], 4) * -1,
                                            name))
    header, offset = {"__metadata__": {"format": "misa-trace/1", "provenance": "synthetic", **metadata}}, 0
    for name in order:
        dtype, shape, data = parts[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts[name][2] for name in order))
    return path


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def integers(values):
    return struct.pack(f"<{len(values)}i", *values)


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Problem:
    """f32 queries and keys of one sequence, with the scores of every row in double."""

    def __init__(self, seed, rows, keys):
        draw = random.Random(seed)
        self.seed, self.rows, self.keys = seed, rows, keys
        self.q = [single(draw.gauss(0, 1)) for _ in range(rows * HEADS * DIM)]
        self.weights = [single(draw.gauss(0, 1)) for _ in range(rows * HEADS)]
        self.k = [single(draw.gauss(0, 1)) for _ in range(keys * DIM)]
        self.ke = [keys - rows + 1 + row for row in range(rows)]

    def score(self, row, key):
        total = 0.0
        for head in range(HEADS):
            at = (row * HEADS + head) * DIM
            product = math.fsum(self.q[at + d] * self.k[key * DIM + d] for d in range(DIM))
            total += self.weights[row * HEADS + head] * max(product, 0.0)
        return total

    def ranked(self, row):
        """Tokens of a row, the highest score first, ties to the lower token."""
        scores = [self.score(row, key) for key in range(self.ke[row])]
        return sorted(range(self.ke[row]), key=lambda key: (-scores[key], key))

    def parts(self, **more):
        return {"q": ("F32", [self.rows, HEADS, DIM], floats(self.q)),
                "weights": ("F32", [self.rows, HEADS], floats(self.weights)),
                "k": ("F32", [self.keys, DIM], floats(self.k)),
                "ks": ("I32", [self.rows], integers([0] * self.rows)),
                "ke": ("I32", [self.rows], integers(self.ke)),
                "q_pos": ("I32", [self.rows], integers([end - 1 for end in self.ke])), **more}


def topk_part(rows, columns):
    padded = [list(row) + [-1] * (columns - len(row)) for row in rows]
    return ("I32", [len(rows), columns], integers(sum(padded, [])))


class RecordedTopK(Cli):
    def trace(self, chosen, columns=16, seed=1, metadata=None, **more):
        """A trace whose rows recorded chosen(problem, row)."""
        problem = Problem(seed, 3, 90)
        rows = [chosen(problem, row) for row in range(problem.rows)]
        path = write_trace(self.folder / "recorded.safetensors", metadata or {},
                           problem.parts(topk=topk_part(rows, columns), **more))
        return problem, path

    def compared(self, path, status, *options):
        result = misa("compare", "--trace", path, "--indexer", "dsa", "--format", "json", *options)
        self.assertEqual(result.returncode, status, result.stderr)
        report = strict_json(result.stdout)
        case = report["cases"][-1]
        self.assertEqual(case["indexer"], "recorded topk")
        return case, result.stderr

    def test_the_right_selection_is_found_right_whatever_the_order_of_its_ids(self):
        # By score, as stacks write it; the columns are k, for nothing else says what k is.
        _, path = self.trace(lambda problem, row: problem.ranked(row)[:16])
        report = strict_json(self.succeeds("profile", "--trace", path, *RUN, "--format", "json"))
        self.assertEqual(report["workload"]["top_k"], 16)
        self.assertEqual(report["workload"]["top_k_source"], "recorded")
        self.assertEqual(report["recorded_topk"]["top_k"], 16)
        self.assertEqual(report["recorded_topk"]["quality"]["rows"], 3)
        self.assertEqual(report["recorded_topk"]["quality"]["recall"]["worst"], 1)
        case, _ = self.compared(path, 0)
        self.assertEqual(case["verdict"], "passed")
        self.assertEqual(case["choices"][0]["verdicts"]["exact"], 3)
        self.assertEqual(case["choices"][0]["differing"], 0)
        self.assertEqual(case["quality"]["recall"]["mean"], 1)

    def test_the_worst_tokens_are_rated_0_in_every_format_and_are_misses(self):
        _, path = self.trace(lambda problem, row: problem.ranked(row)[-16:])
        report = strict_json(self.succeeds("profile", "--trace", path, *RUN, "--format", "json"))
        self.assertEqual(report["recorded_topk"]["quality"]["recall"]["mean"], 0)
        lines = self.succeeds("profile", "--trace", path, *RUN, "--format", "jsonl").splitlines()
        self.assertEqual(strict_json(lines[-1])["recorded_topk"]["quality"]["recall"]["mean"], 0)
        for style in ("table", "md"):
            text = self.succeeds("profile", "--trace", path, *RUN, "--format", style)
            self.assertRegex(text, r"recorded topk [ |]*not timed.*0\.0000")
            self.assertRegex(text, "top-k 16 as the recorded topk has")
        rows = list(csv.DictReader(io.StringIO(self.succeeds("profile", "--trace", path, *RUN, "--format", "csv"),
                                               newline="")))
        rated = [row for row in rows if row["indexer"] == "recorded topk"]
        self.assertEqual([float(row["recall_mean"]) for row in rated], [0])
        self.assertEqual((rated[0]["top_k"], rated[0]["top_k_used"]), ("16", "16"))

        case, message = self.compared(path, 7)
        self.assertEqual(case["verdict"], "inconclusive")
        self.assertEqual(case["choices"][0]["verdicts"]["unknown"], 3)
        self.assertEqual((case["choices"][0]["differing"], case["choices"][0]["missed"]), (3, 0))
        self.assertRegex(message, "MP-E612.*recorded topk: .*; try: --arithmetic NAME")
        case, message = self.compared(path, 1, "--arithmetic", "bf16-result")
        self.assertEqual(case["verdict"], "failed")
        self.assertEqual((case["parameters"]["top_k"], case["used"]["top_k"]), (16, 16))
        self.assertEqual(case["choices"][0]["verdicts"]["miss"], 3)
        self.assertEqual(case["quality"]["recall"]["mean"], 0)
        self.assertIn("MP-E610", message)
        self.assertRegex(message, "recorded topk: .*; try: docs/traces.md, What goes wrong when recording$")
        for style in ("table", "junit"):
            result = misa("compare", "--trace", path, "--indexer", "dsa", "--format", style)
            self.assertEqual(result.returncode, 7)
            self.assertIn("recorded topk", result.stdout)
            self.assertIn("what rounding explains is not known", re.sub(r"\s+", " ", result.stdout))

    def test_of_another_k_the_recorded_selection_is_rated_against_dsa_of_its_own(self):
        _, path = self.trace(lambda problem, row: problem.ranked(row)[:16])
        report = strict_json(self.succeeds("profile", "--trace", path, *RUN, "--top-k", "5", "--format", "json"))
        self.assertEqual(report["workload"]["top_k"], 5)
        self.assertEqual(report["workload"]["top_k_source"], "option")
        self.assertEqual(report["recorded_topk"]["top_k"], 16)
        self.assertEqual(report["recorded_topk"]["quality"]["recall"]["mean"], 1)
        case, _ = self.compared(path, 0, "--top-k", "5")
        self.assertEqual(case["parameters"]["top_k"], 16)

    def test_a_difference_that_rounding_explains_is_shown_with_its_gap_and_passes_unless_the_arithmetic_is_finer(self):
        # The first token left out takes the place of the last that belongs: found by search, so that they are close.
        for seed in range(1, 200):
            problem = Problem(seed, 3, 90)
            ranked = [problem.ranked(row) for row in range(3)]
            gaps = [problem.score(row, ranked[row][15]) - problem.score(row, ranked[row][16]) for row in range(3)]
            if 1e-4 < min(gaps) < 0.02:
                break
        row = gaps.index(min(gaps))
        swapped = lambda problem, r: ranked[r][:15] + [ranked[r][16]] if r == row else ranked[r][:16]
        _, path = self.trace(swapped, seed=seed)
        case, _ = self.compared(path, 7)
        self.assertEqual(case["choices"][0]["verdicts"]["unknown"], 1, f"seed {seed}")
        self.assertIsNone(case["choices"][0]["differences"][0]["bound"])
        case, _ = self.compared(path, 0, "--arithmetic", "bf16-result")
        choice = case["choices"][0]
        self.assertEqual(choice["verdicts"]["exact"], 2, f"seed {seed}")
        self.assertEqual(choice["verdicts"]["within_bound"], 1)
        self.assertEqual(choice["differing"], 1)
        found = choice["differences"][0]
        self.assertEqual((found["row"], found["tokens"], found["token"]), (row, 1, ranked[row][16]))
        self.assertEqual((found["id"], found["rank"]), (ranked[row][16], 16))
        self.assertAlmostEqual(found["gap"], gaps[row], places=9)
        self.assertGreater(found["bound"], found["gap"])
        table = misa("compare", "--trace", path, "--indexer", "dsa").stdout
        self.assertRegex(table, f"differs: .*row {row}")
        _, path = self.trace(swapped, seed=seed, metadata={"topk_arithmetic": "f32"})
        case, _ = self.compared(path, 1)
        self.assertEqual(case["choices"][0]["missed"], 1)
        case, _ = self.compared(path, 0, "--arithmetic", "bf16")  # an option wins over what the trace says
        self.assertEqual(case["choices"][0]["verdicts"]["within_bound"], 1)

    def test_an_unknown_arithmetic_is_refused_with_the_known_ones(self):
        _, path = self.trace(lambda problem, row: problem.ranked(row)[:16], metadata={"topk_arithmetic": "fp7"})
        self.fails(3, "MP-E213.*fp7.*try: .*fp8-mma", "inspect", path)

    def test_too_few_tokens_are_a_violation_and_rows_without_a_selection_do_not_count(self):
        _, path = self.trace(lambda problem, row: problem.ranked(row)[:15])
        case, _ = self.compared(path, 1)
        self.assertEqual(case["choices"][0]["violations"][0]["fault"], "truncated")
        problem = Problem(1, 3, 90)
        path = write_trace(self.folder / "some.safetensors", {},
                           problem.parts(topk=topk_part([problem.ranked(2)[:16]], 16),
                                         topk_row=("I32", [1], integers([2]))))
        case, _ = self.compared(path, 0)
        self.assertEqual(case["choices"][0]["rows"], 1)
        other = write_trace(self.folder / "first.safetensors", {},
                            problem.parts(topk=topk_part([problem.ranked(0)[:16]], 16),
                                          topk_row=("I32", [1], integers([0]))))
        few = strict_json(self.succeeds("profile", "--trace", other, *RUN, "--rows", "1", "--format", "json"))
        self.assertIsNone(few["recorded_topk"])
        self.assertIn("MP-W021", [warning["id"] for warning in few["warnings"]])
        self.assertEqual(few["workload"]["top_k"], 16)
        heads = strict_json(self.succeeds("compare", "--trace", path, "--indexer", "misa", "--active-heads", "2",
                                          "--stages", "heads", "--format", "json"))
        self.assertEqual([case["indexer"] for case in heads["cases"]], ["misa"])  # a case that judges nothing is none
        self.assertIn("MP-W021", [warning["id"] for warning in heads["warnings"]])
        report = strict_json(self.succeeds("profile", "--trace", path, *RUN, "--format", "json"))
        self.assertEqual(report["recorded_topk"]["quality"]["rows"], 1)
        self.assertEqual(report["recorded_topk"]["quality"]["recall"]["mean"], 1)

    def test_it_is_rated_beside_indexers_too_and_a_trace_without_one_has_none(self):
        problem, path = self.trace(lambda problem, row: problem.ranked(row)[-16:])
        result = misa("compare", "--trace", path, "--indexer", "misa", "--against-indexer", "dsa", "--active-heads", "2",
                      "--format", "json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(strict_json(result.stdout)["cases"][-1]["quality"]["recall"]["mean"], 0)
        path = write_trace(self.folder / "none.safetensors", {"index_topk": "7"}, problem.parts())
        report = strict_json(self.succeeds("profile", "--trace", path, *RUN, "--format", "json"))
        self.assertIsNone(report["recorded_topk"])
        self.assertEqual((report["workload"]["top_k"], report["workload"]["top_k_source"]), (7, "index_topk"))


def fp8_value(code):
    exponent, fraction = code >> 3 & 15, code & 7
    size = fraction / 8 * 2.0 ** -6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if code & 128 else size


class Scales(Cli):
    def test_pages_with_four_equal_ue8m0_bytes_select_what_f32_scales_do(self):
        draw, size, pages, dim = random.Random(5), 16, 6, 64
        codes = [code for code in range(256) if code & 127 != 127]
        lengths = [70, 33]
        table = [3, 0, 5, 1, 4, 2, 5, 0, -1, -1]
        values = [[draw.choice(codes) for _ in range(size * dim)] for _ in range(pages)]
        exponents = [[draw.randrange(115, 124) for _ in range(size)] for _ in range(pages)]
        q = [draw.choice(codes) for _ in range(2 * HEADS * dim)]
        weights = [single(draw.gauss(0, 1)) for _ in range(2 * HEADS)]

        def trace(name, scale, metadata):
            body = b"".join(bytes(values[page]) + b"".join(scale(exponent) for exponent in exponents[page])
                            for page in range(pages))
            return write_trace(self.folder / name, metadata, {
                "q": ("F8_E4M3", [2, HEADS, dim], bytes(q)), "weights": ("F32", [2, HEADS], floats(weights)),
                "k_pages": ("U8", [pages, size, dim + 4], body), "block_table": ("I32", [2, 5], integers(table)),
                "seq_lens": ("I32", [2], integers(lengths))})

        def selected(path, warned):
            chosen = self.folder / (path.stem + ".selected.safetensors")
            result = misa("profile", "--trace", path, *RUN, "--indexer", "dsa", "--top-k", "9", "--dump-selection",
                          chosen, "--format", "json")
            self.assertEqual(result.returncode, 0, result.stderr)
            ids = [warning["id"] for warning in strict_json(result.stdout)["warnings"]]
            self.assertEqual("MP-W020" in ids, warned)
            return tensors(chosen)["out.topk"][2]

        four = lambda exponent: bytes([exponent] * 4)
        plain = selected(trace("f32.safetensors", lambda e: floats([2.0 ** (e - 127)]), {}), False)
        self.assertEqual(selected(trace("found.safetensors", four, {}), True), plain)
        self.assertEqual(selected(trace("said.safetensors", four, {"k_scale_format": "ue8m0x4"}), False), plain)
        rows = [struct.unpack("<9i", plain[36 * row:36 * row + 36]) for row in range(2)]
        for row in range(2):
            scores = []
            for token in range(lengths[row]):
                page, slot = table[5 * row + token // size], token % size
                key = [fp8_value(code) for code in values[page][slot * dim:(slot + 1) * dim]]
                score = 0.0
                for head in range(HEADS):
                    at = (row * HEADS + head) * dim
                    product = math.fsum(fp8_value(q[at + d]) * key[d] for d in range(dim))
                    score += weights[row * HEADS + head] * max(product, 0.0)
                scores.append(score * 2.0 ** (exponents[page][slot] - 127))
            self.assertEqual(list(rows[row]), sorted(sorted(range(lengths[row]), key=lambda t: (-scores[t], t))[:9]))
        mixed = lambda exponent: bytes([exponent, exponent + 1, exponent, exponent])
        self.fails(3, "MP-E253.*no quantiser", "inspect", trace("mixed.safetensors", mixed, {}))
        self.fails(3, "MP-E254.*32 numbers", "inspect",
                   trace("mixed.safetensors", mixed, {"k_scale_format": "ue8m0x4"}))


class CompressedKeys(Cli):
    """One key for every four tokens, as DeepSeek-V4 has them: a row at position p sees floor((p + 1) / 4) keys."""

    def trace(self, name, metadata, positions):
        problem = Problem(11, len(positions), 40)
        problem.ke = [(position + 1) // 4 for position in positions]
        counted = positions if "compress_ratio" in metadata else [end - 1 for end in problem.ke]
        topk = topk_part([problem.ranked(row)[:8] for row in range(problem.rows)], 8)
        return write_trace(self.folder / name, metadata,
                           problem.parts(topk=topk, q_pos=("I32", [len(positions)], integers(counted))))

    def test_positions_count_tokens_where_the_ratio_is_given_and_keys_where_it_is_not(self):
        for name, metadata, positions in (("tokens", {"compress_ratio": "4"}, [0, 2, 3, 17, 100, 159]),
                                          ("keys", {}, [3, 17, 100, 159])):
            with self.subTest(name):
                path = self.trace(name + ".safetensors", metadata, positions)
                self.succeeds("inspect", path)
                result = misa("compare", "--trace", path, "--indexer", "dsa,misa", "--active-heads", "2", "--format",
                              "json")
                self.assertEqual(result.returncode, 0, result.stderr)
                case = strict_json(result.stdout)["cases"][-1]
                self.assertEqual(case["choices"][0]["verdicts"]["exact"], 4)

    def test_a_last_sequence_without_a_whole_key_begins_where_the_keys_end(self):
        problem = Problem(12, 3, 40)
        begin, problem.ke = [0, 0, 40], [39, 40, 40]
        path = write_trace(self.folder / "short.safetensors", {"compress_ratio": "4", "index_topk": "8"},
                           problem.parts(ks=("I32", [3], integers(begin)),
                                         q_pos=("I32", [3], integers([155, 159, 2]))))
        self.succeeds("inspect", path)
        options = ("--active-heads", "2", "--block-size", "8", "--blocks", "3", "--candidates", "32")
        result = misa("compare", "--trace", path, "--indexer", "all", *options, "--format", "json")
        self.assertEqual(result.returncode, 0, result.stderr)
        tokens = [choice for case in strict_json(result.stdout)["cases"] for choice in case["choices"]
                  if choice["name"] == "tokens"]
        self.assertEqual({choice["verdicts"]["empty"] for choice in tokens}, {1})
        for ks, ke in ((41, 41), (40, 41), (40, 39)):
            problem.ke[2] = ke
            outside = write_trace(self.folder / "outside.safetensors", {"compress_ratio": "4"},
                                  problem.parts(ks=("I32", [3], integers([0, 0, ks])),
                                                q_pos=("I32", [3], integers([155, 159, 2]))))
            self.fails(3, "MP-E23[01]", "inspect", outside)

    def test_a_recorded_selection_of_rows_that_see_nothing_is_rated_as_nothing(self):
        problem = Problem(13, 3, 40)
        problem.ke = [0, 0, 25]
        path = write_trace(self.folder / "blind.safetensors", {"compress_ratio": "4", "index_topk": "8"},
                           problem.parts(topk=topk_part([[], []], 8), topk_row=("I32", [2], integers([0, 1])),
                                         q_pos=("I32", [3], integers([0, 2, 100]))))
        for against in ((), ("--against-indexer", "dsa")):
            with self.subTest(against):
                result = misa("compare", "--trace", path, "--indexer", "misa", "--active-heads", "2", *against,
                              "--format", "json")
                self.assertEqual(result.returncode, 5, result.stderr)
                case = strict_json(result.stdout)["cases"][-1]
                self.assertEqual((case["indexer"], case["verdict"]), ("recorded topk", "nothing"))
                self.assertIn("no row with a recorded selection sees a token", case["explanation"])

    def test_a_window_that_is_not_the_positions_is_refused_with_the_ratio(self):
        problem = Problem(11, 1, 40)
        problem.ke = [5]
        path = write_trace(self.folder / "wrong.safetensors", {"compress_ratio": "4"},
                           problem.parts(q_pos=("I32", [1], integers([24]))))
        self.fails(3, r"MP-E232.*ke is 5.*/ 4\) is 6.*try: q_pos in tokens", "inspect", path)


class PathsOfTheDocumentation(Cli):
    """A folder that has no profiles/ finds those that came with the program."""
    PLANNED = ["compare", "--rows", "16", "--indexer", "dsa", "--dry-run"]

    def planned(self, *arguments):
        result = misa(*self.PLANNED, *arguments, cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_profiles_are_found_by_their_path_from_another_folder(self):
        plan = self.planned()
        self.assertEqual(self.planned("--trace", "profiles/traces/learned-32k-h64.safetensors"), plan)
        self.assertEqual(self.planned("--against", "profiles/goldens"), self.planned("--against", ROOT / "profiles/goldens"))

    def test_a_file_of_ones_own_goes_before_them(self):
        own = self.folder / "profiles" / "goldens"
        own.mkdir(parents=True)
        result = misa(*self.PLANNED, "--against", "profiles/goldens/dsa.safetensors", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        (own / "dsa.safetensors").write_bytes(b"none")
        result = misa(*self.PLANNED, "--against", "profiles/goldens/dsa.safetensors", cwd=self.folder)
        self.assertEqual(result.returncode, 3, result.stderr)

    def test_what_did_not_come_with_the_program_is_named_as_it_was_given(self):
        result = misa("compare", "--against", "profiles/none", cwd=self.folder)
        self.assertEqual(result.returncode, 3)
        self.assertIn("MP-E606: 'profiles/none'", result.stderr)


class Needles(Cli):
    def shown(self, columns, needle):
        """profile of a trace whose row 0 asks for tokens that dsa selects in part."""
        problem = Problem(21, 1, 60)
        best = problem.ranked(0)[0]
        start = min(max(0, best - 4), 50)
        planted = [start, 9, 59, 1] + ([best, 1] if needle == "answer" else [])
        path = write_trace(self.folder / "needle.safetensors", {"index_topk": "3"},
                           problem.parts(needle=("I32", [1, columns], integers(planted))))
        report = strict_json(self.succeeds("profile", "--trace", path, *RUN, "--indexer", "dsa", "--format", "json"))
        table = self.succeeds("profile", "--trace", path, *RUN, "--indexer", "dsa")
        quality = report["cases"][0]["quality"]
        lines = self.succeeds("profile", "--trace", path, *RUN, "--indexer", "dsa", "--format", "csv")
        last = list(csv.DictReader(io.StringIO(lines, newline="")))[-1]
        for rate in ("needle_hit_rate", "reference_needle_hit_rate"):
            self.assertEqual(float(last[rate]), quality[rate])
        return quality, table

    def test_the_answers_tokens_count_and_without_them_no_rate_that_dsa_fails_is_shown(self):
        quality, table = self.shown(6, "answer")
        self.assertEqual((quality["needle_hit_rate"], quality["needle_answer_cells"]), (1, 1))
        self.assertRegex(table, r"needles\n.*dsa.*100\.0 %")
        self.assertNotIn("not shown", table)
        quality, table = self.shown(4, "sentence")
        self.assertEqual((quality["needle_hit_rate"], quality["needle_answer_cells"]), (0, 0))
        self.assertEqual(quality["reference_needle_hit_rate"], 0)
        self.assertNotRegex(table, r"needles\n")
        self.assertRegex(table, "needles are not shown: dsa itself selects 0 of 1, and the workload does not say which")


if __name__ == "__main__":
    main()
