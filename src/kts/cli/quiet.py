"""Standard error that costs nobody a run: what cannot be written at once is left out."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE_S = 1.0
"""So long whoever does not read is waited for; then no more, until there is room again."""


class Quiet(io.TextIOBase):
    """In place of a text stream that has a descriptor. Writing never fails, and never waits for long.

    The reader of a pipe may have gone or do nothing, a disk may be full, a terminal may be closed or held by Ctrl-S.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._patience_s = PATIENCE_S
        self._open: int | None = stream.fileno()
        self._own = not_waiting(stream.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Of the stream."""
        return self._stream.errors

    def fileno(self) -> int:
        """Of the stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """As the stream says."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """The length of ``text``, however much of it could be written."""
        left = memoryview(text.encode(self.encoding, self.errors or "strict"))
        while left and self._open is not None:
            try:
                if not self._room():
                    break
                left = left[os.write(self._open if self._own is None else self._own, left[: select.PIPE_BUF]) :]
            except BlockingIOError:
                break
            except OSError:
                self._open = None
        return len(text)

    def leave(self) -> None:
        """Gives back what it has opened."""
        if self._own is not None:
            os.close(self._own)

    def _room(self) -> bool:
        """Whether something can be written now, or within the time that there is patience for."""
        poll = select.poll()
        poll.register(self._open if self._own is None else self._own, select.POLLOUT)  # type: ignore[arg-type]
        ready = bool(poll.poll(self._patience_s * 1e3))
        self._patience_s = PATIENCE_S if ready else 0.0
        return ready


@contextmanager
def quiet_errors() -> Iterator[None]:
    """Meanwhile `sys.stderr` is `Quiet`, where it is a file."""
    former = sys.stderr
    quiet = None
    with suppress(OSError, ValueError):  # one that a test or a notebook has put there has no descriptor
        if isinstance(former, io.TextIOWrapper) and os.name == "posix":
            former.flush()
            sys.stderr = quiet = Quiet(former)
    try:
        yield
    finally:
        sys.stderr = former
        if quiet is not None:
            quiet.leave()


def not_waiting(descriptor: int) -> int | None:
    """The same pipe or terminal, opened anew so that writing never waits; None where that cannot be, or need not.

    To ask whether there is room is not enough: a terminal that has some waits for more. The descriptor itself must stay
    as it is, since others have it, too.
    """
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(descriptor))):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
