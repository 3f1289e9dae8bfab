"""Entry point of `kts`: the commands, and what a user sees when something goes wrong.

Nothing heavy is imported here: every command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kts import __version__
from kts.cli.compare import SETTINGS as COMPARE_SETTINGS
from kts.cli.compare import compare
from kts.cli.doctor import doctor
from kts.cli.experiments import experiments
from kts.cli.groups import grouped
from kts.cli.k8s import app as k8s_app
from kts.cli.predict import predict
from kts.cli.probe import probe
from kts.cli.profile import profile
from kts.cli.report import report
from kts.cli.run import run
from kts.cli.runs import attach, clean, collect, runs
from kts.cli.schema import schema
from kts.cli.selfcheck import selfcheck
from kts.cli.validate import validate
from kts.cli.whatif import whatif
from kts.errors import Interrupted, KtsError, SetupError, UsageError
from kts.shown import PASTED, REPLACE, named, visible

app = typer.Typer(
    name="kts",
    help="What sharing one accelerator costs each tenant's tail latency: measured, with intervals.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    run,
    report,
    compare,
    profile,
    probe,
    predict,
    whatif,
    validate,
    selfcheck,
    experiments,
    runs,
    attach,
    collect,
    clean,
    schema,
    doctor,
):
    app.command(context_settings=COMPARE_SETTINGS if command is compare else None)(grouped(command))
app.add_typer(k8s_app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"kts {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `kts.errors`); never lets a traceback out.

    With ``KTS_DEBUG=1`` an unexpected error keeps its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _fill_closed_streams()
    try:
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


def _fill_closed_streams() -> None:
    """Output that was closed by the caller (``>&-``) goes nowhere, instead of into the first file that is opened. What
    an output cannot show (a name that is no UTF-8) is replaced."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACE)


def _invoke(arguments: list[str]) -> int:
    result = app(arguments or ["--help"], prog_name="kts", standalone_mode=False)
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
    if "--json" in arguments:
        what = "\n".join(visible(line) for line in error.what.splitlines())
        body = {"what": what, "remedy": visible(error.remedy), "exit_code": error.exit_code}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
        sys.stdout.flush()
    for line in error.what.splitlines():
        sys.stderr.write(f"error: {visible(line)}{'' if PASTED in line else named(line)}\n")
    if error.remedy:
        sys.stderr.write(f"  try: {visible(error.remedy)}\n")
    return error.exit_code
