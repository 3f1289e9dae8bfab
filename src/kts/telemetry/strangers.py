"""Looks for processes on the run's GPU that are not the run's, as NVML lists them.

Where NVML numbers processes as this pid namespace does (`ancestry.same_numbers`), they are told apart one by one, else
they are counted. Drivers
from about 560 on list a container no processes but its own, so what they do not list there may be there all the same.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from kts.model.neighbours import Look, Seen
from kts.model.run import WorkerInfo
from kts.telemetry.ancestry import command, descends, same_numbers
from kts.telemetry.nvml import NvmlBacked
from kts.telemetry.source import SourceMissingError
from kts.units import NS_PER_S
from kts.worker.sharing import MPS_SERVER

BY = "NVML"
EVERY_S = 2.0
JOIN_S = 2.0
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""Its inode (PROC_PID_INIT_INO of Linux)."""
_NOT_OURS = "it lists none of the run's own processes, or some that are not here, so it tells nothing of others"


class Strangers(NvmlBacked):
    """A thread that looks every ``every_s`` seconds, once all ``tenants`` are known, until `close`; tells each look.

    ``countable``: each tenant is one process for the whole run, so that more processes than tenants are strangers.
    """

    def __init__(
        self,
        told: Callable[[Look], None],
        tenants: Collection[str],
        *,
        countable: bool,
        nvml: Any = None,
        every_s: float = EVERY_S,
        proc: Path = Path("/proc"),
    ) -> None:
        super().__init__(nvml)
        self._told, self._countable, self._every_s, self._proc = told, countable, every_s, proc
        self._unknown = set(tenants)
        self._pids: set[int] = set()
        self._tenants: set[str] = set()
        self._saw = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def worker(self, info: WorkerInfo) -> None:
        """A tenant's device is open, or told again."""
        if info.device.kind != "cuda" or self._over.is_set():
            return
        self._tenants.add(info.tenant)
        self._unknown.discard(info.tenant)
        if info.hostname == socket.gethostname():
            self._pids.add(info.pid)
        # Not before: a tenant that is not known yet would be taken for a stranger.
        if self._thread is None and not self._unknown:
            self._thread = threading.Thread(target=self._run, args=(info.device.uuid,), name="strangers", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """No look begins after this. Idempotent; may take a moment."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def look(self) -> Look | None:
        """Who is there now; None where NVML lists none of the run's own. NVMLError."""
        at_ns, nvml = time.time_ns(), self._nvml
        clients: list[Any] = []
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            clients = nvml.nvmlDeviceGetMPSComputeRunningProcesses(self._handle)
        listed = {one.pid for one in (*nvml.nvmlDeviceGetComputeRunningProcesses(self._handle), *clients)}
        alive = {pid for pid in tuple(self._pids) if (self._proc / str(pid)).exists()}
        if same_numbers(listed, alive, self._proc):
            others = [pid for pid in sorted(listed) if not self._is_ours(pid, alive)]
            return self._seen(at_ns, [self._name(pid) for pid in others], whole=self._sees_everybody())
        ours, extra = len(self._tenants), len(listed) - len(self._tenants)
        if clients or not self._countable or listed & alive or extra < 0:
            return None
        words = f"{extra} process{'es' if extra > 1 else ''} more than the run's {ours}"
        return self._seen(at_ns, [words] if extra else [], whole=True)

    def _seen(self, at_ns: int, who: list[str], *, whole: bool) -> Look:
        others = tuple(Seen(who=one, what="computes on the GPU", device=self._uuid) for one in who)
        return Look(by=BY, every_ns=round(self._every_s * NS_PER_S), at_ns=at_ns, others=others, whole=whole)

    def _is_ours(self, pid: int, ours: set[int]) -> bool:
        """Whether it is a worker or was started by one; so is a server through which they compute."""
        return command(pid, self._proc).startswith(MPS_SERVER) or descends(pid, ours, self._proc)

    def _name(self, pid: int) -> str:
        name = command(pid, self._proc)
        return f"process {pid}{f' ({name})' if name else ''}"

    def _sees_everybody(self) -> bool:
        with contextlib.suppress(OSError):
            return (self._proc / "self" / "ns" / "pid").stat().st_ino == _INITIAL_PID_NAMESPACE
        return False

    def _run(self, uuid: str) -> None:
        """The thread. Whatever NVML does, the run goes on."""
        problem = _NOT_OURS
        try:
            nvml = self._open_device(uuid)
            if self._is_cut(nvml, uuid):
                raise SourceMissingError("the GPU is cut (MIG): it lists the processes of all parts")
            while not self._over.is_set():
                if (look := self.look()) is not None:
                    self._saw = True
                    self._told(look)
                self._over.wait(self._every_s)
        except Exception as error:
            problem = " ".join(str(error).split())[:300] or type(error).__name__
            self._saw = False
        if not self._saw:
            self._told(Look(by=BY, every_ns=round(self._every_s * NS_PER_S), problem=problem))
        super().close()

    def _is_cut(self, nvml: Any, uuid: str) -> bool:
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            return not uuid.startswith("MIG-") and bool(nvml.nvmlDeviceGetMigMode(self._handle)[0])
        return False
