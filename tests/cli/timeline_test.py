"""`profile --trace-out`: a timeline for Perfetto."""
import collections
import unittest

from program import FAST, Cli, main, strict_json


class Timeline(Cli):
    def timeline(self, *arguments):
        path = self.folder / "trace.json"
        report = self.folder / "report.json"
        self.succeeds("profile", *arguments, "--trace-out", path, "-o", report)
        return strict_json(path.read_text()), strict_json(report.read_text())

    def check_tracks(self, trace):
        """The complete events of each named track, after what holds for every timeline."""
        names, tracks = {}, collections.defaultdict(list)
        for event in trace["traceEvents"]:
            key = (event["pid"], event["tid"])
            if event["ph"] == "M":
                names[(event["name"], *key)] = event["args"].get("name", event["args"].get("sort_index"))
            else:
                self.assertEqual(event["ph"], "X")
                self.assertGreaterEqual(event["ts"], 0)
                self.assertGreaterEqual(event["dur"], 0)
                tracks[key].append(event)
        named = {}
        for (process, thread), events in tracks.items():
            name = (names[("process_name", process, 0)], names[("thread_name", process, thread)])
            self.assertNotIn(name, named)
            named[name] = events
            open_until = []
            for before, event in zip([None, *events], events):
                begin, end = event["ts"], event["ts"] + event["dur"]
                self.assertTrue(before is None or before["ts"] <= begin, f"{name} goes back at {begin}")
                while open_until and open_until[-1] <= begin + 1e-6:
                    open_until.pop()
                self.assertTrue(not open_until or end <= open_until[-1] + 1e-6, f"{event} does not nest in {name}")
                open_until.append(end)
        return named

    def test_stages_nest_in_runs_and_add_up_to_the_first_sample_of_the_report(self):
        trace, report = self.timeline(*FAST, "--indexer", "dsa,misa,hisa", "--threads", "2")
        tracks = self.check_tracks(trace)
        for case in report["cases"]:
            group = f"{case['indexer']} on cpu"
            run, *spans = tracks[(group, "stages")]
            self.assertEqual(run["args"]["indexer"], case["indexer"])
            sums, kernels = collections.Counter(), {}
            for span in spans:
                sums[span["name"]] += span["dur"] * 1000
                kernels[span["name"]] = span["args"]["kernel"]
            self.assertEqual(list(sums), [stage["name"] for stage in case["stages"]])
            for stage in case["stages"]:
                self.assertAlmostEqual(sums[stage["name"]], stage["time_ns"]["raw"][0], delta=2 * len(spans) + 2)
                self.assertEqual(kernels[stage["name"]], stage["kernel"])
            self.assertLessEqual(sum(sums.values()), run["dur"] * 1000 + len(spans))
            threads = [name for name in tracks if name[0] == group and name[1].startswith("thread ")]
            self.assertEqual(threads[0], (group, "thread 0"))
            for name in threads:
                for event in tracks[name]:
                    self.assertLessEqual(run["ts"], event["ts"])
                    self.assertLessEqual(event["ts"] + event["dur"], run["ts"] + run["dur"] + 1000)
                    self.assertIn(event["name"], [*sums, "work"])
            self.assertLessEqual(set(sums), {event["name"] for name in threads for event in tracks[name]})
        self.assertEqual(trace["otherData"]["events_left_out"], 0)
        self.assertEqual(trace["otherData"]["command_line"][:2], ["misa-prof", "profile"])

    def test_names_from_files_are_text(self):
        name = 'a "quoted" \\ <script>\u2028 name'
        workload = self.folder / "own.toml"
        workload.write_text(f"name = {strict_name(name)}\nphase = \"prefill\"\ncontext = 256\nrows = 4\n")
        trace, report = self.timeline("--model", "tiny", "--workload", workload, "--indexer", "dsa", *FAST[4:])
        run = self.check_tracks(trace)[("dsa on cpu", "stages")][0]
        self.assertEqual(run["args"]["workload"], report["workload"]["name"])
        self.assertIn(name, run["args"]["workload"])

    def test_a_name_that_is_no_timeline_is_refused(self):
        for message, name in ((r"MP-E023: --trace-out '-' names no file", "-"),
                              (r"MP-E054: a timeline has the ending .json, not '.txt'", self.folder / "t.txt"),
                              (r"MP-E024: two outputs go to", self.folder / "r.json")):
            self.fails(2, message, "profile", *FAST, "--trace-out", name, "-o", self.folder / "r.json")
        self.only_files()


def strict_name(text):
    """`text` as a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    main()
