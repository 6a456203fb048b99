"""What a user's own kernel selected, from files that need not know of this program, judged by the formulas."""
import json
import random
import re
import struct

from program import ROOT, Cli, main, misa, strict_json
from trace_test import HEADS, RUN, Problem, floats, fp8_value, integers, single, topk_part, write_trace

K = 16


def npy(path, rows, dtype="<i8", shape=None, version=1, order="False", tail=b""):
    """Numbers as numpy.save writes them: no package is needed."""
    count = sum(len(row) for row in rows)
    shape = (len(rows), len(rows[0])) if shape is None else shape
    text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape!r}, }}".encode()
    width = 2 if version == 1 else 4
    text += b" " * (-(8 + width + len(text) + 1) % 64) + b"\n"
    code = {"i4": "i", "i8": "q", "f4": "f", "u4": "I", "i2": "h"}[dtype[1:]]
    begin = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text))
    path.write_bytes(begin + text + struct.pack(f"{dtype[0]}{count}{code}", *sum(map(list, rows), [])) + tail)
    return path


def safetensors(path, parts, metadata=None):
    """parts: name -> (dtype, shape, bytes); nothing says what the file is."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, body) in parts.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def longs(rows):
    return struct.pack(f"<{sum(map(len, rows))}q", *sum(map(list, rows), []))


def all_integers(rows):
    return integers(sum(map(list, rows), []))


class Pages:
    """Two sequences of FP8 keys in pages of 16, two rows each, in the layout that FlashInfer and SGLang have."""
    SIZE, DIM = 16, 32

    def __init__(self, seed):
        draw = random.Random(seed)
        codes = [code for code in range(256) if code & 127 != 127]
        self.lengths, self.rows, self.table = [70, 45], 4, [[6, 0, 5, 1, 3], [2, 7, 4, -1, -1]]
        self.codes = [[draw.choice(codes) for _ in range(self.SIZE * self.DIM)] for _ in range(8)]
        self.scales = [[single(draw.uniform(0.5, 2)) for _ in range(self.SIZE)] for _ in range(8)]
        self.q = [draw.choice(codes) for _ in range(self.rows * HEADS * self.DIM)]
        self.weights = [single(draw.gauss(0, 1)) for _ in range(self.rows * HEADS)]

    def write(self, path):
        body = b"".join(bytes(codes) + floats(scales) for codes, scales in zip(self.codes, self.scales))
        return write_trace(path, {}, {
            "q": ("F8_E4M3", [self.rows, HEADS, self.DIM], bytes(self.q)),
            "weights": ("F32", [self.rows, HEADS], floats(self.weights)),
            "k_pages": ("U8", [8, self.SIZE, self.DIM + 4], body),
            "block_table": ("I32", [2, 5], integers(sum(self.table, []))),
            "seq_lens": ("I32", [2], integers(self.lengths))})

    def slot(self, row, token):
        return self.table[row // 2][token // self.SIZE] * self.SIZE + token % self.SIZE

    def score(self, row, token):
        page, slot = divmod(self.slot(row, token), self.SIZE)
        key = [fp8_value(code) for code in self.codes[page][slot * self.DIM:(slot + 1) * self.DIM]]
        total = 0.0
        for head in range(HEADS):
            at = (row * HEADS + head) * self.DIM
            product = sum(fp8_value(self.q[at + d]) * key[d] for d in range(self.DIM))
            total += self.weights[row * HEADS + head] * max(product, 0.0)
        return total * self.scales[page][slot]

    def ranked(self, row):
        window = self.lengths[row // 2] - 1 + row % 2
        return sorted(range(window), key=lambda token: (-self.score(row, token), token))


class Selection(Cli):
    def judged(self, status, trace, ids, *options):
        result = misa("compare", "--trace", trace, "--selection", ids, "--format", "json", *options)
        self.assertEqual(result.returncode, status, result.stderr)
        report = strict_json(result.stdout)
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa"])
        self.assertEqual([choice["name"] for choice in report["cases"][0]["choices"]], ["tokens"])
        return report["cases"][0], report, result.stderr

    def refused(self, status, message, trace, ids, *options):
        self.fails(status, message, "compare", "--trace", trace, "--selection", ids, *options)

    def dense(self, seed=1, rows=3, **more):
        problem = Problem(seed, rows, 90)
        return problem, write_trace(self.folder / "trace.safetensors", {}, problem.parts(**more))


class Agrees(Selection):
    def test_a_planted_wrong_id_is_named_with_its_row_rank_and_gap_in_a_dump_of_each_kind(self):
        problem, dense = self.dense()
        pages = Pages(3)
        paged = pages.write(self.folder / "pages.safetensors")
        tokens = lambda one: [one.ranked(row)[:K] for row in range(one.rows)]
        slots = lambda rows: [[pages.slot(row, token) for token in rows[row]] for row in range(pages.rows)]
        padded = lambda rows: all_integers([ids + [-1] * 4 for ids in slots(rows)])
        save = lambda name: self.folder / name
        # Each kind: the trace, its formulas, its options, an id of a token, and what writes the dump.
        kinds = {
            "torch.topk": (dense, problem, [], lambda row, token: token,
                           lambda rows: npy(save("topk.npy"), rows, "<i8")),
            "SGLang": (paged, pages, ["--ids", "slot"], pages.slot,
                       lambda rows: safetensors(save("slots.safetensors"),
                                                {"page_table_1": ("I32", [4, K + 4], padded(rows))})),
            "FlashInfer-Bench": (paged, pages, ["--ids", "page"], pages.slot,
                                 lambda rows: npy(save("pages.npy"), slots(rows), "<i4", (2, 2, K))),
        }
        for name, (trace, formulas, options, id_of, write) in kinds.items():
            with self.subTest(name):
                more = [*options, "--top-k", K]
                case, report, _ = self.judged(0, trace, write(tokens(formulas)), *more)
                self.assertEqual(case["choices"][0]["verdicts"]["exact"], formulas.rows)
                self.assertIsNone(report["side"]["arithmetic"])
                self.assertEqual(report["against"]["name"], "oracle")
                row, rank = 1, 30
                order, wrong = formulas.ranked(row), tokens(formulas)
                wrong[row][5] = order[rank]
                gap = formulas.score(row, order[K - 1]) - formulas.score(row, order[rank])
                ids = write(wrong)
                for arithmetic, status, verdict in ((None, 7, "unknown"), ("f32", 1, "miss")):
                    stated = ["--arithmetic", arithmetic] if arithmetic else []
                    case, report, message = self.judged(status, trace, ids, *more, *stated)
                    choice = case["choices"][0]
                    self.assertEqual(choice["verdicts"][verdict], 1)
                    found = choice["differences"][0]
                    self.assertEqual((found["row"], found["tokens"], found["token"], found["id"], found["rank"]),
                                     (row, 1, order[rank], id_of(row, order[rank]), rank))
                    self.assertAlmostEqual(found["gap"] / gap, 1, places=5)
                    self.assertEqual(found["bound"] is None, arithmetic is None)
                    self.assertRegex(message, "MP-E612.*arithmetic.*list --arithmetic" if status == 7 else "MP-E610")
                    if arithmetic:
                        self.assertEqual((choice["misses"][0]["missed"], choice["misses"][0]["rank"],
                                          choice["misses"][0]["taken"]), (order[5], 5, order[rank]))
                table = misa("compare", "--trace", trace, "--selection", ids, *more).stdout
                named = f"row {row} .*lowest is {order[rank]}.*rank {rank}\\)( ·)? [0-9.e+]+ below the last"
                self.assertRegex(re.sub(r"\s+", " ", table), named)

    def test_tokens_of_equal_score_are_ranked_by_their_numbers(self):
        problem, trace = self.dense()
        first, second = sorted(problem.ranked(1)[30:32])
        problem.k[second * 32:(second + 1) * 32] = problem.k[first * 32:(first + 1) * 32]
        write_trace(trace, {}, problem.parts())
        order = problem.ranked(1)
        rank = order.index(second)
        self.assertEqual(order[rank - 1], first)
        rows = [problem.ranked(row)[:K] for row in range(3)]
        rows[1][0] = second
        case, _, _ = self.judged(7, trace, npy(self.folder / "tied.npy", rows))
        found = case["choices"][0]["differences"][0]
        self.assertEqual((found["token"], found["rank"]), (second, rank))

    def test_ids_may_be_in_any_order_with_pads_anywhere_in_any_dtype_shape_and_file(self):
        problem, trace = self.dense()
        draw = random.Random(7)
        rows = [draw.sample(problem.ranked(row)[:K] + [-1] * 4, K + 4) for row in range(3)]
        flat, wide = all_integers(rows), longs(rows)
        shape = [3, K + 4]
        files = [npy(self.folder / f"v{version}.npy", rows, dtype, version=version)
                 for version in (1, 2, 3) for dtype in ("<i4", "<i8")]
        files += [npy(self.folder / "batch.npy", rows, "<i4", (1, 3, K + 4)),
                  npy(self.folder / "head.npy", rows, "<i8", (3, 1, K + 4))]
        parts = {"ours": {"topk": ("I32", shape, flat)}, "dumped": {"out.topk": ("I64", shape, wide)},
                 "alone": {"mine": ("I64", shape, wide), "scores": ("F32", [2], bytes(8))},
                 "with_others": {"topk": ("I32", shape, flat), "lengths": ("I32", [1], bytes(4))},
                 "rows": {"topk": ("I64", [2, K + 4], longs([rows[2], rows[0]])),
                          "topk_row": ("I64", [2], longs([[2, 0]]))}}
        files += [safetensors(self.folder / f"{name}.safetensors", entries) for name, entries in parts.items()]
        for path in files:
            with self.subTest(path.name):
                case, _, _ = self.judged(0, trace, path, "--top-k", K)
                self.assertEqual(case["choices"][0]["verdicts"]["exact"], 2 if path.name == "rows.safetensors" else 3)

    def test_one_row_may_have_one_dimension_and_rows_follow_the_rows_that_are_kept(self):
        problem, trace = self.dense(rows=1)
        ids = npy(self.folder / "one.npy", [problem.ranked(0)[:K]], "<i8", (K,))
        self.judged(0, trace, ids)
        problem, trace = self.dense(rows=6)
        ids = npy(self.folder / "all.npy", [problem.ranked(row)[:K] for row in range(6)])
        case, _, _ = self.judged(0, trace, ids, "--rows", 2)
        self.assertEqual(case["choices"][0]["verdicts"]["exact"], 2)

    def test_slots_of_contiguous_keys_count_rows_of_k_and_the_right_kind_is_proposed(self):
        problem = Problem(5, 2, 60)
        begin = [0, 20]
        problem.ke = [60, 60]
        ranked = [[token for token in problem.ranked(row) if token >= begin[row]] for row in range(2)]
        trace = write_trace(self.folder / "two.safetensors", {},
                            problem.parts(ks=("I32", [2], integers(begin)),
                                          q_pos=("I32", [2], integers([59, 39]))))
        slots = npy(self.folder / "slots.npy", [row[:K] for row in ranked])
        self.judged(0, trace, slots, "--ids", "slot")
        case, _, message = self.judged(1, trace, slots)
        self.assertIn("out-of-window", [violation["fault"] for violation in case["choices"][0]["violations"]])
        self.assertRegex(message, "MP-E610.*try: --ids slot, by which the recall of dsa is 1.0000$")
        counted = [[token - begin[row] for token in ranked[row][:K]] for row in range(2)]
        tokens = npy(self.folder / "tokens.npy", counted)
        self.judged(0, trace, tokens)
        self.refused(2, "MP-E063.*no pages.*try: --ids slot", trace, slots, "--ids", "page")

    def test_rows_that_see_fewer_tokens_than_they_keep_may_name_others_as_topk_does(self):
        problem = Problem(2, 3, 20)
        trace = write_trace(self.folder / "short.safetensors", {}, problem.parts())
        problem.ke = [18, 19, 20]
        rows = [problem.ranked(row) + list(range(problem.ke[row], 20)) for row in range(3)]
        ids = npy(self.folder / "filled.npy", rows)
        case, report, _ = self.judged(0, trace, ids)
        self.assertEqual((case["choices"][0]["trivial"], case["choices"][0]["verdicts"]["exact"]), (3, 3))
        warning = [one for one in report["warnings"] if one["id"] == "MP-W023"]
        self.assertRegex(warning[0]["text"], "2 rows that see fewer than 20 tokens")
        rows[0][0] = 19  # no longer all that the row sees
        case, _, _ = self.judged(1, trace, npy(self.folder / "hole.npy", rows))
        self.assertEqual([(one["row"], one["column"], one["fault"]) for one in case["choices"][0]["violations"]],
                         [(0, column, "out-of-window") for column in (0, 18, 19)])

    def test_numbers_that_are_rounded_to_bf16_lie_within_the_bounds_that_say_so(self):
        def bf16(value):
            bits = struct.unpack("<I", struct.pack("<f", value))[0]
            bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
            return struct.unpack("<f", struct.pack("<I", bits))[0]

        problem, trace = self.dense(seed=36, rows=12)
        exact_weights, rows = problem.weights, []
        problem.weights = [bf16(weight) for weight in exact_weights]
        for row in range(12):
            scores = [bf16(problem.score(row, key)) for key in range(problem.ke[row])]
            rows.append(sorted(range(problem.ke[row]), key=lambda key: (-scores[key], key))[:K])
        problem.weights = exact_weights
        self.assertNotEqual([sorted(row) for row in rows], [sorted(problem.ranked(row)[:K]) for row in range(12)])
        ids = npy(self.folder / "bf16.npy", rows)
        case, _, _ = self.judged(0, trace, ids, "--arithmetic", "f32+bf16-result")
        self.assertGreater(case["choices"][0]["verdicts"]["within_bound"], 0)
        self.judged(0, trace, ids, "--arithmetic", "fp8-mma+bf16-result")
        self.judged(1, trace, ids, "--arithmetic", "f32")
        self.judged(7, trace, ids)
        stated = safetensors(self.folder / "stated.safetensors", {"topk": ("I64", [12, K], longs(rows))},
                             {"topk_arithmetic": "f32"})
        self.judged(1, trace, stated)
        self.judged(0, trace, stated, "--arithmetic", "f32+bf16-result")

    def test_an_indexer_that_chooses_heads_blocks_or_candidates_first_judges_by_its_own(self):
        problem = Problem(1, 3, 90)
        recorded = topk_part([problem.ranked(row)[:K] for row in range(3)], K)
        trace = write_trace(self.folder / "trace.safetensors", {"topk_arithmetic": "bf16"},
                            problem.parts(topk=recorded))
        for indexer, options in (("misa", ["--active-heads", 2]),
                                 ("misa-dagger", ["--active-heads", 1, "--candidates", 24]),
                                 ("hisa", ["--block-size", 8, "--blocks", 4])):
            with self.subTest(indexer):
                chosen = self.folder / f"{indexer}.safetensors"
                self.succeeds("profile", "--trace", trace, *RUN, "--backend", "oracle", "--indexer", indexer, *options,
                              "--top-k", K, "--dump-selection", chosen, "--format", "json")
                words = ["compare", "--trace", trace, "--selection", chosen, "--indexer", indexer, *options]
                report = strict_json(self.succeeds(*words, "--format", "json"))
                self.assertEqual(report["side"]["arithmetic"], "f64")  # as the dump says
                if indexer == "misa":
                    continue
                wrong = npy(self.folder / "wrong.npy", [problem.ranked(row)[-K:] for row in range(3)])
                result = misa(*words[:3], "--selection", wrong, *words[5:], "--format", "json")
                found = strict_json(result.stdout)["cases"][0]["choices"][0]["violations"]
                self.assertEqual((result.returncode, {one["fault"] for one in found}), (1, {"not-offered"}), result.stderr)
                for one in found:
                    self.assertEqual(one["id"], problem.ranked(one["row"])[-K:][one["column"]])


class Refused(Selection):
    def setUp(self):
        super().setUp()
        self.problem, self.trace = self.dense()
        self.rows = [self.problem.ranked(row)[:K] for row in range(3)]

    def named(self, name, change):
        rows = [list(row) for row in self.rows]
        change(rows)
        return npy(self.folder / f"{name}.npy", rows)

    def test_rows_that_are_no_selection_are_violations_with_row_column_and_id(self):
        def put(row, column, value):
            return lambda rows: rows[row].__setitem__(column, value)

        for name, change, fault in (("twice", lambda rows: put(1, 4, rows[1][2])(rows), "duplicate"),
                                    ("unseen", put(0, 5, 89), "out-of-window"),
                                    ("beyond", put(0, 5, 90), "out-of-range"),
                                    ("negative", put(2, 0, -3), "padding"), ("short", put(2, 7, -1), "truncated")):
            with self.subTest(name):
                path = self.named(name, change)
                case, _, message = self.judged(1, self.trace, path)
                found = case["choices"][0]["violations"]
                self.assertEqual([one["fault"] for one in found], [fault])
                self.assertEqual(case["choices"][0]["verdicts"]["violation"], 1)
                self.assertEqual(found[0]["side"], "selection")
                self.assertRegex(message, "MP-E610.*1 violation")
                if fault == "out-of-window":
                    self.assertEqual((found[0]["row"], found[0]["column"], found[0]["id"]), (0, 5, 89))
                # No bound and no --max-miss excuses it.
                self.judged(1, self.trace, path, "--max-miss", 9, "--arithmetic", "bf16-result")

    def test_a_file_that_is_not_one_is_refused_with_what_to_do(self):
        right = npy(self.folder / "right.npy", self.rows)
        data = right.read_bytes()
        header = data[10:10 + struct.unpack("<H", data[8:10])[0]]

        def raw(name, content):
            path = self.folder / name
            path.write_bytes(content)
            return path

        def with_header(name, text):
            text = text.encode()
            return raw(name, b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data[10 + len(header):])

        four = [row[:4] for row in self.rows]
        cases = [
            (npy(self.folder / "float.npy", self.rows, "<f4"), "MP-E206.*'<f4'"),
            (npy(self.folder / "short.npy", four, "<i2"), "MP-E206.*'<i2'"),
            (npy(self.folder / "unsigned.npy", self.rows, "<u4"), "MP-E206.*'<u4'"),
            (npy(self.folder / "big.npy", self.rows, ">i8"), "MP-E152.*big-endian.*try: array.astype"),
            (npy(self.folder / "order.npy", self.rows, order="True"), "MP-E152.*Fortran.*try: numpy.ascontiguousarray"),
            (npy(self.folder / "more.npy", self.rows, tail=b"xy"), "MP-E150.*2 bytes follow"),
            (raw("cut.npy", data[:-1]), "MP-E151.*cut short"),
            (raw("header.npy", data[:40]), "MP-E151.*cut short"),
            (raw("magic.npy", data[:9]), "MP-E151.*cut short"),
            (raw("empty.npy", b""), "MP-E150.*not a .npy"),
            (raw("text.npy", b"1, 2, 3\n"), "MP-E150.*not a .npy"),
            (raw("version.npy", data[:6] + b"\4\0" + data[8:]), "MP-E150.*version 4"),
            (raw("large.npy", data[:6] + b"\2\0" + b"\xff\xff\xff\xff" + data[10:]), "MP-E150.*4294967295 bytes"),
            (with_header("structure.npy", "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (3, 16)}"),
             "MP-E206.*structure"),
            (with_header("twice.npy", "{'descr': '<i8', 'descr': '<i8', 'shape': (3, 16)}"), "MP-E150.*breaks"),
            (with_header("lacks.npy", "{'descr': '<i8', 'shape': (3, 16)}"), "MP-E150.*breaks the format"),
            (with_header("other.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 16), 'x': 1}"),
             "MP-E150.*breaks the format"),
            (with_header("minus.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (3, -1)}"), "MP-E150.*breaks"),
            (with_header("after.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 1)} x"), "MP-E150.*at"),
            (with_header("huge.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (2147483647, 2147483647, 9)}"),
             "MP-E150.*overflows"),
            (raw("zip.npz", b"PK\x03\x04" + bytes(40)), "MP-E154.*numpy.savez.*try: numpy.save"),
            (raw("what.bin", b"\x08" + bytes(20)), "MP-E1"),
            (self.folder / "nowhere.npy", "MP-E101"),
            (npy(self.folder / "rows.npy", self.rows[:2]), r"MP-E252.*\[2, 16\] has 2 rows of ids, the workload has 3"),
            (npy(self.folder / "flat.npy", self.rows, shape=(48,)), r"MP-E208.*\[48\]"),
            (npy(self.folder / "scalar.npy", [[1]], shape=()), r"MP-E208.*\[\]"),
            (npy(self.folder / "none.npy", [[], [], []], shape=(3, 0)), r"MP-E208.*\[3, 0\]"),
            (self.named("wide", lambda rows: rows[1].__setitem__(2, 1 << 40)),
             "MP-E241.*1099511627776 in column 2.*row 1"),
        ]
        shape, body = [3, K], all_integers(self.rows)
        for name, parts, metadata, message in [
            ("float", {"topk": ("F32", shape, body)}, None, "MP-E206.*F32"),
            ("nothing", {"scores": ("F32", shape, body)}, None, "MP-E256.*no tensor"),
            ("several", {"a": ("I32", shape, body), "b": ("I32", shape, body)}, None, "MP-E256.*'a', 'b'"),
            ("both", {"topk": ("I32", shape, body), "out.topk": ("I32", shape, body)}, None, "MP-E256"),
            ("beyond", {"topk": ("I32", shape, body), "topk_row": ("I32", [3], integers([0, 1, 3]))}, None, "MP-E244"),
            ("same", {"topk": ("I32", shape, body), "topk_row": ("I32", [3], integers([0, 1, 1]))}, None, "MP-E244.*1"),
            ("fewer", {"topk": ("I32", shape, body), "topk_row": ("I32", [2], integers([0, 1]))}, None,
             "MP-E252.*topk_row names 2"),
            ("unknown", {"topk": ("I32", shape, body)}, {"topk_arithmetic": "fp7"}, "MP-E213.*fp7.*try: --arithmetic"),
        ]:
            cases.append((safetensors(self.folder / f"{name}.safetensors", parts, metadata), message))
        for path, message in cases:
            with self.subTest(path.name):
                self.refused(3, message, self.trace, path)
        self.refused(10, "MP-E142", self.trace, right, "--max-memory", self.trace.stat().st_size - 200)

    def test_options_that_contradict_it_or_do_nothing_are_named(self):
        ids = npy(self.folder / "ids.npy", self.rows)
        self.refused(2, "MP-E060", self.trace, ids, "--against", "cpu")
        self.refused(2, "MP-E060", self.trace, ids, "--against-indexer", "dsa")
        self.refused(2, "MP-E061.*row 0 selects 16 tokens, and each row keeps 9", self.trace, ids, "--top-k", 9)
        self.refused(2, "MP-E062.*fp9.*try: one of f64, .*-mma\\+bf16-result", self.trace, ids, "--arithmetic", "fp9")
        self.refused(2, "MP-E001.*--arithmetic needs a value", self.trace, ids, "--arithmetic")
        self.refused(2, "MP-E063.*try: slot", self.trace, ids, "--ids", "slots")
        for words in (["--stages", "tokens"], ["--inject", "stale-scale"], ["--bundle", "b"], ["--write-golden", "g"],
                      ["--repeat-bitwise", "1"], ["--thread-sweep"], ["--poison-unseen"], ["--robust"]):
            self.refused(2, f"MP-E056: {words[0]} ", self.trace, ids, *words)
        _, report, _ = self.judged(0, self.trace, ids, "--backend", "cpu")
        self.assertIn("--backend", " ".join(one["text"] for one in report["warnings"] if one["id"] == "MP-W033"))
        report = strict_json(self.succeeds("compare", "--trace", self.trace, "--indexer", "dsa", "--ids", "slot",
                                           "--arithmetic", "f32", "--top-k", 4, "--format", "json"))
        said = " ".join(one["text"] for one in report["warnings"] if one["id"] == "MP-W033")
        self.assertRegex(said, "--arithmetic.*--ids|--ids.*--arithmetic")
        self.refused(2, "MP-E025", self.trace, ids, "-o", ids)

    def test_a_selection_takes_the_place_of_a_recorded_topk_and_says_so(self):
        problem, trace = self.dense(topk=topk_part([self.problem.ranked(row)[-K:] for row in range(3)], K))
        ids = npy(self.folder / "ids.npy", self.rows)
        case, report, _ = self.judged(0, trace, ids)
        self.assertEqual(case["choices"][0]["verdicts"]["exact"], 3)
        self.assertEqual([one["text"] for one in report["warnings"] if one["id"] == "MP-W021"],
                         ["the recorded topk is not judged: --selection is in its place"])

    def test_fewer_columns_than_index_topk_are_judged_as_so_many_and_more_are_pads(self):
        trace = write_trace(self.folder / "named.safetensors", {"index_topk": "20"}, self.problem.parts())
        case, report, _ = self.judged(0, trace, npy(self.folder / "ids.npy", self.rows))
        self.assertEqual(case["parameters"]["top_k"], K)
        self.assertEqual([one["text"] for one in report["warnings"] if one["id"] == "MP-W022"],
                         ["index_topk is 20, and the selection has 16 columns: each row keeps 16"])
        case, _, _ = self.judged(1, trace, self.folder / "ids.npy", "--top-k", 20)
        self.assertEqual({one["fault"] for one in case["choices"][0]["violations"]}, {"truncated"})
        wide = npy(self.folder / "wide.npy", [self.problem.ranked(row)[:20] + [-1] * 12 for row in range(3)])
        case, report, _ = self.judged(0, trace, wide)
        self.assertEqual((case["parameters"]["top_k"], report["workload"]["top_k"]), (20, 20))

    def test_what_would_be_judged_can_be_asked_without_judging_it(self):
        ids = npy(self.folder / "ids.npy", self.rows)
        shown = self.succeeds("compare", "--trace", self.trace, "--selection", ids, "--dry-run")
        self.assertIn("dsa", shown)
        self.assertNotIn("cpu", shown)


class Arithmetics(Cli):
    def test_the_list_is_the_table_of_the_documentation(self):
        page = (ROOT / "docs" / "agreement.md").read_text()
        table = page[page.index("| arithmetic |"):]
        documented = re.findall(r"^\| `([^`]+)` \|", table[:table.index("\n\n")], re.M)
        listed = self.succeeds("list", "--names", "arithmetic").split()
        self.assertEqual(documented, listed)
        shown = strict_json(self.succeeds("list", "--arithmetic", "--format", "json"))
        self.assertEqual([one["name"] for one in shown["arithmetic"]], listed)
        self.assertEqual(list(shown), ["arithmetic"])
        self.assertTrue(all(one["what"] for one in shown["arithmetic"]))


if __name__ == "__main__":
    main()
