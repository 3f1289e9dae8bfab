"""Large arrays out of memory: in a file without a name, which nobody has to remove."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = TypeVar("Array", bound=NDArray[Any])

IN_MEMORY = 1 << 24
"""Bytes: less than this is not worth a file."""
ALIGNED = 64


class Shelf:
    """Arrays of at most ``capacity`` bytes in all. They are gone with the last of them, however the process ends.

    What does not fit, or cannot be written (a full or read-only disk), stays in memory: a shelf never fails. Arrays are
    written, and never changed through the mapping, so that a disk that fills up is an error in words and no SIGBUS.
    """

    def __init__(self, capacity: int) -> None:
        self._left, self._at = capacity, 0
        self._file = self._map = None
        if capacity < IN_MEMORY:
            return
        try:
            self._file = tempfile.TemporaryFile(buffering=0, dir=_folder())  # noqa: SIM115
            weakref.finalize(self, self._file.close)  # arrays hold the mapping, which needs it no more
            self._file.truncate(capacity + ALIGNED)  # it has holes: takes as much as is written
            self._map = mmap.mmap(self._file.fileno(), capacity + ALIGNED, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            self._map = None

    def put(self, array: Array) -> Array:
        """The same values from the shelf, not to be written to; the array itself where it stays in memory."""
        if self._map is None or self._file is None or not array.size or array.nbytes > self._left:
            return array
        try:
            self._file.seek(self._at)
            rest = np.ascontiguousarray(array).data.cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._left = 0  # no further attempts
            return array
        kept = np.frombuffer(self._map, array.dtype, array.size, self._at).reshape(array.shape)
        taken = -(-array.nbytes // ALIGNED) * ALIGNED
        self._at, self._left = self._at + taken, self._left - taken
        return kept  # type: ignore[return-value]


class GrowingArray:
    """One array that is made piece by piece: in memory while it is small, then in a file as those of a `Shelf` are.

    It never fails either: what cannot be written is in memory again.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._pieces: list[NDArray[Any]] = []
        self._bytes = 0
        self._file: FileIO | None = None
        self._tried = False

    def __len__(self) -> int:
        return self._bytes // self._dtype.itemsize

    def add(self, piece: NDArray[Any]) -> None:
        """Puts values behind those that are there."""
        if not len(piece):
            return
        self._pieces.append(np.ascontiguousarray(piece, self._dtype))
        self._bytes += self._pieces[-1].nbytes
        if self._file is not None or (self._bytes >= IN_MEMORY and not self._tried):
            self._put_aside()

    def made(self) -> NDArray[Any]:
        """All values so far, not to be written to."""
        if self._file is not None:
            try:
                whole = mmap.mmap(self._file.fileno(), self._bytes, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                self._back_into_memory(self._bytes)
            else:
                return np.frombuffer(whole, self._dtype)
        if len(self._pieces) != 1:
            self._pieces = [np.concatenate([np.empty(0, self._dtype), *self._pieces])]
        return self._pieces[0]

    def _put_aside(self) -> None:
        """Writes what is in memory to the file, which it makes if there is none."""
        self._tried = True
        written = self._bytes - sum(piece.nbytes for piece in self._pieces)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=_folder())  # noqa: SIM115
                weakref.finalize(self, self._file.close)  # arrays hold the mapping, which needs it no more
            for piece in self._pieces:
                rest = piece.data.cast("B")
                while rest:
                    rest = rest[self._file.write(rest) :]
        except (OSError, ValueError):
            self._back_into_memory(written)
        else:
            self._pieces = []

    def _back_into_memory(self, written: int) -> None:
        """What the file holds, of whole pieces, goes before the rest."""
        if self._file is None:
            return
        if written:
            self._file.seek(0)
            front = np.empty(written // self._dtype.itemsize, self._dtype)
            at = 0
            while at < written:
                at += self._file.readinto(front.data.cast("B")[at:]) or 0
            self._pieces.insert(0, front)
        self._file = None


def _folder() -> str:
    """Where temporary files go, but on a disk rather than in memory where both are usual."""
    disk = Path("/var/tmp")
    asked = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return str(disk) if not asked and os.access(disk, os.W_OK) else tempfile.gettempdir()
