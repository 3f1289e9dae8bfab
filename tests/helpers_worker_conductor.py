"""A conductor in a few lines, for tests of the joined worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import deque
from types import TracebackType
from typing import TypeVar

import numpy as np

from kts.model.plan import Quota, Tenant
from kts.model.records import Records, joined
from kts.wire.framing import Deframer, chunk_records, frame
from kts.wire.messages import (
    BlockDone,
    Calibrate,
    Chunk,
    FromConductor,
    FromWorker,
    Hello,
    Message,
    Opened,
    Ready,
    Start,
    Welcome,
    decode_from_worker,
    encode,
)

_DEADLINE_S = 240.0
_M = TypeVar("_M", bound=Message)


class TinyConductor:
    """One worker's conductor. Every wait has a deadline."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_DEADLINE_S)
        self._connection: socket.socket | None = None
        self._deframer = Deframer()
        self._inbox: deque[FromWorker] = deque()
        self.worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> TinyConductor:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.hang_up()
        self._listener.close()
        if self.worker is not None:
            self.worker.kill()
            self.worker.communicate()

    @property
    def env(self) -> dict[str, str]:
        host, port = self._listener.getsockname()
        return {"KTS_CONDUCTOR": f"{host}:{port}", "KTS_TOKEN": "secret", "KTS_TENANT": "agent"}

    def start_worker(self) -> None:
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "kts.worker", "--join"],
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker_ends(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        assert self.worker is not None
        out, err = self.worker.communicate(timeout=_DEADLINE_S)
        return self.worker.returncode, out, err

    def accept(self) -> Hello:
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(_DEADLINE_S)
        return self.wait_for(Hello)

    def send(self, message: FromConductor) -> None:
        assert self._connection is not None
        self._connection.sendall(frame(encode(message)))

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def receive(self) -> FromWorker:
        assert self._connection is not None
        while not self._inbox:
            data = self._connection.recv(65536)
            assert data, "the worker closed the connection"
            self._inbox.extend(decode_from_worker(body) for body in self._deframer.feed(data))
        return self._inbox.popleft()

    def wait_for(self, kind: type[_M], passed: list[FromWorker] | None = None) -> _M:
        """The next message of that kind; those before it go to ``passed``."""
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            message = self.receive()
            if isinstance(message, kind):
                return message
            if passed is not None:
                passed.append(message)
        raise AssertionError(f"no {kind.__name__} in time")

    def welcome(self, tenant: Tenant) -> tuple[Opened, Ready]:
        self.accept()
        self.send(Welcome(tenant=tenant, device="cpu"))
        opened = self.wait_for(Opened)
        self.send(Calibrate())
        return opened, self.wait_for(Ready)

    def start_block(self, block: int, quota: Quota, in_ms: float = 30.0, seed: int = 1) -> int:
        start_ns = time.monotonic_ns() + round(in_ms * 1e6)
        self.send(Start(block=block, start_ns=start_ns, first_ns=start_ns, go_ns=start_ns, quota=quota, seed=seed))
        return start_ns

    def finish_block(self, passed: list[FromWorker] | None = None) -> tuple[BlockDone, Records]:
        """Waits for BlockDone; checks the numbering and sums of its chunks; returns the records."""
        passed = [] if passed is None else passed
        done = self.wait_for(BlockDone, passed)
        chunks = [m for m in passed if isinstance(m, Chunk)]
        assert [c.seq for c in chunks] == list(range(done.chunks))
        assert all(c.block == done.block for c in chunks)
        records = joined(chunk_records(c) for c in chunks)
        assert len(records) == done.count
        assert np.array_equal(records["i"], np.arange(done.count))
        return done, records
