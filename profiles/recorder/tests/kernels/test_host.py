"""misa.host: functions of a Python file behind the C interface, called as misa-prof calls them."""

import contextlib
import ctypes
import pathlib
import sys
import types

import drawn
import misa_trace as m
import numpy as np
import pytest
from misa import _abi, host
from misa._views import TorchViews

from .driver import Driver, assert_scores, traces, wanted

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parents[2] / "kernels"
NAMES = sorted(traces(drawn))


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    """Whether torch was imported decides what tensors are: these files use NumPy."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_windows_and_of_candidates_are_the_formula(name):
    trace, driver = traces(drawn)[name], Driver(EXAMPLES / "dsa_numpy.py")
    assert_scores(driver, trace)
    assert (driver.logits[:, -3:] == 77).all()


def test_the_selection_that_a_function_returns_is_copied(plugin):
    driver = plugin("import numpy as np\ndef select(task):\n return np.argsort(-task.logits)[:, :task.k]\n")
    trace = traces(drawn)["contiguous-f32"]
    status, tokens = driver.select(trace, np.random.default_rng(3).normal(size=(trace.rows, 9)), 4)
    assert status == _abi.MISA_OK and tokens.shape == (trace.rows, 4) and tokens.max() < 9


def test_scores_that_a_function_returns_are_read_where_they_are(plugin):
    driver = plugin("import numpy as np\ndef score(task):\n"
                    " return np.full((task.queries.rows, task.columns + 5), 3, np.float32)\n")
    trace = traces(drawn)["contiguous-f32"]
    task = driver.score_task(trace)
    status, logits = driver.score(task)
    assert status == _abi.MISA_OK and (logits == 3).all() and (driver.logits == 77).all()
    assert task.logits_stride == (task.columns + 5) * 4


def test_a_whole_indexer_is_planned_run_and_released(plugin):
    driver = plugin("import numpy as np\ndef plan(plan):\n return plan.top_k + 1\n"
                    "def index(task):\n assert task.plan.end[0] > task.plan.begin[0] and task.plan.indexer == 'dsa'\n"
                    " task.tokens[:] = task.planned\n")
    status, tokens = driver.index(traces(drawn)["contiguous-f32"], 5)
    assert status == _abi.MISA_OK, driver.error()
    assert (tokens == 6).all()
    assert driver.index(traces(drawn)["contiguous-f32"], 5, b"misa")[0] == _abi.MISA_UNSUPPORTED


@pytest.mark.parametrize("body,words", [
    ("raise ValueError('no such key')", "score: ValueError: no such key (mine.py:3)"),
    ("return np.zeros((3, 2), np.float32)", "score: ValueError: score returned float32 [3, 2], wanted float32 [10, "),
    ("return np.zeros((10, 99))", "score: ValueError: score returned float64 [10, 99], wanted float32"),
    ("return [1]", "score: TypeError: score returned list, wanted a tensor or None"),
    ("return np.zeros((10, 99), np.float32, order='F')", "score returned columns 40 bytes apart"),
    ("raise SystemExit(3)", "score: SystemExit: 3"),
])
def test_what_a_function_does_wrong_is_said_in_words(plugin, body, words, capfd):
    driver = plugin(f"import numpy as np\ndef score(task):\n {body}\n")
    status, _ = driver.score(driver.score_task(traces(drawn)["contiguous-f32"]))
    assert status == _abi.MISA_FAILED
    assert words in driver.error()
    shown = capfd.readouterr().err
    assert words.split(" (mine")[0].removeprefix("score: ") in shown and "host.py" not in shown


def test_a_function_may_refuse_a_task(plugin):
    driver = plugin("def accepts(step, task):\n return step == 'score' and task.queries.dtype == 'bf16'\n"
                    "def score(task):\n raise NotImplementedError('f32')\n")
    for name, accepted in (("contiguous-bf16", 1), ("contiguous-f32", 0)):
        task = driver.score_task(traces(drawn)[name])
        for step in (task.queries, task.keys, task.windows):  # pointers may be null here
            for field, kind in step._fields_:
                if kind is ctypes.c_void_p:
                    setattr(step, field, None)
        assert driver.table.accepts(None, _abi.MISA_SCORE, ctypes.addressof(task)) == accepted
    status, _ = driver.score(driver.score_task(traces(drawn)["contiguous-f32"]))
    assert (status, driver.error()) == (_abi.MISA_UNSUPPORTED, "score: NotImplementedError: f32 (mine.py:4)")


def test_a_function_of_two_tasks_is_asked_about_both(plugin):
    driver = plugin("def accepts(step, score, select):\n return step == 'score_select' and score.columns == select.columns == 9\n"
                    "def score_select(score, select):\n select.tokens[:] = score.columns\n")
    trace = traces(drawn)["contiguous-f32"]
    score, tokens = driver.score_task(trace, columns=9), np.zeros((trace.rows, 3), np.int32)
    select = _abi.misa_select_task(size=ctypes.sizeof(_abi.misa_select_task), rows=trace.rows, columns=9, k=3,
                                   tokens=tokens.ctypes.data, tokens_stride=12)
    pair = (ctypes.c_void_p * 2)(ctypes.addressof(score), ctypes.addressof(select))
    assert driver.table.accepts(None, _abi.MISA_SCORE_SELECT, ctypes.addressof(pair)) == 1
    assert driver.table.score_select(None, ctypes.byref(score), ctypes.byref(select), None) == _abi.MISA_OK
    assert (tokens == 9).all()
    select.columns = 8
    assert driver.table.accepts(None, _abi.MISA_SCORE_SELECT, ctypes.addressof(pair)) == 0


def test_the_table_has_the_functions_and_the_facts_of_the_file(plugin):
    driver = plugin("name = 'my.kernel-2'\narithmetic = 'bf16'\nany_order = True\ndef select(task): pass\n")
    table = driver.table
    assert (table.name, table.arithmetic, table.flags) == (b"my.kernel-2", b"bf16", _abi.MISA_ANY_ORDER)
    assert bool(table.select) and bool(table.error)
    assert not any(bool(getattr(table, name)) for name in ("score", "score_select", "route", "plan", "run"))
    plain = plugin("def score(task): pass\n").table
    assert (plain.name, plain.arithmetic, plain.flags) == (b"mine", None, 0)


@pytest.mark.parametrize("text,words", [
    ("x = 1", "it defines none of the functions score, select, score_select, route, index"),
    ("import no_such_module_at_all", "importing it raised ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    ("def score(task", "importing it raised SyntaxError"),
    ("name = 'a b'\ndef score(task): pass", "its name 'a b' has other characters"),
    ("device = 'tpu'\ndef score(task): pass", "its device 'tpu' is neither 'cpu' nor 'cuda'"),
])
def test_a_file_that_is_no_plug_in_is_refused_in_words(tmp_path, text, words, capfd):
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    assert host.main([str(path), "list"]) == 4
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(f"misa-prof: error: MP-E442: the file is no plug-in: {words}") and f"; {path}; try: " in error


def test_a_changed_file_is_read_anew_and_nothing_is_left_beside_it(plugin, tmp_path):
    for number in (1, 2):
        driver = plugin(f"def score(task):\n task.logits[:] = {number}\n")
        assert (driver.score(driver.score_task(traces(drawn)["contiguous-f32"]))[1] == number).all()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_a_file_that_is_not_there_is_refused(capfd):
    assert host.main(["nowhere.py"]) == 4
    assert "MP-E442: the file is no plug-in: there is no such file; nowhere.py; try: " in capfd.readouterr().err
    assert host.main([]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_numpy_example_selects_what_the_formula_selects(name):
    driver, trace = Driver(EXAMPLES / "dsa_numpy.py"), traces(drawn)[name]
    columns = int((trace.windows()[1] - trace.windows()[0]).max())
    for k in (1, trace.top_k, columns + 3):
        status, tokens = driver.select(trace, wanted(trace, columns), k)
        assert status == _abi.MISA_OK, driver.error()
        np.testing.assert_array_equal(tokens, trace.select(k))


def test_the_numpy_example_ranks_nan_lowest_and_ties_by_token():
    driver, trace = Driver(EXAMPLES / "dsa_numpy.py"), traces(drawn)["contiguous-f32"]
    seen = int((trace.windows()[1] - trace.windows()[0]).max())
    logits = np.zeros((trace.rows, seen), np.float32)
    logits[:, 1], logits[:, 2], logits[:, 3] = np.nan, np.inf, -np.inf
    rows = np.flatnonzero(trace.windows()[1] - trace.windows()[0] >= 6)
    assert len(rows)
    for k, chosen in ((2, [0, 2]), (4, [0, 2, 4, 5])):
        _, tokens = driver.select(trace, logits, k)
        np.testing.assert_array_equal(tokens[rows], [chosen] * len(rows))


def test_numbers_of_bits_are_those_of_the_package():
    trace, driver = traces(drawn)["paged-e4m3"], Driver(EXAMPLES / "dsa_numpy.py")
    from misa.tasks import ScoreTask

    keys = ScoreTask(driver.score_task(trace), driver.plugin.views).keys
    values, scales = m.split_pages(trace.k_pages)
    np.testing.assert_array_equal(keys.numbers(), values.values())
    np.testing.assert_array_equal(keys.scales, scales)
    assert keys.paged and keys.dtype == "e4m3" and keys.values.base is not None


@pytest.mark.parametrize("captured", [False, True])
def test_memory_of_a_captured_run_is_a_pool_of_its_own_that_is_chosen_before_the_stream(captured, plugin):
    """With a stand-in for torch: within a capture that is not its own, torch refuses to change pools."""
    seen = []

    @contextlib.contextmanager
    def entered(what):
        seen.append("+" + what)
        yield
        seen.append("-" + what)

    cuda = types.SimpleNamespace(
        ExternalStream=lambda pointer, device: f"stream {pointer} of {device}",
        stream=entered,
        is_current_stream_capturing=lambda: captured,
        MemPool=lambda: "pool",
        use_mem_pool=lambda pool, device: entered(f"{pool} of {device}"),
    )
    driver = plugin("def score(task): pass\n")
    views = object.__new__(TorchViews)
    views.module, views.device = types.SimpleNamespace(cuda=cuda, no_grad=lambda: entered("no_grad")), "cuda:0"
    driver.plugin.views = views
    assert driver.plugin.guarded("score", 5, lambda: seen.append("work")) == _abi.MISA_OK, driver.error()
    stream, pool = "stream 5 of cuda:0", "pool of cuda:0"
    inner = ["+" + stream, "work", "-" + stream]
    expected = ["+" + pool, *inner, "-" + pool] if captured else inner
    assert seen == ["+no_grad", "+" + stream, "-" + stream, *expected, "-no_grad"]
