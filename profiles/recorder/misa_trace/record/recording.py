"""The recorder of a process: which calls are kept, and one trace for each layer and phase."""

from __future__ import annotations

import multiprocessing.util
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import torch

from ..trace import write_trace
from .calls import Call, Refused, on_cpu
from .keys import ContiguousKeys, PagedKeys, concatenated
from .messages import NO_GRAPHS, contained, say, warn
from .settings import Settings

Key = Tuple[Optional[int], str]
_PATIENCE_SECONDS = 5.0


def rank_and_world() -> Tuple[int, int]:
    """Rank and number of the processes of torch.distributed, or of the launcher's environment."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class LayerTrace:
    """The calls of one layer and phase, and the file they are written to."""

    def __init__(self, call: Call) -> None:
        self.layer, self.phase = call.layer, call.phase
        self.calls = 0
        self.changed = False
        self.path = ""
        self._keys: Union[ContiguousKeys, PagedKeys] = PagedKeys() if call.pages is not None else ContiguousKeys()
        self._q: List[torch.Tensor] = []
        self._weights: List[torch.Tensor] = []
        self._topk: List[Tuple[int, torch.Tensor]] = []  # first row, ids
        self._top_k = 0
        self._kept: List[List[int]] = []  # runs of calls: how many, rows kept, rows of the call
        self._longest = 0
        self._metadata = dict(call.metadata)

    def add(self, call: Call) -> None:
        if (call.pages is not None) != isinstance(self._keys, PagedKeys) or (self._q and (
                self._q[0].shape[1:] != call.q.shape[1:] or self._q[0].dtype != call.q.dtype)):
            raise Refused("its shapes, dtypes or kind of keys differ from those of the calls before")
        self._keys.add(call)
        if call.topk is not None:
            self._topk.append((sum(len(q) for q in self._q), call.topk))
            self._top_k = max(self._top_k, call.top_k or 0)
        self._q.append(call.q)
        self._weights.append(call.weights)
        if not self._kept or self._kept[-1][1:] != [len(call.kept), call.rows]:
            self._kept.append([0, len(call.kept), call.rows])
        self._kept[-1][0] += 1
        self._longest = max([self._longest] + [call.window(row) for row in range(len(call.kept))])
        for key, value in call.metadata.items():
            if self._metadata.get(key) != value:
                self._metadata.pop(key, None)  # what calls do not agree on is left out
        self.calls += 1
        self.changed = True

    @property
    def nbytes(self) -> int:
        rows = self._q + self._weights + [topk for _, topk in self._topk]
        return self._keys.nbytes + sum(tensor.numel() * tensor.element_size() for tensor in rows)

    @contained
    @on_cpu
    def write(self, settings: Settings) -> None:
        """Writes the whole trace; a file that the process wrote before is replaced in one step."""
        self.changed = False
        rank, world = rank_and_world()
        arrays: Dict[str, Any] = self._keys.tensors()
        arrays["q"] = concatenated(self._q)
        arrays["weights"] = torch.cat(self._weights).float()
        if self._topk:
            topk = torch.full((sum(len(ids) for _, ids in self._topk), self._top_k), -1, dtype=torch.int32)
            rows: List[int] = []
            at = 0
            for first, ids in self._topk:
                topk[at : at + len(ids), : ids.shape[1]] = ids
                rows += range(first, first + len(ids))
                at += len(ids)
            arrays["topk"], arrays["topk_row"] = topk, torch.tensor(rows, dtype=torch.int32)
        metadata = {
            **self._metadata,
            "layer": "unknown" if self.layer is None else str(self.layer),
            "phase": self.phase,
            "context_length": str(self._longest),
            "recorded_calls": str(self.calls),
            "recorded_rows": ", ".join("{} x {} of {}".format(*run) for run in self._kept),
            "rank": "{} of {}".format(rank, world),
        }
        if settings.model:
            metadata["model"] = settings.model
        if settings.provenance:
            metadata["provenance"] = settings.provenance
        if not self.path:
            self.path = self._claim(settings.folder, rank)
        part = self.path + ".part"
        try:
            write_trace(part, metadata=metadata, **arrays)
            os.replace(part, self.path)
        except BaseException:
            if os.path.getsize(self.path) == 0:
                os.unlink(self.path)  # only the claim to the name
                self.path = ""
            raise

    def _claim(self, folder: str, rank: int) -> str:
        """A new empty file of a name that no other process has: layer3.prefill.safetensors, layer3.prefill.2...."""
        os.makedirs(folder, exist_ok=True)
        stem = "layer{}.{}".format("-unknown" if self.layer is None else self.layer, self.phase)
        stem += ".rank{}".format(rank) if rank else ""
        number = 1
        while True:
            path = os.path.join(folder, stem + ("" if number == 1 else ".{}".format(number)) + ".safetensors")
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                return path
            except FileExistsError:
                number += 1


class Recorder:
    """Takes calls, one at a time. A call waits for its selection until the next call comes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stacks: List[str] = []  # whose hooks are in place
        self.inside = False  # a hooked function runs that may call another
        self._begin()
        os.register_at_fork(after_in_child=self._begin)  # a forked child has files of its own

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._traces: Dict[Key, LayerTrace] = {}
        self._waiting: List[Tuple[Call, Tuple[int, Tuple[int, ...]], int]] = []  # call, its logits, their first row
        self._in_scope = False
        self._scope_rows = 0
        self._seen = 0
        self._full = False
        self._timer: Optional[threading.Timer] = None
        self._added = 0.0
        self._finish_at_exit()

    def _finish_at_exit(self) -> None:
        # Unlike atexit this runs in workers of multiprocessing too.
        self._at_exit = multiprocessing.util.Finalize(None, self.finish, exitpriority=10)

    @property
    def waits(self) -> bool:
        """Whether a call waits for its selection."""
        return bool(self._waiting)

    def wants(self, layer: Optional[int], phase: str) -> bool:
        """Whether to record a call: its rank, layer and phase are asked for, and fewer are kept than asked for."""
        with self._lock:
            self._seen += 1
            settings = self.settings
            if settings.ranks is not None and rank_and_world()[0] not in settings.ranks:
                return False
            if settings.layers is not None and layer not in settings.layers:
                return False
            trace = self._traces.get((layer, phase))
            waiting = sum(1 for call, _, _ in self._waiting if (call.layer, call.phase) == (layer, phase))
            return not self._full and (trace.calls if trace else 0) + waiting < settings.calls[phase]

    def room(self, nbytes: int) -> bool:
        """Whether another `nbytes` stay below the limit; if not, recording ends with a warning."""
        with self._lock:
            held = sum(trace.nbytes for trace in self._traces.values()) + sum(
                call.nbytes for call, _, _ in self._waiting)
            if held + nbytes > self.settings.max_bytes:
                self._full = True
                warn("MISA_TRACE_MAX_BYTES ({} bytes) is reached: no further call is recorded".format(
                    self.settings.max_bytes))
            return not self._full

    def add(self, call: Call, logits: Optional[torch.Tensor] = None) -> None:
        """Keeps a call. With `logits`, the scores that the stack computed, it waits for its selection."""
        with self._lock:
            if not self._in_scope:
                self._settle()
            self._write_soon()
            self._added = time.monotonic()
            if not self._at_exit.still_active():
                self._finish_at_exit()  # multiprocessing forgets a parent's when a worker begins
            place = (0, ()) if logits is None else (logits.data_ptr(), tuple(logits.shape))
            self._waiting.append((call, place, self._scope_rows))
            self._scope_rows += call.rows
            if logits is None and not self._in_scope:
                self._settle()

    def skip(self, rows: int) -> None:
        """A call of so many rows was not kept: those of later calls in the scope come after them."""
        self._scope_rows += rows

    @on_cpu
    def selected(self, logits: torch.Tensor, ids: torch.Tensor) -> None:
        """The selection [rows, k] made from these logits belongs to the call that waits for it."""
        with self._lock:
            found = [call for call, place, _ in self._waiting if place == (logits.data_ptr(), tuple(logits.shape))]
            if not found and len(self._waiting) == 1:  # the scores may have been converted to another dtype
                found = [call for call, _, _ in self._waiting if call.rows == len(logits)]
            for call in found:
                if call.topk is None:
                    self._attach(call, ids)
            if not self._in_scope:
                self._settle()

    @contextmanager
    def scope(self) -> Iterator[List[torch.Tensor]]:
        """Calls inside belong together: the list is to receive their selection, rows in the order of the calls."""
        with self._lock:
            self._settle()
            self._in_scope, self._scope_rows = True, 0
        result: List[torch.Tensor] = []
        try:
            yield result
        finally:
            with self._lock:
                self._in_scope = False
                self._settle(result[0] if result else None)

    def _attach(self, call: Call, ids: torch.Tensor) -> None:
        if not self.settings.topk:
            return
        try:
            call.set_topk(ids[torch.tensor(call.kept, device=ids.device)])
        except Refused as why:
            stack = call.metadata.get("stack", call.stack)
            warn("the selection of {} was left out: {}{}".format(stack, why, "; try: SGLANG_DSA_FUSE_TOPK=0, or "
                 "SGLANG_NSA_FUSE_TOPK=0 in older versions" if stack.startswith("sglang") else ""),
                 key="selection of " + stack)

    @contained
    @on_cpu
    def _settle(self, ids: Optional[torch.Tensor] = None) -> None:
        waiting, self._waiting = self._waiting, []
        for call, _, first in waiting:
            if ids is not None and call.topk is None and first + call.rows <= len(ids):
                self._attach(call, ids[first : first + call.rows])
            trace = self._traces.setdefault((call.layer, call.phase), LayerTrace(call))
            try:
                trace.add(call)
            except Refused as why:
                warn("a call of {} was not recorded: {}".format(call.stack, why))
            if trace.changed and trace.calls >= self.settings.calls[call.phase]:
                trace.write(self.settings)

    def _write_soon(self) -> None:
        """Writes in a few seconds what is not complete then, for an engine may be killed while it waits for requests."""
        if self._timer is None:
            self._timer = threading.Timer(_PATIENCE_SECONDS, self._write_changed)
            self._timer.daemon = True
            self._timer.start()

    def _write_changed(self) -> None:
        with self._lock:
            self._timer = None
            if self._in_scope or time.monotonic() - self._added < 1:
                self._write_soon()  # the last call may still get its selection
            else:
                self._write_all()

    def _write_all(self) -> None:
        self._settle()
        for trace in self._traces.values():
            if trace.changed and trace.calls:
                trace.write(self.settings)

    def finish(self) -> None:
        """Writes what is not written yet, and says what was recorded, or why nothing was."""
        with self._lock:
            self._at_exit.cancel()
            self._write_all()
            written = [trace for trace in self._traces.values() if trace.path and trace.calls]
            if written:
                say("{} traces with {} calls in {}".format(
                    len(written), sum(trace.calls for trace in written), self.settings.folder))
            elif self._seen == 0 and self.stacks:
                warn("no call of an indexer was seen ({} is hooked); CUDA graphs and torch.compile hide calls; try: "
                     "{}".format(", ".join(self.stacks), NO_GRAPHS))
