"""A worker that joined a run: does what the conductor says, until Finish."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from kts.errors import DataError, SetupError, UsageError
from kts.model.mode import Evidence
from kts.model.plan import DeviceChoice, Tenant, Work
from kts.model.run import DeviceInfo
from kts.shown import one_line
from kts.wire.messages import (
    PROTOCOL,
    BlockDone,
    Calibrate,
    Finish,
    Hello,
    Opened,
    Refuse,
    Start,
    Stop,
    Welcome,
)
from kts.worker.cgroup import cpu_limit
from kts.worker.clocks import clock_pair
from kts.worker.detect import visible_gpus
from kts.worker.failures import BesideError, failed
from kts.worker.host import HostReader, boot_id
from kts.worker.link import BlockOutlet, Link, LinkLostError
from kts.worker.loop import exempt_from_collection
from kts.worker.printed import Printed, printed_for
from kts.worker.sharing import seen_from
from kts.worker.tenants import Runner, runner_for

_Default = TypeVar("_Default", int, None)
_IDLE_S = 0.25  # between heartbeats


class _Manner(NamedTuple):
    """How a tenant is carried; see `join`."""

    make_runner: Callable[[Tenant, DeviceChoice], Runner]
    seen: Callable[[str, DeviceInfo], tuple[Evidence, ...]]
    is_thread: bool


def join(
    env: Mapping[str, str],
    make_runner: Callable[[Tenant, DeviceChoice], Runner] = runner_for,
    arguments: Sequence[str] = (),
    *,
    seen: Callable[[str, DeviceInfo], tuple[Evidence, ...]] = seen_from,
    is_thread: bool = False,
) -> int:
    """Joins the run that KTS_CONDUCTOR, KTS_TOKEN and KTS_TENANT name; the exit code once it is over.

    KTS_WORKER names this process; by default it has its tenant's name, with KTS_BLOCK's number behind it.
    KTS_BLOCK: the one block to join it for, where each has workers of its own.
    ``arguments``: of the command line, if they name work; they and ``env`` must ask for what the plan asks for.
    ``seen``: what tells how the device is shared. ``is_thread``: other tenants are threads of this process, too.

    0 after Finish; 4 if refused or not set up; 5 if the conductor vanished or the work failed.
    UsageError if a variable is missing.
    """
    host, port = _address(_required(env, "KTS_CONDUCTOR"), env.get("KTS_CONDUCTOR_NAME", ""))
    token, name = _required(env, "KTS_TOKEN"), _required(env, "KTS_TENANT")
    try:
        with contextlib.closing(Link.connect(host, port, _whole(env, "KTS_JOIN_S", 0))) as link:
            block = _whole(env, "KTS_BLOCK", None)
            hello = Hello(
                protocol=PROTOCOL,
                token=token,
                tenant=name,
                worker=env.get("KTS_WORKER") or (name if block is None else f"{name}-{block}"),
                pid=os.getpid(),
                hostname=socket.gethostname(),
                block=block,
            )
            welcome = _greet(link, hello)
            manner = _Manner(make_runner, seen, is_thread)
            return SetupError.exit_code if welcome is None else _attend(link, welcome, manner, env, arguments)
    except LinkLostError as error:
        say(f"tenant {name}: {error.what}")
        return error.exit_code


def _greet(link: Link, hello: Hello) -> Welcome | None:
    """The conductor's answer; None if it refused, which is told."""
    link.send(hello)
    answer = link.receive(_IDLE_S)
    while answer is None:
        answer = link.receive(_IDLE_S)
    if isinstance(answer, Refuse):
        say(f"tenant {hello.tenant}: refused: {answer.what}")
        return None
    if not isinstance(answer, Welcome):
        raise LinkLostError(f"the conductor answers Hello with {type(answer).__name__}")
    return answer


def _attend(
    link: Link,
    welcome: Welcome,
    manner: _Manner,
    env: Mapping[str, str],
    arguments: Sequence[str],
) -> int:
    name = welcome.tenant.name
    runner = manner.make_runner(welcome.tenant, welcome.device)
    try:
        printed = printed_for(welcome.tenant, welcome.device, env, arguments)
        _serve(link, runner, welcome.tenant, printed, manner)
    except LinkLostError:
        raise
    except BesideError as error:  # the conductor asks the cluster why, as of a worker that died
        say(f"tenant {name}: {error.what}")
        return error.exit_code
    except Exception as error:
        message = failed(name, error)
        with contextlib.suppress(LinkLostError):
            link.send(message)
        say(message.what)
        if os.environ.get("KTS_DEBUG") == "1":
            raise
        return SetupError.exit_code if message.kind == "setup" else 5
    finally:
        runner.close()
    return 0


def _serve(link: Link, runner: Runner, tenant: Tenant, printed: Printed | None, manner: _Manner) -> None:
    own = os.sched_getaffinity(0)  # the tenant's; the worker of a program leaves them
    info = runner.open()
    beside = runner.container
    # Where kts chose the worker's cores the program is put there; else it has those of its container.
    cores = own if beside is None or os.environ.get("KTS_CORES") else beside.cores() or own
    limit = cpu_limit() if beside is None else beside.cpu_limit()
    opened = Opened(
        device=info,
        cores=tuple(sorted(cores)),
        gpus=_gpus(tenant.work, info),
        cpu_limit=limit,
        boot_id=boot_id(),
    )
    link.send(opened)
    reader = HostReader(own=tenant.work.in_thread, thread=manner.is_thread, container=beside)
    with contextlib.closing(reader) as host:
        while True:
            match link.receive(_IDLE_S):
                case None:
                    link.pulse()
                case Finish():
                    if printed is not None:
                        printed.end()
                    return
                case Stop():
                    pass  # of a block that is over
                case Calibrate(size=size):
                    ready = runner.calibrate(link.pulse, size)
                    if printed is not None:
                        printed.begin(info, ready)
                    exempt_from_collection()
                    link.send(msgspec.structs.replace(ready, sharing=manner.seen(tenant.name, info)))
                case Start() as start:
                    link.send(_block(link, runner, start, printed, host))
                case unexpected:
                    raise DataError(f"the conductor sent {type(unexpected).__name__} after Welcome")


def _gpus(work: Work, info: DeviceInfo) -> tuple[str, ...]:
    """The GPUs that the tenant's own container was given, as it tells."""
    return (info.uuid,) if work.image and info.kind == "cuda" else visible_gpus()


def _block(link: Link, runner: Runner, start: Start, printed: Printed | None, host: HostReader) -> BlockDone:
    before = clock_pair()
    if start.telemetry:
        host.block_begins()
    outlet = BlockOutlet(link, start.block, host=host if start.telemetry else None)
    left = runner.run(start, outlet if printed is None else printed.beside(outlet))
    return BlockDone(
        block=start.block,
        chunks=outlet.chunks,
        count=outlet.count,
        clocks=(before, clock_pair()),
        skipped=left.outside,
        unread=left.unread,
        events_lost=left.events_lost,
        notes=left.notes,
        opened_ns=start.start_ns,
        closed_ns=outlet.closed_ns,
        threads=host.longest_waits() if start.telemetry else (),
    )


def _required(env: Mapping[str, str], name: str) -> str:
    if value := env.get(name, ""):
        return value
    raise UsageError(f"{name} is not set", "--join is used by kts run; to run alone: python -m kts.worker fft")


def _whole(env: Mapping[str, str], name: str, default: _Default) -> int | _Default:
    """The variable's value; ``default`` where it is unset."""
    text = env.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name}={text!r} is not a whole number", f"for example {name}=120")
    return int(text)


def _address(text: str, name: str) -> tuple[str, int]:
    """Host and port. ``name``: the host's, for where Kubernetes did not fill in its address.

    A node that learns of the run's Service after it started the pod leaves the variable as it is.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("$(") and name:
        host = name
    if host.startswith("$("):
        raise SetupError(
            f"this pod was started before its node knew the run's Service ({host} was not filled in)",
            "delete the pod's Job and apply it again",
        )
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise UsageError(f"KTS_CONDUCTOR={text!r} is not host:port", "for example KTS_CONDUCTOR=127.0.0.1:7000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def say(line: str) -> None:
    """A line for people, in the worker's log."""
    print(f"kts.worker: {one_line(line)}", file=sys.stderr, flush=True)
