"""What people are told: every result as a document, as the commands print it, and lines meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import singledispatch

from rich.console import Console

from kts.errors import UsageError
from kts.report import terminal
from kts.report.document import Document, Element

Say = Callable[[str], None]
"""Takes one line for people."""


Tell = Callable[[object], None]
"""Takes a result as soon as it is there, before anything of it is written."""


def untold(result: object) -> None:
    """Tells nobody: whoever called gets the result anyway."""
    del result


def silent(line: str) -> None:
    """Says nothing: the API does not, unless the caller gives where to."""
    del line


def show(result: object, console: Console | None = None) -> None:
    """Prints what a function of `kts` returned, as the command of that name does.

    ``console``: by default standard output. UsageError for what none of them returned.
    """
    terminal.render(Document(tuple(elements(result))), console or Console(highlight=False))


@singledispatch
def elements(result: object) -> Iterable[Element]:
    """``result`` for people. Each capability registers what it returns, so that showing one loads no other."""
    raise UsageError(f"a {type(result).__name__} is nothing that kts can show", "give what a function of kts returned")
