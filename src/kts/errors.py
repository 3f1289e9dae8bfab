"""One tree of errors. Each says what happened, what to do about it, and the exit code.

The command line prints ``error: WHAT`` and ``  try: REMEDY`` and exits with the code; a
traceback that reaches a user is a bug. The codes are documented in docs/formats.md.
"""

from __future__ import annotations

FAILED = 8
INCONCLUSIVE = 9
"""Exit codes of `kts check` and `kts choose`, which are no errors: a crash, a wrong file or a full disk never reads as
either."""


class KtsError(Exception):
    """Base of every error that a user may see.

    ``what`` is one line: what happened, with the place (file and line, tenant, block).
    ``remedy`` is one line: what to do now; empty only where nothing can be done.
    """

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return self.what


class UsageError(KtsError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class SpecError(KtsError):
    """The experiment file is wrong. ``what`` holds one line per mistake, each with its place."""

    exit_code = 3


class SetupError(KtsError):
    """This machine lacks what the experiment needs: a device, a library, a permission, space."""

    exit_code = 4


class MeasurementError(KtsError):
    """Measuring began and could not be finished; what was measured before is kept."""

    exit_code = 5


class DataError(KtsError):
    """A run directory or log cannot be read, or holds nothing that can be reported."""

    exit_code = 6


class RefusalError(KtsError):
    """The data are sound but do not support the figure that was asked for."""

    exit_code = 7


class Interrupted(KtsError):  # noqa: N818 - the user asked for it; it is no error
    """The user stopped the run; what was measured before is kept."""

    exit_code = 130
