"""What a run in several modes comes to: the content of modes.json."""

from __future__ import annotations

from typing import Literal

import msgspec

from kts.model.mode import Mode
from kts.model.sharing_facts import SharingFacts
from kts.model.summary import Estimate

MODES_VERSION = 1

KeptSlo = Literal["kept", "broken", "undetermined"]
ChoiceKind = Literal["chosen", "broken", "undetermined", "unproven"]
"""How choosing ended: with a mode; because every mode breaks an SLO; because none is sure to keep all, and some may;
because no mode is proven with figures."""
DecidedBy = Literal["work", "tail", "likely", "order", ""]
"""What speaks for the chosen mode against the runner-up: more work, as the rounds show; else a milder tail; else more
work by the figures alone; else nothing that was measured, but that it is the simpler one, or was asked for first. Empty
without a runner-up."""


class InModeTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant in one mode, on the response clock: p99 alone and shared in ms, ``df99`` their ratio.

    ``progress``: its rate in the mix over its rate alone; ``progress_interval``: the same of the rounds that have both,
    with an interval of its own. ``over_best``: shared p99 over that in the chosen mode, round by round, and
    ``rate_over_best`` its rate over that there; of either kind the intervals of all tenants and pairs of modes hold
    together. None in that mode itself and where none is chosen, ``over_best`` also in exclusive use. ``goodput``: share
    of iterations within the deadline, where it has one; ``slo``: whether the shared p99 keeps what was promised,
    ``slo_ms``, where that was. ``stood_still``: of streams, the share of its iterations' time in the mix in which its
    thread stood still for others of its process, less that alone; None where it cannot be told.
    """

    alone_p99: Estimate
    shared_p99: Estimate
    df99: Estimate
    progress: float | None
    progress_interval: Estimate | None = None
    over_best: Estimate | None = None
    rate_over_best: Estimate | None = None
    goodput: Estimate | None = None
    slo: KeptSlo | None = None
    stood_still: float | None = None
    slo_ms: float | None = None


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What a mode's work took. ``watts``: drawn by the device, mean over the blocks in which all its tenants ran; of
    the exclusive use over the solo blocks, the mean of its devices. ``joules``: per second's work of one tenant alone,
    which is ``watts`` / `ModeResult.throughput`; ``interval``: the same of the rounds that have power and every tenant,
    with an interval of its own. ``over_best``: over that in the chosen mode, round by round; the intervals of all pairs
    of modes hold together. None there, and where none is chosen. ``source``: of the telemetry."""

    watts: float
    joules: float
    source: str
    interval: Estimate | None = None
    over_best: Estimate | None = None


class ModeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One mode. ``shown``: what the evidence says that it was, and whether that ``proves`` what was asked for.

    ``throughput``: the sum of its tenants' progress, in tenants' worth of work per device (system throughput, Eyerman
    and Eeckhout 2008); of the exclusive use, which needs a device for each, 1. ``throughput_interval``: the same of the
    rounds that have every tenant, alone and together, with an interval of its own. ``throughput_over_best``: over that
    in the chosen mode, round by round; the intervals of all pairs of modes hold together. None of the chosen mode, and
    both where nothing was measured. ``slos``: of all tenants that were promised something; None where none was.
    ``doubts``: checks that failed in this mode. ``energy``: where telemetry told of the device's power. ``predicted``:
    the model's figures, of which there is nothing to prove.
    """

    mode: Mode
    shown: str
    proves: bool
    tenants: dict[str, InModeTenant]
    throughput: float | None
    throughput_interval: Estimate | None = None
    throughput_over_best: Estimate | None = None
    slos: KeptSlo | None = None
    doubts: tuple[str, ...] = ()
    energy: Energy | None = None
    predicted: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The mode that holds every SLO at most throughput, the one after it, and why, in a sentence. ``best`` is empty
    where none can be recommended: ``kind`` says why. ``by``: what speaks for it against the runner-up."""

    best: str
    runner_up: str
    reason: str
    kind: ChoiceKind = "chosen"
    by: DecidedBy = ""


class ClusterLines(msgspec.Struct, frozen=True, kw_only=True):
    """``text``: YAML, as it is to be copied to where the ``title`` says; empty where there is nothing to set.
    ``notes``: what it needs, and what it gives otherwise than it was measured."""

    title: str
    text: str
    notes: tuple[str, ...] = ()


class ModesSummary(msgspec.Struct, frozen=True, kw_only=True):
    """All modes of a run, in the order asked, and the choice between them. ``machine``: what the run did to it, and
    tried; None of a run that was killed."""

    schema: int
    run: str
    experiment: str
    device: str
    is_gpu: bool
    outcome: str
    confidence: float
    rounds: int
    modes: tuple[ModeResult, ...]
    choice: Choice
    notes: tuple[str, ...] = ()
    machine: SharingFacts | None = None

    def mode(self, name: str) -> ModeResult:
        """The result of that mode. KeyError if there is none."""
        for one in self.modes:
            if one.mode.name == name:
                return one
        raise KeyError(name)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What `kts choose` says: the modes with the choice between them, and how a cluster is set to the best of them."""

    basis: Literal["measured", "predicted"]
    modes: ModesSummary
    cluster: tuple[ClusterLines, ...] = ()
