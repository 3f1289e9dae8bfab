"""What goes to stdout and what to stderr."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import kts
from kts.cli.quiet import not_waiting
from kts.shown import clean, one_line

if TYPE_CHECKING:
    from rich.console import Console


PATIENCE_S, LAST_S = 5.0, 60.0
"""So long a terminal that is held is waited for: before the files are written, and again at the end."""


def console(*, stderr: bool) -> Console:
    """A console for people, plain where it is not a terminal. Wide enough for tables when piped."""
    from rich.console import Console as Base

    class Console(Base):
        def on_broken_pipe(self) -> None:
            raise  # rich's own ends the process  # noqa: PLE0704 - it is called where the error is handled

    out = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not out.is_terminal:
        out = Console(stderr=stderr, highlight=False, width=120)
    return out


def present(result: object, *, as_json: bool, body: object = None) -> None:
    """A result for people on stdout; with ``as_json`` it goes to stderr, and ``body`` to stdout (None: the result)."""
    if as_json:
        print_json(result if body is None else body)
    kts.show(result, console(stderr=as_json))


class HeldError(OSError):
    """A terminal that is held (Ctrl-S) takes nothing. ``left``: what it has not taken yet."""

    def __init__(self, left: memoryview) -> None:
        super().__init__(errno.EAGAIN, "the terminal is held (Ctrl-Q lets it go on)")
        self.left = left


def shown_to(people: Console, result: object) -> OSError | None:
    """Shows a result. The error where it could not be written: also where ``people`` look at a terminal that takes
    nothing for `PATIENCE_S`, at its beginning or in the middle of it."""
    try:
        if people.stderr or not _may_be_held(people.file):  # standard error never waits: see `kts.cli.quiet`
            kts.show(result, people)
            people.file.flush()
            return None
        with people.capture() as captured:
            kts.show(result, people)
        people.file.flush()
        encoding, errors = getattr(people.file, "encoding", None), getattr(people.file, "errors", None)
        _written(people.file, memoryview(captured.get().encode(encoding or "utf-8", errors or "strict")), PATIENCE_S)
    except OSError as error:
        return error
    return None


def shown_at_last(people: Console, unprinted: OSError | None) -> OSError | None:
    """The rest, where the terminal was held: there is nothing else to do now. Not for ever: `LAST_S`."""
    if not isinstance(unprinted, HeldError):
        return unprinted
    try:
        _written(people.file, unprinted.left, LAST_S)
    except OSError as error:
        return error
    return None


def _may_be_held(file: IO[str]) -> bool:
    return hasattr(select, "poll") and file.isatty()


def _written(file: IO[str], left: memoryview, patience_s: float) -> None:
    """Writes to a terminal. HeldError where it takes nothing for so long; else OSError."""
    own = not_waiting(file.fileno())
    descriptor = file.fileno() if own is None else own
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    until_s = time.monotonic() + patience_s
    try:
        while left:
            if not room.poll(max(0.0, until_s - time.monotonic()) * 1e3):
                raise HeldError(left)
            try:
                left = left[os.write(descriptor, left[: select.PIPE_BUF]) :]
            except BlockingIOError:  # held since it was asked
                continue
            until_s = time.monotonic() + patience_s
    finally:
        if own is not None:
            os.close(own)


@contextmanager
def told_first(*, as_json: bool) -> Iterator[Callable[[object], None]]:
    """Gives what shows people a result before a file of it is written: a folder that cannot be written costs no table.

    With ``as_json`` the result follows on stdout where the block ends well. A stdout that is gone costs no file; its
    OSError is raised behind the block.
    """
    told: list[object] = []
    unprinted: list[OSError | None] = []
    people = console(stderr=as_json)

    def tell(result: object) -> None:
        told.append(result)
        unprinted.append(shown_to(people, result))

    yield tell
    for failed in unprinted:
        if error := shown_at_last(people, failed):
            raise error
    if as_json:
        print_json(told[-1])


def fields(struct: object) -> dict[str, Any]:
    """A msgspec struct's fields by name, as they are."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


def print_json(value: Any) -> None:
    """One JSON document on stdout. msgspec structs and plain data; NaN becomes null."""
    from kts import files

    sys.stdout.write(files.encode(value).decode())


def print_plain_json(value: Any) -> None:
    """One JSON document on stdout, of plain data only; loads nothing."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def say(text: str) -> None:
    """One line for people on stderr, cleaned as `kts.shown.one_line` does."""
    sys.stderr.write(one_line(text) + "\n")


def tell(text: str) -> None:
    """Lines for people on stdout, cleaned as `kts.shown.clean` does. Not for what is to be fed to a program."""
    sys.stdout.write(clean(text) + "\n")
