"""``python -m kts.worker fft|gemm`` runs alone, or joins the run that KTS_CONDUCTOR names, as ``--join`` does;
``--profile FILE`` profiles one tenant.

Nothing here may import numpy: `kts.worker.prepare` must come first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from kts.errors import KtsError
from kts.shown import take_any_text
from kts.worker.keeper import adopt_orphans
from kts.worker.prepare import MEMBERS, prepare


class _StoppedBySignal(BaseException):
    """SIGTERM or SIGINT came. A BaseException, so that nothing on the way takes it for a failure of the work."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, those of `kts.errors`, or 128 + signal."""
    arguments = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)
    take_any_text(sys.stdout, sys.stderr, encoding="utf-8")  # what a program prints is passed on
    try:
        prepare(os.environ)
        if arguments.join and os.environ.get(MEMBERS):
            from kts.worker.crew import join_all

            _leave(join_all(os.environ))
        if arguments.join or (arguments.workload and os.environ.get("KTS_CONDUCTOR")):
            from kts.worker.session import join

            work = [arguments.workload, "--device", arguments.device, "--library", arguments.library]
            return join(os.environ, arguments=() if arguments.join else work)
        if arguments.profile:
            from kts.worker.profile import profile

            _leave(profile(arguments.profile))
        from kts.worker.standalone import run_alone

        return run_alone(arguments.workload, arguments.device, arguments.library, os.environ)
    except _StoppedBySignal as stop:
        number = signal.Signals(stop.args[0])
        _say(f"stopped by {number.name}")
        if os.environ.get(MEMBERS):
            _leave(128 + number)  # not through the interpreter's end, with tenants' threads in the midst of their work
        return 128 + number
    except KtsError as error:
        _say(f"error: {error.what}")
        if error.remedy:
            _say(f"  try: {error.remedy}")
        if os.environ.get("KTS_DEBUG") == "1":
            raise
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    from kts.model.plan import SIZED

    parser = argparse.ArgumentParser(
        prog="python -m kts.worker",
        description="One tenant. Alone it prints a KTS_APP v1 line per iteration; ITERATIONS, MATRIX_SIZE, SLEEP_MS "
        "and KTS_PHASE in the environment tune it.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("workload", nargs="?", choices=SIZED, help="run alone")
    what.add_argument("--join", action="store_true", help="join the run that KTS_CONDUCTOR names (used by kts run)")
    what.add_argument("--profile", metavar="FILE", help="profile the tenant that FILE describes (used by kts profile)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--library", choices=("auto", "torch", "cupy", "numpy"), default="auto")
    return parser


def _on_signal(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise _StoppedBySignal(number)


def _leave(code: int) -> NoReturn:
    """Ends the process at once. torch's profiler may crash a process that takes its libraries down in order."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    adopt_orphans()
    sys.exit(main())
