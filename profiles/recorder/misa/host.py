"""Runs misa-prof in this process with kernels that are Python functions:

    python3 -m misa.host FILE.py ARGUMENTS of misa-prof...

`--backend plugin:FILE.py` starts this in a child. FILE.py defines some of score, select, score_select, route and index;
docs/own-kernel.md says what they take and return. The program is the library MISA_PROF_LIBRARY, else libmisa_prof.so
beside the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pathlib
import re
import sys
import traceback
from typing import Any

from . import _abi
from ._views import TorchViews, views_of
from .tasks import IndexPlan, IndexTask, RouteTask, ScoreTask, SelectTask

FUNCTIONS = ("score", "select", "score_select", "route", "index")  # in the order of the header's steps
_TASKS = {  # by step: the struct that accepts() is asked about, and what a function of Python takes
    _abi.MISA_SCORE: (_abi.misa_score_task, ScoreTask),
    _abi.MISA_SELECT: (_abi.misa_select_task, SelectTask),
    _abi.MISA_ROUTE: (_abi.misa_route_task, RouteTask),
    _abi.MISA_INDEX: (_abi.misa_index_plan, IndexPlan),
}
_UNAVAILABLE = 4  # the exit status of what cannot run
_HOW = "try: docs/own-kernel.md, which says what a plug-in in Python is"


class Unusable(Exception):
    """A file that cannot be a plug-in."""


class Plugin:
    """A table of kernels made of the functions of a Python file."""

    def __init__(self, path: pathlib.Path, module: Any, device_type: int, device: int) -> None:
        self.path, self.module = path, module
        self.views = views_of(device_type, device)
        self.message = ctypes.create_string_buffer(b"")
        self.kept: Any = None  # a result that the program reads until the next call
        self.plans: dict[int, tuple[IndexPlan, Any]] = {}
        self.pool: Any = None
        has = {name for name in FUNCTIONS if callable(getattr(module, name, None))}
        functions = {"accepts": self.accepts, "error": self.error}
        functions.update((name, getattr(self, name)) for name in has - {"index"})
        if "index" in has:
            functions.update(plan=self.plan, run=self.run, release=self.release)
        self.table = _abi.misa_kernel_table(
            size=ctypes.sizeof(_abi.misa_kernel_table),
            version=_abi.MISA_KERNEL_VERSION,
            device_type=device_type,
            flags=_abi.MISA_ANY_ORDER if getattr(module, "any_order", False) else 0,
            name=name_of(path, module).encode(),
            description=(getattr(module, "description", None) or f"functions of {path.name}").encode(),
            arithmetic=arithmetic.encode() if (arithmetic := getattr(module, "arithmetic", None)) else None,
            features=_abi.MISA_FORCES if getattr(module, "forces", False) else 0,
            **{name: getattr(_abi, name.upper())(function) for name, function in functions.items()},
        )

    # The functions of the table. None lets an exception out: each becomes a status and a message.

    def accepts(self, _self: int, step: int, task: int) -> int:
        def given(step: int, address: int) -> Any:
            struct, kind = _TASKS[step]
            return kind(struct.from_address(address), self.views)

        def asked() -> bool:
            if step == _abi.MISA_SCORE_SELECT:
                addresses = (ctypes.c_void_p * 2).from_address(task)
                tasks = [given(_abi.MISA_SCORE, addresses[0]), given(_abi.MISA_SELECT, addresses[1])]
            else:
                tasks = [given(step, task)]
            if step == _abi.MISA_INDEX and tasks[0].indexer not in getattr(self.module, "indexers", ("dsa",)):
                return False
            own = getattr(self.module, "accepts", None)
            return own is None or bool(own(FUNCTIONS[step], *tasks))

        answer: list[bool] = []
        self.guarded("accepts", None, lambda: answer.append(asked()))
        return int(answer == [True])

    def score(self, _self: int, task: Any, stream: int | None) -> int:
        def work() -> None:
            given = ScoreTask(task.contents, self.views)
            self.redirect(task.contents, self.module.score(given))

        self.kept = None
        return self.guarded("score", stream, work)

    def select(self, _self: int, task: Any, stream: int | None) -> int:
        def work() -> None:
            given = SelectTask(task.contents, self.views)
            self.fill(given, "tokens", self.module.select(given))

        return self.guarded("select", stream, work)

    def score_select(self, _self: int, score: Any, select: Any, stream: int | None) -> int:
        def work() -> None:
            given = SelectTask(select.contents, self.views)
            self.fill(given, "tokens", self.module.score_select(ScoreTask(score.contents, self.views), given))

        return self.guarded("score_select", stream, work)

    def route(self, _self: int, task: Any, stream: int | None) -> int:
        def work() -> None:
            given = RouteTask(task.contents, self.views)
            self.fill(given, "heads", self.module.route(given))

        return self.guarded("route", stream, work)

    def plan(self, _self: int, plan: Any, planned: Any) -> int:
        def work() -> None:
            given = IndexPlan(plan.contents, self.views)
            own = getattr(self.module, "plan", None)
            number = max(self.plans, default=0) + 1
            self.plans[number] = given, own(given) if own else None
            planned[0] = number

        return self.guarded("plan", None, work)

    def run(self, _self: int, planned: int, task: Any, stream: int | None) -> int:
        def work() -> None:
            given = IndexTask(task.contents, self.views, *self.plans[planned])
            self.fill(given, "tokens", self.module.index(given))

        return self.guarded("index", stream, work)

    def release(self, _self: int, planned: int) -> None:
        self.plans.pop(planned, None)

    def error(self, _self: int) -> int:
        return ctypes.addressof(self.message)

    # What they share.

    def guarded(self, function: str, stream: int | None, work: Any) -> int:
        """Runs `work` on the stream; the status of the header, with the message of what was raised."""
        try:
            with self.on(stream):
                work()
            return _abi.MISA_OK
        except NotImplementedError as problem:
            self.message = ctypes.create_string_buffer(self.words(function, problem))
            return _abi.MISA_UNSUPPORTED
        except BaseException as problem:  # C calls this: nothing may be raised through it
            self.message = ctypes.create_string_buffer(self.words(function, problem))
            within = problem.__traceback__
            while within and within.tb_frame.f_code.co_filename != str(self.path):
                within = within.tb_next
            traceback.print_exception(type(problem), problem, within)  # from the file on: what called it is ours
            sys.stderr.flush()
            return _abi.MISA_FAILED

    def words(self, function: str, problem: BaseException) -> bytes:
        """score: ValueError: no such key (mine.py:12)"""
        own = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(self.path)]
        where = f" ({self.path.name}:{own[-1].lineno})" if own else ""
        return " ".join(f"{function}: {type(problem).__name__}: {problem}{where}".split()).encode()

    @contextlib.contextmanager
    def on(self, stream: int | None) -> Any:
        """Makes the stream torch's current one. What is allocated while it is captured belongs to captured work alone,
        which writes to it again at each replay."""
        with contextlib.ExitStack() as entered:
            if isinstance(self.views, TorchViews):
                torch, device = self.views.module, self.views.device
                entered.enter_context(torch.no_grad())
                if stream:
                    external = torch.cuda.ExternalStream(stream, device=device)
                    with torch.cuda.stream(external):
                        captured = torch.cuda.is_current_stream_capturing()
                    if captured:  # before the stream: within a capture newer versions want a graph of torch's own
                        self.pool = self.pool or torch.cuda.MemPool()
                        entered.enter_context(torch.cuda.use_mem_pool(self.pool, device))
                    entered.enter_context(torch.cuda.stream(external))
            yield

    def redirect(self, struct: Any, result: Any) -> None:
        """Lets the program read the scores where a function has put them: f32 [rows, columns or more], a row without
        gaps. None: they are in the task's logits."""
        if result is None:
            return
        views, wanted = self.views, (struct.queries.rows, struct.columns)
        if not views.is_tensor(result):
            raise TypeError(f"score returned {type(result).__name__}, wanted a tensor or None")
        shape = tuple(result.shape)
        if not views.is_f32(result) or len(shape) != 2 or shape[0] != wanted[0] or shape[1] < wanted[1]:
            raise ValueError(
                f"score returned {result.dtype} {list(shape)}, wanted float32 [{wanted[0]}, {wanted[1]} or more]"
            )
        if not views.is_here(result):
            raise ValueError(f"score returned a tensor on {result.device}, wanted {views.device}")
        row, column = views.strides(result)
        if column != 4 and shape[1] > 1:
            raise ValueError(f"score returned columns {column} bytes apart, wanted 4")
        self.kept = result
        struct.logits, struct.logits_stride = views.pointer(result), row

    def fill(self, task: Any, name: str, result: Any) -> None:
        """Copies ids that a function returned to where the task wants them. None: it wrote them itself."""
        if result is None:
            return
        to = getattr(task, name)
        if not self.views.is_tensor(result) or tuple(result.shape) != tuple(to.shape):
            found = list(result.shape) if self.views.is_tensor(result) else type(result).__name__
            raise ValueError(f"{name} returned are {found}, wanted [{to.shape[0]}, {to.shape[1]}]")
        self.views.copy(to, result)


def name_of(path: pathlib.Path, module: Any) -> str:
    name = getattr(module, "name", None) or re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise Unusable(f"its name '{name}' has other characters than letters, digits, '-', '_' and '.'")
    return name


def load(path: pathlib.Path) -> Any:
    """The module of a file, which may import what lies beside it."""
    if not path.is_file():
        raise Unusable("there is no such file")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("misa_plugin_" + re.sub(r"\W", "_", path.stem), path)
    if spec is None:
        raise Unusable("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # inspect and triton look sources up by it
    try:
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)  # as a script: no bytecode is kept beside it
    except BaseException as problem:
        traceback.print_exc()
        raise Unusable(f"importing it raised {type(problem).__name__}: {problem}") from problem
    if not any(callable(getattr(module, name, None)) for name in FUNCTIONS):
        raise Unusable("it defines none of the functions " + ", ".join(FUNCTIONS))
    name_of(path, module)
    return module


def devices_of(module: Any) -> tuple[int, ...]:
    """Types of devices that a file's functions work on: its `device`, else both where it imported torch, else cpu."""
    known = {"cpu": (_abi.MISA_CPU,), "cuda": (_abi.MISA_CUDA,)}
    stated = getattr(module, "device", None)
    if stated is not None and stated not in known:
        raise Unusable(f"its device '{stated}' is neither 'cpu' nor 'cuda'")
    both = (_abi.MISA_CPU, _abi.MISA_CUDA) if "torch" in sys.modules else (_abi.MISA_CPU,)
    return known[stated] if stated else both


def find_library() -> str:
    """The program as a library: MISA_PROF_LIBRARY, else libmisa_prof.so beside misa-prof or in its prefix."""
    stated = os.environ.get("MISA_PROF_LIBRARY")
    if stated:
        return stated
    from misa_trace import find_program

    folder = pathlib.Path(find_program()).resolve().parent
    name = "libmisa_prof.so"
    found = [*folder.glob(name), *folder.parent.glob(f"lib*/{name}"), *folder.parent.glob(f"lib*/*/{name}")]
    if not found:
        raise Unusable(f"there is no {name} beside {folder}; MISA_PROF_LIBRARY names it")
    return str(found[0])


def main(arguments: list[str]) -> int:
    if not arguments or not arguments[0].endswith(".py"):
        sys.stderr.write("usage: python3 -m misa.host FILE.py ARGUMENTS of misa-prof...\n")
        return 2
    name, path = arguments[0], pathlib.Path(arguments[0]).resolve()
    try:
        module = load(path)
        devices = devices_of(module)
        program = ctypes.CDLL(find_library()).misa_main
    except (Unusable, OSError) as problem:
        sys.stderr.write(f"misa-prof: error: MP-E442: the file is no plug-in: {problem}; {name}; {_HOW}\n")
        return _UNAVAILABLE
    plugins: dict[tuple[int, int], Plugin] = {}

    @_abi.MISA_KERNELS_FUNCTION
    def kernels(version: int, device_type: int, device: int) -> int | None:
        if version != _abi.MISA_KERNEL_VERSION or device_type not in devices:
            return None
        try:
            plugin = plugins.get((device_type, device)) or Plugin(path, module, device_type, device)
        except Exception:
            traceback.print_exc()
            return None
        plugins[device_type, device] = plugin
        return ctypes.addressof(plugin.table)

    words = [b"misa-prof", *(os.fsencode(word) for word in arguments[1:])]
    program.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p), ctypes.c_char_p, _abi.MISA_KERNELS_FUNCTION]
    status = program(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None), os.fsencode(name), kernels)
    return int(status)


if __name__ == "__main__":
    ending = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ending)  # threads of torch and of the program end here; nothing of theirs is taken apart
