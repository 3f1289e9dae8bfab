"""Every result for people: what the commands print, and what shows in a terminal."""

from __future__ import annotations

from functools import singledispatch

from rich.console import Console

from kts.errors import UsageError


def show(result: object, console: Console | None = None) -> None:
    """Prints what a function of `kts` returned, as the command of that name does.

    ``console``: by default standard output. UsageError for what none of them returned.
    """
    printed(result, console or Console(highlight=False))


@singledispatch
def printed(result: object, console: Console) -> None:
    """Prints ``result``. Each capability registers what it returns, so that showing one loads no other."""
    del console
    raise UsageError(f"a {type(result).__name__} is nothing that kts can show", "give what a function of kts returned")
