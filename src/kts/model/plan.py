"""The frozen plan of a run: who runs, how large the work is, which tenants are active in which block.

A plan is made by `kts.plan` from an experiment file, completed once by the conductor (sizes that
calibration found), written to run.json, and never changed after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeVar, get_args

import msgspec

from kts.arrivals import Arrivals, Closed
from kts.model.mode import MIG, STREAMS, Mode

Design = Literal["classic", "interleaved"]
SizedKernel = Literal["fft", "gemm"]
"""Kernels of which calibration finds the size for a wanted duration."""
PlainKernel = Literal["tiny"]
"""Kernels that have a size and nothing else."""
KernelName = Literal[SizedKernel, PlainKernel, "decode"]
"""What we compute ourselves, each in `kts.worker.workloads` by that name."""
SIZED: tuple[SizedKernel, ...] = get_args(SizedKernel)
KERNELS: tuple[KernelName, ...] = get_args(KernelName)
SETTLE_SECONDS = 10.0
PROGRAM = "command"
"""The workload of the user's own programs, as experiment files and results name it."""
Library = Literal["auto", "torch", "cupy", "numpy"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
DeviceChoice = Literal["auto", "cuda", "cpu"]
DEVICES: tuple[DeviceChoice, ...] = get_args(DeviceChoice)
Trace = Literal["auto", "calls", "off"]
"""Whether a program's calls to the GPU are seen. auto: where its device is a GPU."""


class Slo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the tenant's owner was promised. ``p99_ms``: response p99 at most; ``deadline_ms``: an
    iteration whose response is longer is a miss (goodput counts the others)."""

    p99_ms: float | None = None
    deadline_ms: float | None = None


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """The decoder of a ``decode`` tenant, but for its width, which is the work's ``size``.

    ``context``: positions attended to. ``graph``: its launches are captured once and replayed as one CUDA graph.
    """

    layers: int = 6
    context: int = 1024
    graph: bool = False


class Kernel(msgspec.Struct, frozen=True, kw_only=True, tag="kernel"):
    """Work that we compute ourselves, in the worker's own process.

    ``size``: edge of the square problem (fft, gemm), elements (tiny), or width of the model (decode).
    Exactly one of ``size`` and ``target_ms`` is given for fft and gemm; calibration fills ``size`` for a
    ``target_ms``. ``decoder`` is for the workload ``decode`` alone. ``settle_seconds``: how long it may take at most to
    be steady before its first block.
    """

    workload: KernelName
    size: int | None = None
    target_ms: float | None = None
    library: Library = "auto"
    warmup: int = 5
    decoder: Decoder | None = None
    settle_seconds: float = SETTLE_SECONDS

    in_thread: ClassVar[bool] = True
    traceable: ClassVar[bool] = True
    run_in_ms: ClassVar[float] = 0.0
    image: ClassVar[str] = ""

    @property
    def alone(self) -> bool:
        """True where a worker without a conductor can do it."""
        return self.workload in SIZED

    @property
    def graph(self) -> bool:
        """True where it is replayed as one CUDA graph, and so needs a GPU and torch."""
        return self.decoder is not None and self.decoder.graph

    def sized(self, size: int | None) -> Kernel:
        """The same at the size that calibration settled; None: as it is."""
        return self if size is None else msgspec.structs.replace(self, size=size)

    def using(self, library: str) -> Kernel:
        """The same with the library that was chosen; as it is where ``library`` is none of `Library`."""
        chosen = next((one for one in LIBRARIES if one == library), self.library)
        return msgspec.structs.replace(self, library=chosen)


class Lines(msgspec.Struct, frozen=True, kw_only=True, tag="lines"):
    """A program's iterations are the KTS_APP lines that it prints."""

    needs_tracer: ClassVar[bool] = False


class Ranges(msgspec.Struct, frozen=True, kw_only=True, tag="ranges"):
    """They are its NVTX ranges of this name, whichever thread or process they are of."""

    name: str

    needs_tracer: ClassVar[bool] = True


class RoundTrips(msgspec.Struct, frozen=True, kw_only=True, tag="round-trips"):
    """They are its round trips: ``each`` of these one after the other; None: as many as their pattern repeats after.

    A round trip goes from the first work that a process hands to the GPU while nothing of its own is in flight until
    the host has waited for it.
    """

    each: int | None = None

    needs_tracer: ClassVar[bool] = True


Iteration = Lines | Ranges | RoundTrips
"""What an iteration of a program is, told apart by the tag ``type``."""


class Program(msgspec.Struct, frozen=True, kw_only=True, tag="program"):
    """The user's own program, unchanged: ``command`` (argv) with ``env`` added to its environment.

    ``iteration``: what counts as one; None: the lines that it prints, or its round trips where it prints none. A
    program that has none of these has no iterations: it is a neighbour. ``image``: in whose container it runs, in pods
    alone; empty: beside the worker. ``workdir``: the folder that it starts in; empty: the worker's, or the image's.
    ``keep_values``: its arguments and values of ``env`` are kept with the run, see `kts.model.masking`.
    """

    command: tuple[str, ...]
    env: dict[str, str] = {}
    warmup: int = 5
    settle_seconds: float = SETTLE_SECONDS
    iteration: Iteration | None = None
    trace: Trace = "auto"
    image: str = ""
    workdir: str = ""
    keep_values: bool = False

    workload: ClassVar[str] = PROGRAM
    size: ClassVar[None] = None
    target_ms: ClassVar[None] = None
    in_thread: ClassVar[bool] = False
    traceable: ClassVar[bool] = False
    run_in_ms: ClassVar[float] = 250.0
    alone: ClassVar[bool] = False
    graph: ClassVar[bool] = False

    def sized(self, size: int | None) -> Program:
        """Itself: its size is its own business."""
        del size
        return self

    def using(self, library: str) -> Program:
        """Itself: so are its libraries."""
        del library
        return self


Work = Kernel | Program
"""What a tenant runs, told apart by the tag ``type``; `kts.worker.tenants` holds a file for each, named as its tag.

What a kind can do, it says itself. ``workload``: its name in experiment files and results. ``size``, ``target_ms``:
None where calibration settles nothing. ``in_thread``: the worker's thread does the work itself, on a device of ours, so
that each block has iterations, and what the kernel's scheduler says of the thread is said of the tenant; otherwise the
program tells of its iterations, or does not. ``image``: the container image that it runs in, beside the worker's;
empty: it runs where the worker does. ``traceable``: its launches can be traced. ``run_in_ms``: so long it runs before a
window opens, since its first iterations after it was held are slower than those of its life. ``alone``: a worker
without a conductor can do it. ``graph``: it needs a GPU.
"""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant. ``iterations`` or ``seconds`` is the amount wanted per condition, over all rounds."""

    name: str
    work: Work
    arrivals: Arrivals = Closed()
    iterations: int | None = None
    seconds: float | None = None
    slo: Slo = Slo()
    seed: int = 0

    def check(self) -> None:
        """ValueError where it is not told how much it does."""
        if not (self.iterations or self.seconds or 0) > 0:
            raise ValueError(f"tenant {self.name!r} has neither iterations nor seconds")


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A set of tenants active together. ``name``: ``solo-fft``, ``shared-fft+gemm``."""

    name: str
    tenants: tuple[str, ...]

    @property
    def is_solo(self) -> bool:
        """True where one tenant has the device to itself."""
        return len(self.tenants) == 1


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """How much one tenant does in one block: a number of iterations, or a time, never both.

    With ``linger`` the tenant goes on after its iterations until it is told to stop, so that its
    neighbours never run alone in a shared block; without (classic design) it stops at once.
    """

    iterations: int | None = None
    seconds: float | None = None
    linger: bool = True


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time with a fixed set of active tenants. ``index`` is unique within the run."""

    index: int
    round: int
    condition: str
    quotas: dict[str, Quota]

    @property
    def tenants(self) -> tuple[str, ...]:
        """The active tenants, in the plan's order."""
        return tuple(self.quotas)


_Named = TypeVar("_Named", Tenant, Condition)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions of an experiment, A and B, measured in turns in one run: is B's tail worse than A's?

    ``a``, ``b``: their names. ``tenants``: by the name that both have, what the plan calls it in A and in B. ``asked``:
    of these, whose tails are judged. ``tolerance``: how much worse is tolerated, as a share.
    """

    a: str
    b: str
    tenants: dict[str, tuple[str, str]]
    asked: tuple[str, ...]
    tolerance: float


class InMode(msgspec.Struct, frozen=True, kw_only=True):
    """One of the modes that a run measures in turns. By the names that all modes have in common: ``tenants``, what the
    plan calls them in this mode; ``mixes``, what it calls the shared conditions. Solo conditions belong to every mode;
    one without mixes is the exclusive use of the device."""

    mode: Mode
    tenants: dict[str, str]
    mixes: dict[str, str]


class Crew(msgspec.Struct, frozen=True, kw_only=True):
    """Tenants that are threads of one process. ``first``: whose stream has priority; empty: all are equal."""

    tenants: tuple[str, ...]
    first: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is decided before the first timed iteration.

    ``rounds`` is the number of rounds always run; with ``precision`` set, more follow (up to
    ``max_rounds`` and ``max_seconds`` of measuring) until the 95 % interval of every tenant's
    response DF99, in every shared condition, is within +-``precision`` (relative). ``precision``
    None: exactly ``rounds``. ``subject``: the tenant that is asked about; the others are its neighbours, of which no
    figures are asked. Empty: every tenant is asked about. ``pair``: it measures two versions; after ``rounds`` it goes
    on until their comparison is decided. Its conditions are A's tenants together and B's. ``modes``: it measures the
    same mixes in each of these.
    """

    name: str
    design: Design
    tenants: tuple[Tenant, ...]
    conditions: tuple[Condition, ...]
    rounds: int
    max_rounds: int
    precision: float | None = None
    max_seconds: float | None = None
    device: DeviceChoice = "auto"
    seed: int = 0
    allow_different_gpus: bool = False
    subject: str = ""
    pair: Pair | None = None
    modes: tuple[InMode, ...] = ()

    def check(self) -> None:
        """ValueError where its parts do not fit together."""
        names = {tenant.name for tenant in self.tenants}
        mixed = {name for condition in self.conditions for name in condition.tenants}
        if not self.conditions or not mixed <= names or not all(condition.tenants for condition in self.conditions):
            raise ValueError("the plan's conditions are not of its tenants")
        if len(names) < len(self.tenants) or len({one.name for one in self.conditions}) < len(self.conditions):
            raise ValueError("the plan has two tenants or conditions of one name")
        if self.subject and self.subject not in names:
            raise ValueError("the plan is about none of its tenants")
        if self.rounds < 1 or self.max_rounds < self.rounds:
            raise ValueError("the plan has no rounds")
        if self.pair is not None and not {name for both in self.pair.tenants.values() for name in both} <= names:
            raise ValueError("the plan compares tenants that it does not have")
        if not {name for one in self.modes for name in one.tenants.values()} <= names:
            raise ValueError("the plan has modes of tenants that it does not have")

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name. KeyError if there is none."""
        return _named(self.tenants, name)

    def condition(self, name: str) -> Condition:
        """The condition of that name. KeyError if there is none."""
        return _named(self.conditions, name)

    def resolved(self, kinds: Mapping[str, str], libraries: Mapping[str, str]) -> Plan:
        """The plan with what each "auto" came to, by tenant: its library, and the device where it is one for all."""
        tenants = tuple(
            msgspec.structs.replace(one, work=one.work.using(libraries[one.name])) if one.name in libraries else one
            for one in self.tenants
        )
        device = next((one for one in DEVICES if {one} == set(kinds.values())), self.device)
        return msgspec.structs.replace(self, tenants=tenants, device=device)

    @property
    def sequential(self) -> bool:
        """True where more than ``rounds`` may follow, until a question is answered."""
        return self.precision is not None or self.pair is not None

    @property
    def allowed_rounds(self) -> int:
        """How many rounds there may be, as long as time lasts."""
        return self.max_rounds if self.sequential else self.rounds

    @property
    def cut(self) -> bool:
        """True where each tenant is to have a MIG device of its own."""
        return any(one.mode.kind == MIG for one in self.modes)

    def plain(self, tenant: str) -> str:
        """What all modes, or both versions of a pair, call a tenant of the plan; elsewhere its name."""
        sides = [one.tenants for one in self.modes]
        if self.pair is not None:
            sides += [{plain: both[side] for plain, both in self.pair.tenants.items()} for side in (0, 1)]
        return next((plain for side in sides for plain, name in side.items() if name == tenant), tenant)

    def mode_of(self, condition: str) -> tuple[str, str]:
        """Of a mix in one of several modes: the mode's name, and what all modes call the mix; elsewhere empty, and its
        name."""
        named = ((one.mode.name, plain) for one in self.modes for plain, mix in one.mixes.items() if mix == condition)
        return next(named, ("", condition))

    def in_mode(self, name: str) -> Plan:
        """What a run of that mode alone would have planned, in the names that all modes have in common. KeyError if
        the plan has no such mode."""
        one = next((one for one in self.modes if one.mode.name == name), None)
        if one is None:
            raise KeyError(f"no mode {name}")
        named = {mix: plain for plain, mix in one.mixes.items()}
        plain_of = {tenant: plain for plain, tenant in one.tenants.items()}
        conditions = tuple(
            Condition(
                name=named.get(c.name, c.name), tenants=tuple(plain_of.get(tenant, tenant) for tenant in c.tenants)
            )
            for c in self.conditions
            if c.is_solo or c.name in named
        )
        tenants = tuple(self.tenant(plain) for plain in one.tenants)
        return msgspec.structs.replace(self, tenants=tenants, conditions=conditions, modes=())

    @property
    def crews(self) -> tuple[Crew, ...]:
        """Those of each mode `STREAMS`; all other tenants have a process each."""
        return tuple(
            Crew(tenants=tuple(one.tenants.values()), first=one.tenants.get(one.mode.first, ""))
            for one in self.modes
            if one.mode.kind == STREAMS
        )

    def twin(self, name: str) -> str:
        """The tenant that does the same work, and so must have the size of ``name``: of one of B that of A, of one in a
        mode that in the first; empty if there is none."""
        if plain := next((p for one in self.modes for p, tenant in one.tenants.items() if tenant == name != p), ""):
            return plain
        both = (one for one in self.pair.tenants.values() if one[1] == name) if self.pair else ()
        return next((a for a, b in both if self.tenant(a).work == self.tenant(b).work), "")

    @property
    def asked(self) -> tuple[str, ...]:
        """The tenants that are asked about: the subject, or all; of a pair those of A, for the shared condition of a
        summary is one, and `Pair` says of whom the comparison is."""
        if self.pair is not None:
            return self.full_house.tenants
        if self.subject:
            return (self.subject,)
        return tuple(self.modes[0].tenants) if self.modes else tuple(tenant.name for tenant in self.tenants)

    def solo(self, tenant: str) -> Condition:
        """The condition in which ``tenant`` runs alone. KeyError if the plan has none."""
        for condition in self.conditions:
            if condition.tenants == (tenant,):
                return condition
        raise KeyError(f"no solo condition for {tenant}")

    @property
    def mixes(self) -> tuple[Condition, ...]:
        """The shared conditions, the full house last; empty where every tenant only runs alone."""
        house = self.full_house
        together = [c for c in self.conditions if not c.is_solo and c.name != house.name]
        return tuple(together) if house.is_solo else (*together, house)

    @property
    def full_house(self) -> Condition:
        """The condition with the most tenants, the first of several: what the headline's "shared" means."""
        return max(self.conditions, key=lambda c: len(c.tenants))


def _named(things: Sequence[_Named], name: str) -> _Named:
    for one in things:
        if one.name == name:
            return one
    raise KeyError(name)
