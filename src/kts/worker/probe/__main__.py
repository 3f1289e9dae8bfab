"""``python -m kts.worker.probe --who``: who is on this device now, with nothing but what the worker's image holds.

Without ``--who`` it measures all that a fingerprint needs and prints the readings, for ``kts probe --from FILE``
elsewhere. JSON goes to stdout, a sentence for people to stderr. Nothing here may import numpy before `prepare`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kts.errors import DataError, Interrupted, KtsError
from kts.worker.prepare import prepare

if TYPE_CHECKING:
    from kts.model.plan import DeviceChoice
    from kts.worker.detect import DeviceKind

_PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 or those of `kts.errors`."""
    options = _parser().parse_args(argv)
    try:
        if options.serve:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            prepare(os.environ)
            _end_with_the_parent()
            from kts.worker.probe.serve import serve

            return serve(_kind(options.device))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return _who(options) if options.who else _readings(options)
    except KeyboardInterrupt:
        return _complain(Interrupted("interrupted"))
    except KtsError as error:
        if os.environ.get("KTS_DEBUG") == "1":
            raise
        return _complain(error)


def _end_with_the_parent() -> None:
    """A long watch does not look at its stdin meanwhile: so the kernel ends the process when its parent is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kts.worker.probe",
        description="Watches when the device is taken away and given back. Without --who: readings "
        "for kts probe --from.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--who", action="store_true", help="who is on the device now")
    what.add_argument("--serve", action="store_true", help="used by the others: take requests on stdin")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--looks", type=int, default=5, help="with --who: looks, one a second (default 5)")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="with --who: one watch without a break instead")
    parser.add_argument("--fingerprint", type=Path, metavar="FILE", help="with --who: the device's, from kts probe")
    parser.add_argument("--anyway", action="store_true", help="measure although somebody is on the device")
    return parser


def _who(options: argparse.Namespace) -> int:
    from kts.worker.probe.neighbours import cores_for
    from kts.worker.probe.who import answer, look, sharing_of
    from kts.worker.sharing import before

    known = None
    if options.fingerprint is not None:
        known = sharing_of(_read(options.fingerprint), str(options.fingerprint))
    kind, mode = _kind(options.device), before(options.device).likely
    seen = look(kind, mode, looks=options.looks, watch_s=options.watch, cores=cores_for(kind))
    found = answer(seen, known)
    _print(found)
    _say(found.sentence)
    return 0


def _readings(options: argparse.Namespace) -> int:
    from kts import __version__
    from kts.worker.probe.neighbours import cores_for
    from kts.worker.probe.session import measure
    from kts.worker.sharing import before

    kind = _kind(options.device)
    readings = measure(
        kind,
        before(options.device).likely,
        cores=cores_for(kind),
        anyway=options.anyway,
        say=_say,
        kts=__version__,
    )
    _print(readings)
    _say(f"{readings.device.label}: readings for kts probe --from FILE are on stdout")
    return 0


def _kind(choice: DeviceChoice) -> DeviceKind:
    from kts.worker.detect import choose_kind

    return choose_kind(choice)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "give a fingerprint file that kts probe wrote") from error


def _print(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def _complain(error: KtsError) -> int:
    _say(f"error: {error.what}")
    if error.remedy:
        _say(f"  try: {error.remedy}")
    return error.exit_code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
