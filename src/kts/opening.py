"""Opening what is to be read: a file that ends, and no wait for a writer that does not come."""

from __future__ import annotations

import errno
import os
import select
import stat
from io import BufferedReader
from pathlib import Path

TAIL_BYTES, LONGEST = 8192, 300
"""Of a log's end, and characters of its last line."""
WRITER_S = 5.0
"""So long the first byte of a pipe is waited for."""


def opened(path: Path, *, pipes: bool = False) -> BufferedReader:
    """A file, opened for reading; never waits for a writer that does not come. OSError: also where it is no file that
    ends, such as a device, or a pipe unless ``pipes`` is true. ValueError where ``path`` cannot be one."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            if not pipes or not (stat.S_ISFIFO(mode) or os.isatty(descriptor)):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            if stat.S_ISFIFO(mode) and not select.select([descriptor], [], [], WRITER_S)[0]:
                raise OSError(errno.EINVAL, f"a pipe into which nobody wrote for {WRITER_S:g} s", str(path))
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def last_line(path: Path, *, but: str = "") -> str:
    """The last line of a log that says something, without what cannot be seen and cut to `LONGEST`; empty if there is
    none, or no file. ``but``: lines that begin so are passed over."""
    try:
        with opened(path) as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            lines = log.read(TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = ("".join(filter(str.isprintable, line)).strip() for line in reversed(lines))
    return next((text[:LONGEST] for text in said if text and not (but and text.startswith(but))), "")


def ordinary(path: Path) -> None:
    """OSError where ``path`` is there and no regular file: who opens it might wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
