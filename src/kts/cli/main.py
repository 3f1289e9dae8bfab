"""Entry point of `kts`: the commands, and what a user sees when something goes wrong.

Nothing heavy is imported here: help and version are plain text, a command is loaded when it is called.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from kts import __version__
from kts.cli.commands import help_text
from kts.errors import Interrupted, KtsError, SetupError, UsageError
from kts.shown import PASTED, named, take_any_text, visible


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `kts.errors`); never lets a traceback out.

    With ``KTS_DEBUG=1`` an unexpected error keeps its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _fill_closed_streams()
    try:
        with _told_to_end():
            code = _invoke(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _complain(Interrupted("interrupted"), given)
    except KtsError as error:
        return _complain(error, given)
    except Exception as error:
        if os.environ.get("KTS_DEBUG") == "1":
            raise
        return _complain(_translated(error), given)
    return code


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP mean what Ctrl-C does: who cancels a CI job, or closes a terminal, wants nothing left."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    mine = []
    if threading.current_thread() is threading.main_thread():
        asked = (signal.SIGTERM, signal.SIGHUP)
        mine = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]  # nohup stays nohup
    for number in mine:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _fill_closed_streams() -> None:
    """Output that was closed by the caller (``>&-``) goes nowhere, instead of into the first file that is opened. What
    an output cannot show (a name that is no UTF-8) is replaced."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
    take_any_text(sys.stdout, sys.stderr)


def _invoke(arguments: list[str]) -> int:
    if os.environ.get("_KTS_COMPLETE") is None:
        if arguments in ([], ["-h"], ["--help"]):
            sys.stdout.write(help_text())
            return 0
        if arguments == ["--version"]:
            sys.stdout.write(f"kts {__version__}\n")
            return 0
    from kts.cli.group import root

    result = root()(arguments, prog_name="kts", standalone_mode=False)
    if result == Interrupted.exit_code:  # what typer makes of KeyboardInterrupt
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _translated(error: Exception) -> KtsError:
    """What is not ours in our terms: mistakes on the command line, refusals of the system, and bugs."""
    if hasattr(error, "format_message"):  # typer's own errors, whichever module its version keeps them in
        return UsageError(error.format_message().replace("\n", " "), "kts --help, or kts COMMAND --help")
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return SetupError(f"{place}{error.strerror}", "check the path, its permissions and the space left")
    text = " ".join(str(error).split()) or "no message"
    return KtsError(
        f"unexpected {type(error).__name__}: {text}", "set KTS_DEBUG=1 for the traceback, and report it as a bug"
    )


def _complain(error: KtsError, arguments: Sequence[str]) -> int:
    """Prints the error where the user looks for it: stderr, or stdout as JSON with --json. Returns the exit code."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in ours:
        what = "\n".join(visible(line) for line in error.what.splitlines())
        body = {"what": what, "remedy": visible(error.remedy), "exit_code": error.exit_code}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
        sys.stdout.flush()
    for line in error.what.splitlines():
        sys.stderr.write(f"error: {visible(line)}{'' if PASTED in line else named(line)}\n")
    if error.remedy:
        sys.stderr.write(f"  try: {visible(error.remedy)}\n")
    return error.exit_code
