"""Processes of probes, seen from the one who started them: requests and answers over pipes, never a pause to be safe.

Each process ends when its stdin does; so leaving the `with` block, or dying in it, ends them all.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import IO, Any

import msgspec

from kts.errors import KtsError, MeasurementError, SetupError
from kts.model.run import DeviceInfo
from kts.worker.detect import DeviceKind
from kts.worker.environment import usable_cores
from kts.worker.interpreter import module
from kts.worker.prepare import LAST_CORE, parse_cores
from kts.worker.probe.serve import Order, Reply
from kts.worker.probe.traces import GapTrace

START_S = 60.0
"""A cold context on a busy machine takes seconds; compiling takes a few more."""
ANSWER_S = 30.0
END_S = 5.0
_ERRORS = {kind.exit_code: kind for kind in (SetupError, MeasurementError)}


class ProbeProcess:
    """One probe in a process of its own. ``cores``: where it runs; None: wherever the system likes. ``more``: what its
    environment has besides ours."""

    def __init__(
        self,
        kind: DeviceKind,
        cores: Sequence[int] | None,
        command: Sequence[str] | None = None,
        *,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        env = {**os.environ, **more}
        if cores is not None:
            env["KTS_CORES"] = ",".join(map(str, cores))
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._held = b""
        self._process = subprocess.Popen(
            [*(command or (sys.executable, *module("kts.worker.probe"), "--serve")), "--device", kind],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for whoever started it
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def opened(self) -> DeviceInfo:
        """Waits until the device is open."""
        info = self.answer(START_S).info
        assert info is not None
        return info

    def ask(self, request: Order, most_s: float = ANSWER_S) -> Reply:
        """The answer to the request. What the process says has gone wrong is raised here."""
        self.tell(request)
        return self.answer(most_s)

    def tell(self, request: Order) -> None:
        """Sends without waiting for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def answer(self, most_s: float = ANSWER_S) -> Reply:
        """The next answer. MeasurementError if it does not come or the process is gone."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + most_s
        while b"\n" not in self._held:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise MeasurementError(
                    f"a probe did not answer within {most_s:g} s", "run it again on a calmer machine"
                )
            read = os.read(descriptor, 1 << 20)
            if not read:
                raise self._gone()
            self._held += read
        line, _, self._held = self._held.partition(b"\n")
        found = msgspec.json.decode(line, type=Reply)
        if found.kind == "failed":
            raise _ERRORS.get(found.exit_code, KtsError)(found.what, found.remedy)
        return found

    def trace(self, request: Order, most_s: float = ANSWER_S) -> GapTrace:
        """The answer's trace."""
        found = self.ask(request, most_s).trace
        assert found is not None
        return found

    def end(self) -> None:
        """Closes its stdin, whereupon it ends."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def reap(self) -> None:
        """Waits for its end; kills it if that does not come."""
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _gone(self) -> MeasurementError:
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return MeasurementError(
            f"a probe ended by itself (exit code {code}){': ' + lines[-1] if lines else ''}",
            "look at the message; dmesg tells if the system killed it",
        )


class Neighbourhood:
    """A watcher and up to ``most`` neighbours, all on the same device. For `with`."""

    def __init__(
        self, kind: DeviceKind, most: int, cores: Sequence[int] | None, command: Sequence[str] | None = None
    ) -> None:
        self._arguments = (kind, cores, command)
        self._most = most
        self._processes: list[ProbeProcess] = []
        self.device: DeviceInfo

    def __enter__(self) -> Neighbourhood:
        try:
            for _ in range(1 + self._most):
                self._processes.append(ProbeProcess(*self._arguments))
            found = [process.opened() for process in self._processes]
        except BaseException:
            self._close()
            raise
        self.device = found[0]
        if any(info.uuid != found[0].uuid for info in found):
            self._close()
            raise SetupError("the probes do not see the same device", "set CUDA_VISIBLE_DEVICES to one GPU")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def watcher(self) -> ProbeProcess:
        """The one that watches."""
        return self._processes[0]

    @property
    def neighbours(self) -> list[ProbeProcess]:
        """The others."""
        return self._processes[1:]

    def _close(self) -> None:
        for process in self._processes:
            process.end()
        for process in self._processes:
            process.reap()
        self._processes = []


def gather(processes: Sequence[ProbeProcess], request: Any, most_s: float = ANSWER_S) -> list[Reply]:
    """Asks all of them at once, then waits for each."""
    for process in processes:
        process.tell(request)
    return [process.answer(most_s) for process in processes]


def cores_for(kind: DeviceKind) -> tuple[int, ...] | None:
    """One core for all on the CPU: the last of KTS_CORES or of those that may be used, as tenants have it. None: any.

    UsageError if KTS_CORES is no list.
    """
    if kind != "cpu":
        return None
    wanted = os.environ.get("KTS_CORES", "")
    return (max(parse_cores(wanted) if wanted and wanted != LAST_CORE else usable_cores()),)
