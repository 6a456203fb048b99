"""Errors: what is wrong, where, and what to do. Ids are those of docs/errors.md."""

from __future__ import annotations

from collections.abc import Sequence


class TraceError(ValueError):
    """A trace or a selection that misa-prof would refuse. Nothing has been written."""

    def __init__(self, id: str, what: str, where: str, how: str) -> None:
        self.id, self.what, self.where, self.how = id, what, where, how
        super().__init__(f"{id}: {what}; {where}; try: {how}")


class ProgramError(RuntimeError):
    """misa-prof ended with an error. `id` is that of its message, `status` its exit status; `result` holds what it
    reported all the same (a comparison that failed has a whole report), or None."""

    def __init__(self, command: Sequence[str], status: int, id: str, message: str, result: object = None) -> None:
        self.command, self.status, self.id, self.message = list(command), status, id, message
        self.result = result
        super().__init__(message or f"misa-prof ended with status {status}")
