"""The experiment as the user writes it: pydantic models, frozen, unknown keys refused.

Field descriptions become the published JSON Schema (`kts schema experiment`). Units are in the
names: ``_ms`` milliseconds, ``seconds``. docs/experiments.md explains each key at more length.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kts.arrivals import PROCESSES, ArrivalName, Arrivals
from kts.model.plan import (
    SETTLE_SECONDS,
    Decoder,
    Design,
    DeviceChoice,
    Iteration,
    Kernel,
    Library,
    Lines,
    PlainKernel,
    Program,
    Ranges,
    RoundTrips,
    SizedKernel,
    Trace,
    Work,
)
from kts.spec.mixes import MAX_MIXES, Mixes, check_mixes, hint
from kts.spec.shellwords import split_words

DEFAULT_SIZE = 4096
DEFAULT_ITERATIONS = 800
MAX_TENANTS = 64
MAX_DUES = 10_000
MAX_ROUND_TRIPS = 10_000
MAX_RANGE_NAME = 256
HEAD_WIDTH = 64
MAX_NAME = 40
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$"
"""Names of container images, roughly: what is wrong with one else, the cluster says."""
TENANT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?")
EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9._]{0,58}[A-Za-z0-9])?")


def _whole(value: object) -> object:
    """1e3 is a whole number to people and a float to YAML; true is 1 to Python and not to people."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _env_text(value: object) -> object:
    """Whole numbers are welcome as values of environment variables: ``ITERATIONS: 800``."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _times(value: object) -> object:
    """What ``due_ms`` may be; the loader has put a file's times in place of its name."""
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise ValueError("must be a list of times (ms), or the name of a file with them")


def _iteration(value: object) -> object:
    """What ``iteration`` may be, told in one line instead of one per alternative."""
    match value:
        case "lines" | "round-trips":
            return value
        case {"nvtx": str(name), **rest} if not rest and 0 < len(name) <= MAX_RANGE_NAME and name.isprintable():
            return value
        case {"round_trips": each, **rest} if not rest and not isinstance(each, bool):
            if isinstance(whole := _whole(each), int) and 0 < whole <= MAX_ROUND_TRIPS:
                return {"round_trips": whole}
    raise ValueError(f"must be lines, round-trips, {{nvtx: NAME}} or {{round_trips: N}}, N from 1 to {MAX_ROUND_TRIPS}")


_AsWhole = BeforeValidator(_whole)
Size = Annotated[int, Strict(), Field(gt=0, le=131_072), _AsWhole]
Iterations = Annotated[int, Strict(), Field(gt=0, le=100_000_000), _AsWhole]
Layers = Annotated[int, Strict(), Field(gt=0, le=128), _AsWhole]
Width = Annotated[int, Strict(), Field(gt=0, le=8192), _AsWhole]
Context = Annotated[int, Strict(), Field(gt=0, le=131_072), _AsWhole]
Warmup = Annotated[int, Strict(), Field(ge=0, le=100_000), _AsWhole]
Replicas = Annotated[int, Strict(), Field(gt=0, le=MAX_TENANTS), _AsWhole]
Rounds = Annotated[int, Strict(), Field(gt=0, le=10_000), _AsWhole]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63), _AsWhole]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Dues = Annotated[tuple[Real, ...], BeforeValidator(_times, json_schema_input_type=list[float] | str)]


class Model(BaseModel):
    """Base: frozen, and a key that is not known is a mistake, not a comment."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SloSpec(Model):
    """What the tenant's owner was promised."""

    p99_ms: Real | None = Field(default=None, gt=0, description="Response p99 at most this long (ms).")
    deadline_ms: Real | None = Field(
        default=None,
        gt=0,
        description="An iteration whose response takes longer is a miss; goodput counts the others (ms).",
    )


class TenantBase(Model):
    """What every workload has."""

    arrivals: ArrivalName = Field(
        default="closed",
        description="closed: the next iteration starts a think time after the last one ended. poisson: iterations "
        "are due at random, rate_hz of them a second. trace: they are due at due_ms. Both whether or not the last one "
        "is done; it is then waited for.",
    )
    think_ms: Real = Field(default=0.0, ge=0, le=3.6e6, description="Mean think time between iterations (ms).")
    jitter: Real = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Think times are uniform in think_ms * [1 - jitter, 1 + jitter]; 0: fixed.",
    )
    rate_hz: Real | None = Field(default=None, gt=0, le=1e6, description="Iterations due per second (poisson).")
    due_ms: Dues | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_DUES,
        description="When iterations are due (trace): times from the block's start, rising; or the name of a file with "
        f"these times, relative to the experiment's. At most {MAX_DUES} (ms).",
    )
    period_ms: Real | None = Field(
        default=None,
        gt=0,
        description="After this time the trace begins again. Default: its last time and a mean interval more (ms).",
    )
    iterations: Iterations | None = Field(
        default=None,
        description=f"Iterations per condition, over all rounds. Default {DEFAULT_ITERATIONS}. Not with seconds.",
    )
    seconds: Real | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Time wanted per condition, over all rounds, instead of iterations (s).",
    )
    warmup: Warmup = Field(default=5, description="Untimed iterations before anything is measured.")
    settle_seconds: Real = Field(
        default=SETTLE_SECONDS,
        gt=0,
        le=3600,
        description="How long the tenant may take at most to be steady before the first block (s).",
    )
    slo: SloSpec = Field(default_factory=SloSpec, description="What the tenant's owner was promised.")
    replicas: Replicas = Field(
        default=1,
        description="That many tenants of this kind, named NAME-1, NAME-2 and so on, each with seeds of its own. "
        "1: one tenant, named NAME.",
    )

    @model_validator(mode="after")
    def _one_amount(self) -> TenantBase:
        if self.iterations is not None and self.seconds is not None:
            raise ValueError("give iterations or seconds, not both")
        return self

    @model_validator(mode="after")
    def _arrivals_fit(self) -> TenantBase:
        own = PROCESSES[self.arrivals].keys
        for kind, process in PROCESSES.items():
            for key in set(process.keys) - set(own):
                if key in self.model_fields_set and getattr(self, key) is not None:
                    raise ValueError(f"{key} is for arrivals: {kind} (these are {self.arrivals})")
        self.process()
        return self

    def process(self) -> Arrivals:
        """When its iterations come. ValueError where the keys of that process do not make one."""
        process = PROCESSES[self.arrivals]
        return process.given({key: getattr(self, key) for key in process.keys})

    @property
    def wanted_iterations(self) -> int | None:
        """``iterations``, or its default where neither amount is given; None with ``seconds``."""
        return self.iterations or (DEFAULT_ITERATIONS if self.seconds is None else None)


class ArrayTenant(TenantBase):
    """A tenant that computes: fft (2-D FFT, complex64) or gemm (matrix product, float32)."""

    workload: SizedKernel = Field(description="What the tenant runs.")
    size: Size | None = Field(
        default=None,
        description=f"Edge of the square problem. Default {DEFAULT_SIZE}. Not with target_ms.",
    )
    target_ms: Real | None = Field(
        default=None,
        gt=0,
        le=60_000,
        description="Calibrate the size so that one iteration alone takes this long (ms).",
    )
    library: Library | None = Field(default=None, description="Array library; default: the experiment's.")

    @model_validator(mode="after")
    def _one_size(self) -> ArrayTenant:
        if self.size is not None and self.target_ms is not None:
            raise ValueError("give size or target_ms, not both")
        return self

    @property
    def wanted_size(self) -> int | None:
        """``size``, or its default where neither is given; None with ``target_ms``."""
        return self.size or (DEFAULT_SIZE if self.target_ms is None else None)

    def work(self, library: Library) -> Work:
        """What it is to the plan; ``library``: the experiment's."""
        return Kernel(
            workload=self.workload,
            size=self.wanted_size,
            target_ms=self.target_ms,
            library=self.library or library,
            warmup=self.warmup,
            settle_seconds=self.settle_seconds,
        )


class TinyTenant(TenantBase):
    """A tenant that runs one very small kernel per iteration: the sum of two float32 vectors."""

    workload: PlainKernel = Field(description="What the tenant runs.")
    size: Size = Field(default=4096, description="Elements of each vector.")
    library: Library | None = Field(default=None, description="Array library; default: the experiment's.")

    def work(self, library: Library) -> Work:
        """What it is to the plan; ``library``: the experiment's."""
        return Kernel(
            workload=self.workload,
            size=self.size,
            library=self.library or library,
            warmup=self.warmup,
            settle_seconds=self.settle_seconds,
        )


class DecodeTenant(TenantBase):
    """A tenant that makes one token per iteration: a decoder-only transformer, batch 1, over a fixed context."""

    workload: Literal["decode"] = Field(description="What the tenant runs.")
    layers: Layers = Field(default=6, description="Layers of the model.")
    d_model: Width = Field(
        default=768, description=f"Width of the model, a multiple of {HEAD_WIDTH}; the ``size`` in results."
    )
    context: Context = Field(default=1024, description="Positions attended to; the newest is written anew every time.")
    graph: bool = Field(
        default=False,
        strict=True,
        description="Capture the step as one CUDA graph and replay it. Needs torch on a GPU.",
    )
    library: Library | None = Field(default=None, description="Array library; default: the experiment's.")

    @field_validator("d_model")
    @classmethod
    def _whole_heads(cls, d_model: int) -> int:
        if d_model % HEAD_WIDTH:
            raise ValueError(f"must be a multiple of {HEAD_WIDTH} (is {d_model})")
        return d_model

    def work(self, library: Library) -> Work:
        """What it is to the plan; ``library``: the experiment's."""
        decoder = Decoder(layers=self.layers, context=self.context, graph=self.graph)
        return Kernel(
            workload=self.workload,
            size=self.d_model,
            decoder=decoder,
            library=self.library or library,
            warmup=self.warmup,
            settle_seconds=self.settle_seconds,
        )


class NvtxSpec(Model):
    """Iterations that are NVTX ranges."""

    nvtx: Annotated[str, Field(min_length=1, max_length=MAX_RANGE_NAME)] = Field(description="The ranges' name.")


class RoundTripsSpec(Model):
    """Iterations that are a number of round trips."""

    round_trips: Annotated[int, Strict(), Field(gt=0, le=MAX_ROUND_TRIPS)] = Field(
        description="Round trips of an iteration."
    )


IterationSpec = Annotated[
    Literal["lines", "round-trips"] | NvtxSpec | RoundTripsSpec,
    BeforeValidator(_iteration, json_schema_input_type=Literal["lines", "round-trips"] | NvtxSpec | RoundTripsSpec),
]


class CommandTenant(TenantBase):
    """A tenant that is the user's own program. Its iterations: KTS_APP v1 lines, NVTX ranges, or round trips."""

    workload: Literal["command"] = Field(description="What the tenant runs.")
    arrivals: Literal["closed"] = Field(default="closed", description="closed: the program paces itself.")
    command: Annotated[tuple[str, ...], BeforeValidator(split_words, json_schema_input_type=list[str] | str)] = Field(
        min_length=1, description="The program and its arguments, as a list or as one string."
    )
    env: dict[Annotated[str, Field(pattern=r"^[^=\x00]+$")], Annotated[str, BeforeValidator(_env_text)]] = Field(
        default_factory=dict, description="Environment variables added for the program."
    )
    image: Annotated[str, Field(pattern=IMAGE)] | None = Field(
        default=None,
        description="The container image that the program runs in, as itself: on a cluster alone. Default: the "
        "worker's.",
    )
    workdir: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = Field(
        default=None, description="The folder that it starts in. Default: the image's, or where kts runs."
    )

    iteration: IterationSpec | None = Field(
        default=None,
        description="What an iteration of the program is. lines: a KTS_APP v1 line that it prints. nvtx: an NVTX range "
        "of this name. round-trips: from the first work handed to the idle GPU until the host has waited for it, as "
        "many as their pattern repeats after, or round_trips. Default: lines where it prints any, else round-trips.",
    )
    keep_values: bool = Field(
        default=False,
        description="Keep its arguments and the values of env in the run directory, as they are. Otherwise they are "
        "masked there: they may be secrets.",
    )
    trace: Trace = Field(
        default="auto",
        description="auto: see the program's launches, waits and copies where the device is a GPU. calls: see them "
        "anywhere. off: see nothing, and stop the program by SIGSTOP outside its blocks.",
    )

    @model_validator(mode="after")
    def _iteration_can_be_seen(self) -> CommandTenant:
        if self.trace == "off" and (iteration := self._counted()) is not None and iteration.needs_tracer:
            raise ValueError("trace: off sees no ranges and no round trips: leave it out, or give iteration: lines")
        return self

    def work(self, library: Library) -> Work:
        """What it is to the plan; the program has libraries of its own."""
        del library
        return Program(
            command=self.command,
            env=self.env,
            warmup=self.warmup,
            settle_seconds=self.settle_seconds,
            iteration=self._counted(),
            trace=self.trace,
            image=self.image or "",
            workdir=self.workdir or "",
            keep_values=self.keep_values,
        )

    def _counted(self) -> Iteration | None:
        match self.iteration:
            case None:
                return None
            case "lines":
                return Lines()
            case "round-trips":
                return RoundTrips()
            case NvtxSpec(nvtx=name):
                return Ranges(name=name)
            case RoundTripsSpec(round_trips=each):
                return RoundTrips(each=each)


AnyTenant = ArrayTenant | TinyTenant | DecodeTenant | CommandTenant
TenantSpec = Annotated[AnyTenant, Field(discriminator="workload")]


_MODELS: dict[str, type[AnyTenant]] = {
    workload: model for model in get_args(AnyTenant) for workload in get_args(model.model_fields["workload"].annotation)
}
WORKLOADS = tuple(_MODELS)


def keys_of(workload: str) -> tuple[str, ...]:
    """The keys that a tenant of that workload may have. KeyError for an unknown one."""
    return tuple(_MODELS[workload].model_fields)


def replica_names(name: str, replicas: int) -> tuple[str, ...]:
    """Names of the tenants that one entry of the file stands for."""
    return (name,) if replicas == 1 else tuple(f"{name}-{k}" for k in range(1, replicas + 1))


class Experiment(Model):
    """One experiment: who shares the device, how much of it is measured, and how precisely."""

    name: str = Field(default="experiment", description="Names the run and its folder. Default: the file's name.")
    description: str = Field(default="", description="One line for `kts experiments` and the report.")
    design: Design = Field(
        default="interleaved",
        description="interleaved: randomised rounds of every solo and shared block; classic: solo, solo, shared, once.",
    )
    rounds: Rounds = Field(
        default=10, description="Rounds always run; iterations are spread over them. classic has one."
    )
    precision: Real | None = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Go on until the 95 % interval of every tenant's DF99 is within +- this fraction of it. "
        "null: exactly `rounds` rounds. classic ignores it.",
    )
    max_seconds: Real | None = Field(
        default=600.0, gt=0, description="No further round starts after this much measuring (s). null: no limit."
    )
    max_rounds: Rounds | None = Field(default=None, description="Never more rounds than this.")
    device: DeviceChoice = Field(default="auto", description="auto: the GPU if there is one, otherwise one CPU core.")
    library: Library = Field(default="auto", description="Array library of all tenants that name none.")
    seed: Seed = Field(default=1, description="Seeds the order of blocks and the think times.")
    allow_different_gpus: bool = Field(
        default=False, description="Measure even if the tenants sit on different GPUs, and so do not share one."
    )
    tenants: dict[str, TenantSpec] = Field(
        description=f"Tenants by name: 2 to {MAX_TENANTS}, each of its replicas counted."
    )
    subject: str | None = Field(
        default=None,
        description="The tenant that is asked about: it alone is measured alone, and only mixes with it are measured; "
        "the others are its neighbours. Default: every tenant is asked about.",
    )
    mixes: Mixes = Field(
        default="full",
        description="Which tenants are measured together, besides each alone. full: all of them; pairs: every two, "
        "and all; all: every set of two or more; or a list of lists of tenants' names, and all. With a subject: pairs "
        "is it beside each, and all tenants run together only where that is asked for. "
        f"At most {MAX_MIXES}.",
    )

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not EXPERIMENT_NAME.fullmatch(name):
            raise ValueError("must be 1 to 60 letters, digits, '-', '_' or '.', with a letter or digit at both ends")
        return name

    @field_validator("tenants", mode="after")
    @classmethod
    def _enough_tenants(cls, tenants: dict[str, TenantSpec]) -> dict[str, TenantSpec]:
        total = sum(spec.replicas for spec in tenants.values())
        if total < 2:
            raise ValueError(f"sharing needs at least 2 tenants (there {'is 1' if tenants else 'are none'})")
        if total > MAX_TENANTS:
            replicas = ", replicas counted" if total > len(tenants) else ""
            raise ValueError(f"at most {MAX_TENANTS} tenants (there are {total}{replicas})")
        for name, spec in tenants.items():
            for replica in replica_names(name, spec.replicas) if spec.replicas > 1 else ():
                if replica in tenants or _is_replica_of_another(replica, name, tenants):
                    raise ValueError(f"a replica of {name!r} would be named {replica!r}, as another tenant is")
            longest = replica_names(name, spec.replicas)[-1]
            if spec.replicas > 1 and len(longest) > MAX_NAME:
                raise ValueError(f"a replica's name, {longest!r}, would be longer than {MAX_NAME} characters")
        return tenants

    @field_validator("subject", mode="after")
    @classmethod
    def _subject_is_a_tenant(cls, subject: str | None, info: ValidationInfo) -> str | None:
        names = _all_names(info.data.get("tenants", {}))
        if subject is not None and names and subject not in names:
            raise ValueError(f"{subject!r} is no tenant{hint(subject, names)}")
        return subject

    @field_validator("mixes", mode="after")
    @classmethod
    def _mixes_of_tenants(cls, mixes: Mixes, info: ValidationInfo) -> Mixes:
        if "tenants" in info.data and "subject" in info.data:  # else wrong themselves, and said so
            check_mixes(mixes, _all_names(info.data["tenants"]), info.data["subject"])
        return mixes

    @model_validator(mode="after")
    def _rounds_fit(self) -> Experiment:
        if self.max_rounds is not None and self.max_rounds < self.rounds:
            raise ValueError(f"max_rounds ({self.max_rounds}) must not be less than rounds ({self.rounds})")
        return self

    @property
    def expanded(self) -> dict[str, AnyTenant]:
        """The tenants by name, each replica one of its own, in the file's order."""
        return {name: spec for key, spec in self.tenants.items() for name in replica_names(key, spec.replicas)}


def _all_names(tenants: dict[str, AnyTenant]) -> tuple[str, ...]:
    return tuple(name for key, spec in tenants.items() for name in replica_names(key, spec.replicas))


def _is_replica_of_another(name: str, key: str, tenants: dict[str, AnyTenant]) -> bool:
    others = (replica_names(k, spec.replicas) for k, spec in tenants.items() if k != key and spec.replicas > 1)
    return any(name in names for names in others)
