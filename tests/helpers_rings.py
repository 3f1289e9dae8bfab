"""A writer of rings in Python, as native/ring.c writes them; run as a program, one that writes until it is killed."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys
import time
from pathlib import Path

EVENTS_OFFSET, EVENT_BYTES, NAMES_OFFSET = 4096 + 65536, 64, 4096
HEAD, LOST, TAIL, CALLS = 1024, 1088, 1152, 1280
LAUNCH, RECORDING, ENDED = 1, 1, 3


class Writer:
    """The ring of one process. Its n-th event, counted from 1, begins at 10 n ns and lasts n % 7 ns."""

    def __init__(self, folder: Path, capacity: int, pid: int | None = None, began_ns: int | None = None) -> None:
        self.capacity = capacity
        self.pid = os.getpid() if pid is None else pid
        self.began_ns = time.monotonic_ns() if began_ns is None else began_ns
        self.path = folder / f"{self.pid}-{self.began_ns}.ring"
        size_bytes = EVENTS_OFFSET + capacity * EVENT_BYTES
        making = self.path.with_suffix(".making")
        self.file = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process, so the reader in it does not see it
        os.posix_fallocate(self.file, 0, size_bytes)
        self.page = mmap.mmap(self.file, size_bytes)
        self.words = memoryview(self.page).cast("Q")  # struct.pack_into with "<" goes byte by byte
        struct.pack_into(
            "<8sIIQIIIIII", self.page, 0, b"KTSRING", 1, 64, capacity, self.pid, RECORDING, 0, 130000, 1, 0
        )
        struct.pack_into("<q", self.page, 48, self.began_ns)
        self.page[64:76] = b"python a.py\0"
        making.rename(self.path)
        self.named = 0

    def reserve(self) -> int | None:
        """Number of the event that may be written; None if there is no room, which is counted."""
        self.add(CALLS, 1)
        head = self.number(HEAD)
        if head - self.number(TAIL) >= self.capacity:
            self.add(LOST, 1)
            return None
        self.add(HEAD, 1)
        return head + 1

    def publish(self, number: int, kind: int = LAUNCH, detail: int = 0) -> None:
        at = EVENTS_OFFSET + EVENT_BYTES * ((number - 1) % self.capacity)
        begin_ns = 10 * number
        body = (
            begin_ns,
            begin_ns + number % 7,
            kind,
            0,
            self.pid & 0xFFFFFFFF,
            7,
            1,
            number & 0xFFFFFFFF,
            0,
            0,
            detail,
        )
        struct.pack_into("<qqHHIQIIIIQ", self.page, at + 8, *body)
        self.words[at // 8] = number

    def put(self, events: int = 1) -> int:
        """How many found room. ``detail``: how many calls there were before."""
        kept = 0
        for _ in range(events):
            if (number := self.reserve()) is not None:
                self.publish(number, detail=self.number(CALLS) - 1)
                kept += 1
        return kept

    def name(self, text: str) -> int:
        """Where the name begins."""
        raw, at = text.encode() + b"\0", self.named
        self.page[NAMES_OFFSET + at : NAMES_OFFSET + at + len(raw)] = raw
        self.named += len(raw)
        struct.pack_into("<I", self.page, 44, self.named)
        return at

    def state(self, state: int, reason: int = 0, why: bytes = b"") -> None:
        struct.pack_into("<II", self.page, 28, state, reason)
        self.page[320 : 320 + len(why)] = why

    def number(self, offset: int) -> int:
        return self.words[offset // 8]

    def add(self, offset: int, value: int) -> None:
        self.words[offset // 8] += value

    def close(self) -> None:
        self.words.release()
        self.page.close()
        os.close(self.file)


def main(folder: str, capacity: str) -> None:
    writer = Writer(Path(folder), int(capacity))
    print(writer.path.name, flush=True)
    while True:
        writer.put()


if __name__ == "__main__":
    main(*sys.argv[1:])
