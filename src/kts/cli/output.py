"""What goes to stdout and what to stderr."""

from __future__ import annotations

import errno
import json
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import kts
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
    """A terminal that is held (Ctrl-S) takes nothing."""


def shown_to(people: Console, result: object, *, patience_s: float | None = None) -> OSError | None:
    """Shows a result. The error where it could not be written: also where ``people`` look at a terminal that has no
    room for ``patience_s`` (default: `PATIENCE_S`)."""
    try:
        if not people.stderr:  # which never waits: see `kts.cli.quiet`
            _await_room(people.file, PATIENCE_S if patience_s is None else patience_s)
        kts.show(result, people)
        people.file.flush()
    except OSError as error:
        return error
    return None


def shown_at_last(people: Console, result: object, unprinted: OSError | None) -> OSError | None:
    """Once more, where the terminal was held: there is nothing else to do now. Not for ever: see `shown_to`."""
    return shown_to(people, result, patience_s=LAST_S) if isinstance(unprinted, HeldError) else unprinted


def _await_room(file: IO[str], patience_s: float) -> None:
    if not file.isatty() or not hasattr(select, "poll"):
        return
    room = select.poll()
    room.register(file.fileno(), select.POLLOUT)
    if not room.poll(patience_s * 1e3):
        raise HeldError(errno.EAGAIN, "the terminal is held (Ctrl-Q lets it go on)")


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
    for result, failed in zip(told, unprinted, strict=True):
        if error := shown_at_last(people, result, failed):
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
