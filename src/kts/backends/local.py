"""Workers as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec

from kts import files
from kts.backends.placement import Placement, pin_conductor, place, topology
from kts.conduct.ports import Endpoint, WorkerExit
from kts.errors import SetupError
from kts.model.plan import Crew, Plan, Program, Tenant
from kts.opening import last_line
from kts.wire.appline import PREFIX
from kts.worker.detect import choose_for
from kts.worker.interpreter import module
from kts.worker.prepare import MEMBERS, SPARE_CORES, THREAD_VARIABLES

COMMAND_VARIABLES = (*THREAD_VARIABLES, "NUMEXPR_NUM_THREADS")  # a user's program may use more than our workloads
POLL_S = 0.02
BY_SESSION_NOTE = (
    "this kernel shares a core by sessions (sched_autogroup_enabled): where other programs run on the tenants' cores, "
    "the one process of streams gets less of them than the several of other modes"
)
STRANGERS_NOTE = (
    "another kts was measuring on this machine at the same time: where it used the same device or cores, "
    "its tenants are in these figures"
)
_WORKERS = tuple(f"\0-m\0kts.worker\0{option}\0".encode() for option in ("--join", "--profile"))

# Becomes the worker, after asking the kernel to kill it when the thread that started it ends: so a `kill -9` of
# kts leaves no worker on the device, even one that is stuck and never looks at its connection. Done in the
# child's own program, because code between fork and exec may deadlock in a process that has threads.
_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("kts ended before its worker started")
os.execv(sys.argv[2], sys.argv[2:])
"""


class LocalBackend:
    """One process per tenant, or per `Crew` of the plan, each in a session of its own, so that Ctrl-C reaches kts
    alone.

    ``worker`` is what ``python`` is told to run, by default ours; what it prints goes to ``log_dir/<tenant>.log``, the
    first one's of a crew.
    ``env``: what is added to a tenant's environment; ``trouble``: what has gone wrong with what was prepared for it.
    `start` moves the calling thread to cores that no tenant has, `stop` moves it back. `start` must be called by the
    thread that lives through the run: the workers die with it.
    """

    name = "local"
    sees_ends = True

    def __init__(
        self,
        log_dir: Path,
        *,
        python: str = sys.executable,
        worker: Sequence[str] | None = None,
        env: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        trouble: Callable[[], Sequence[str]] = tuple,
        among: Plan | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._env, self._trouble, self._among = env, trouble, among
        self._command = (python, *(worker or (*module("kts.worker"), "--join")))
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}
        self._reported: set[str] = set()
        self._placement: Placement | None = None
        self._has_crews = False
        self._former_cores: tuple[int, ...] = ()

    def start(self, plan: Plan, endpoint: Endpoint) -> None:
        """Starts one worker per tenant; returns at once. SetupError if that cannot be."""
        self._placement = placed(plan, self._among)
        crews = {name: crew for crew in plan.crews for name in crew.tenants}
        self._has_crews = bool(crews)
        try:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            for tenant in plan.tenants:
                if tenant.name not in self._workers:
                    crew = crews.get(tenant.name, Crew(tenants=(tenant.name,)))
                    worker = self._spawn(crew, endpoint, self._placement)
                    self._workers |= dict.fromkeys(crew.tenants, worker)
            self._former_cores = pin_conductor(self._placement.conductor)
        except OSError as error:
            raise SetupError(f"cannot start the workers: {error}", "see the message; nothing was measured") from error

    def notes(self) -> list[str]:
        """What a reader of the results must know of where the workers run, as things are now."""
        known = (
            self._placement.note if self._placement else "",
            STRANGERS_NOTE if strangers() else "",
            BY_SESSION_NOTE if self._has_crews and shares_by_session() else "",
        )
        return [note for note in (*known, *self._trouble()) if note]

    def _spawn(self, crew: Crew, endpoint: Endpoint, placement: Placement) -> subprocess.Popen[bytes]:
        first = crew.tenants[0]
        cores = tuple(sorted({core for name in crew.tenants for core in placement.tenants[name]}))
        threads = max(len(placement.tenants[name]) for name in crew.tenants)
        env = {**os.environ, **self._env.get(first, {})}
        env.update(dict.fromkeys(COMMAND_VARIABLES, str(threads)))
        env["KTS_CONDUCTOR"] = f"{endpoint.host}:{endpoint.port}"
        env["KTS_TOKEN"] = endpoint.token
        env["KTS_TENANT"] = first
        env["KTS_CORES"] = ",".join(map(str, cores))
        env.pop(MEMBERS, None)
        if len(crew.tenants) > 1:
            env[MEMBERS] = _members(crew, placement)
        env.pop(SPARE_CORES, None)
        if not set(cores) & set(placement.conductor):
            env[SPARE_CORES] = ",".join(map(str, placement.conductor))
        launcher = [self._command[0], "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        log_file = self._log_dir / f"{first}.log"
        self._logs |= dict.fromkeys(crew.tenants, log_file)
        with os.fdopen(files.opened(log_file, os.O_WRONLY | os.O_TRUNC), "wb") as log:
            return subprocess.Popen(
                [*launcher, *self._command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> list[WorkerExit]:
        """Workers that ended since the last call. Never blocks."""
        ended = []
        for name, process in self._workers.items():
            if name not in self._reported and _reap(process):
                self._reported.add(name)
                reason, log = self._reason(name, process), self._logs[name]
                remedy = (
                    ""
                    if log.stem == name
                    else f"see the log of {log.stem} in the run directory: one process carries both"
                )
                ended.append(WorkerExit(tenant=name, code=process.returncode, reason=reason, remedy=remedy))
        return ended

    def _reason(self, name: str, process: subprocess.Popen[bytes]) -> str:
        code = process.returncode
        how = f"exit code {code}"
        if code < 0:
            with suppress(ValueError):
                how = f"killed by {signal.Signals(-code).name}"
        last = last_line(self._logs[name], but=PREFIX)
        return f"{how}: {last}" if last else how

    def stop(self, grace_s: float) -> None:
        """Ends every worker still alive (politely, then after ``grace_s`` by force) and reaps it. Idempotent."""
        try:
            if not self._all_ended():
                self._signal(signal.SIGTERM)
                deadline = time.monotonic() + grace_s
                while not self._all_ended() and time.monotonic() < deadline:
                    time.sleep(POLL_S)
        finally:
            self._signal(signal.SIGKILL)
            for process in self._workers.values():
                process.wait()
            if self._former_cores:
                pin_conductor(self._former_cores)
                self._former_cores = ()

    def _all_ended(self) -> bool:
        ended = [_reap(process) for process in self._workers.values()]
        return all(ended)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._workers.values():
            if process.returncode is None:
                _signal_group(process, number)


def _members(crew: Crew, placement: Placement) -> str:
    """See `kts.worker.prepare.MEMBERS`."""
    wishes = {name: "equal" if not crew.first else "first" if name == crew.first else "behind" for name in crew.tenants}
    told = [{"tenant": name, "cores": placement.tenants[name], "stream": wish} for name, wish in wishes.items()]
    return msgspec.json.encode(told).decode()


def placed(plan: Plan, among: Plan | None = None) -> Placement:
    """Who gets which of the cores that this process may run on: those of the run of ``among``, of which the plan is a
    part. SetupError as of `tenants_device`."""
    whole = among or plan
    cores = tuple(sorted(os.sched_getaffinity(0)))
    seats = {one.name: whole.twin(one.name) or one.name for one in whole.tenants}  # twins never run together
    names = list(dict.fromkeys(seats.values()))
    programs = {seats[one.name] for one in whole.tenants if isinstance(one.work, Program)}
    found = place(names, tenants_device(whole), cores, topology(cores), programs)
    given = {one.name: found.tenants[_seat(one, whole, seats)] for one in plan.tenants}
    return msgspec.structs.replace(found, tenants=given)


def _seat(tenant: Tenant, whole: Plan, seats: Mapping[str, str]) -> str:
    """Its own, or that of one with the same work: of replicas one is profiled, under the name of them all."""
    same = next((one.name for one in whole.tenants if one.work == tenant.work), whole.tenants[0].name)
    return seats.get(tenant.name, seats[same])


def tenants_device(plan: Plan) -> Literal["cuda", "cpu"]:
    """What the tenants will share; ``cpu`` if any of them needs it. SetupError where one cannot run."""
    kinds = {choose_for(plan.device, tenant.work)[0] for tenant in plan.tenants}
    return "cpu" if "cpu" in kinds else "cuda"


def _reap(process: subprocess.Popen[bytes]) -> bool:
    """True if the worker has ended. What it left behind in its group is killed before its number is free again."""
    if process.returncode is not None:
        return True
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return False
    _signal_group(process, signal.SIGKILL)
    process.wait()
    return True


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the worker and the programs it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def shares_by_session(proc: Path = Path("/proc")) -> bool:
    """Whether the scheduler gives each session the same, however many threads it has; workers have one each."""
    try:
        return (proc / "sys/kernel/sched_autogroup_enabled").read_text().strip() == "1"
    except OSError:
        return False


def strangers(proc: Path = Path("/proc")) -> list[int]:
    """Process ids of workers that some other kts started, as far as this process may see them."""
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit() and _is_stranger(entry)]


def _is_stranger(process: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
        if not any(worker in command for worker in _WORKERS):
            return False
        # "PID (NAME) STATE PPID ...", where the name may hold anything
        parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
    except OSError:
        return False
    return int(parent) != os.getpid()
