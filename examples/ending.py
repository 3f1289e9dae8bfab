"""How an example ends where something is wrong: as `kts` does, with what it is, what to do, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kts.errors import KtsError, SetupError, UsageError


@contextmanager
def plain() -> Iterator[None]:
    """No traceback where kts, a file, or the user ends what runs in it. SystemExit with the code of `kts.errors`; 130
    for Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (KtsError, OSError) as error:
        if isinstance(error, OSError):
            if error.filename is None:
                raise
            what = f"{error.filename}: {error.strerror}"
            error = SetupError(what, "check the path, its permissions and the space left")
        sys.stderr.write(f"error: {error.what}\n" + (f"  try: {error.remedy}\n" if error.remedy else ""))
        raise SystemExit(error.exit_code) from None


def mode(*more: str) -> str:
    """The only argument: none, --write, --check or one of ``more``. UsageError for any other."""
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    if asked not in {"", "--write", "--check", *more}:
        raise UsageError(f"no such argument: {asked}", f"nothing, or one of {', '.join(('--write', '--check', *more))}")
    return asked
