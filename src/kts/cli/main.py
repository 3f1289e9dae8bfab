"""Entry point of `kts`: the commands, and what a user sees when something goes wrong.

Nothing heavy is imported here: help and version are plain text, a command is loaded when it is called.
"""

from __future__ import annotations

import _thread
import errno
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from kts import __version__
from kts.cli.commands import help_text
from kts.cli.leaving import SIGNALS, leave_at_once
from kts.cli.quiet import quiet_errors
from kts.errors import DataError, Interrupted, KtsError, SetupError, UsageError
from kts.shown import PASTED, named, take_any_text, visible

_AGAIN_S = 0.02
_UNREADABLE = re.compile(r"path '(.*)' is not readable", re.IGNORECASE | re.DOTALL)
"""What typer says before a command could: to it, it is a mistake on the command line; to us, as any file of a run."""
_OF_OUTPUTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `kts.errors`); never lets a traceback out.

    With ``KTS_DEBUG=1`` an unexpected error keeps its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _fill_closed_streams()
    with quiet_errors():
        code = _ended(given)
        try:
            sys.stdout.flush()
        except OSError:  # it has been told; Python would complain again when it closes it
            _give_up_stdout()
    return code


def _ended(given: list[str]) -> int:
    told: list[int] = []
    try:
        with _told_to_end(told):
            code = _invoke(given)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:
        code = _complain(Interrupted("interrupted"), given)
    except KtsError as error:
        code = _complain(error, given)
    except Exception as error:
        if os.environ.get("KTS_DEBUG") == "1":
            raise
        # What was interrupted while it was loaded may say so in its own way.
        code = _complain(Interrupted("interrupted") if told else _translated(error), given)
    return code


def _give_up_stdout() -> None:
    """What could not be written goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def _told_to_end(told: list[int]) -> Iterator[None]:
    """SIGTERM and SIGHUP mean what Ctrl-C does: who cancels a CI job, or closes a terminal, wants nothing left.
    ``told`` gets each that comes."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        told.append(number)
        raise KeyboardInterrupt

    def unraised(what: sys.UnraisableHookArgs) -> None:
        """Where nothing can be raised (an import's own bookkeeping), it is again a little later."""
        if what.exc_type is KeyboardInterrupt:
            threading.Timer(_AGAIN_S, _thread.interrupt_main).start()
        else:
            former_hook(what)

    former: dict[int, Any] = {}
    former_hook = sys.unraisablehook
    if threading.current_thread() is threading.main_thread():
        usual = (signal.SIG_DFL, signal.default_int_handler, leave_at_once)  # others, and nohup, stay
        former = {number: known for number in SIGNALS if (known := signal.getsignal(number)) in usual}
        sys.unraisablehook = unraised
    for number in former:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, known in former.items():
            signal.signal(number, known)
        sys.unraisablehook = former_hook


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
        if denied := _UNREADABLE.search(error.format_message()):
            return DataError(f"{denied[1]}: no permission to read", "ask its owner for read permission")
        return UsageError(error.format_message().replace("\n", " "), "kts --help, or kts COMMAND --help")
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        if not place and error.errno in _OF_OUTPUTS:
            return SetupError(
                f"standard output: {error.strerror}", "free space where it goes, or give it another place"
            )
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
