"""From an experiment to its plan, and what it will do, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

from kts import plan as planning
from kts import sharing, spec
from kts.app import printing
from kts.model.foretold import Foretold
from kts.model.masking import kept_plan
from kts.model.plan import Block, Plan
from kts.report import foretold
from kts.report.document import Element
from kts.spec import LoadedExperiment
from kts.spec.masking import masked_text

Asked = str | Path | Sequence[str]
"""An experiment: a file, the name of a ready-made one, or YAML text of several lines. Or a program and its arguments,
as a list: an experiment of it alone and beside ready-made neighbours."""


def experiment_of(program: Sequence[str], image: str = "") -> str:
    """The YAML text of that experiment. ``image``: the container image that the program runs in, on a cluster."""
    return spec.beside(program, image)


class Changes(TypedDict, total=False):
    """Keys of an experiment that a caller sets anew; they are checked as the file's are."""

    design: str
    """interleaved or classic."""
    rounds: int
    """Rounds always run."""
    iterations: int
    """Per condition, of every tenant."""
    precision: float | None
    """Relative half-width of DF99's 95 % interval to go on for; None: exactly ``rounds``."""
    max_seconds: float
    """Measure no longer than this."""
    device: str
    """auto, cuda or cpu."""
    library: str
    """auto, torch, cupy or numpy."""
    seed: int
    """Of the order of blocks and think times."""
    allow_different_gpus: bool
    """Measure even if the tenants do not share one GPU."""
    keep_values: bool
    """Keep programs' arguments and values of ``env`` with the run, as they are: otherwise they are masked there."""


@dataclass(frozen=True)
class Preview:
    """What an experiment will do: its frozen plan, about how many seconds of measuring its rounds take, and which
    figures that decides, as far as it says how long iterations take."""

    plan: Plan
    expected_s: float
    foretold: Foretold

    def blocks(self, round_number: int) -> tuple[Block, ...]:
        """The blocks of a round, counted from 0, in order."""
        return planning.blocks_of_round(self.plan, round_number)


def preview(experiment: Asked, *, modes: str = "", **changes: Unpack[Changes]) -> Preview:
    """What an experiment will do, before anything is measured. SpecError where it holds mistakes.

    ``experiment``, ``modes``: as `run` takes them. UsageError for modes that cannot be told apart.
    """
    plan = planned(experiment, changes)[1]
    return previewed(planning.in_modes(plan, sharing.parse(modes)) if modes else plan)


def previewed(plan: Plan) -> Preview:
    """What a plan will do."""
    from kts.stats.foretold import at_start

    return Preview(plan, plan.rounds * planning.expected_seconds(plan, {}), at_start(plan, {}))


@printing.elements.register
def _elements(preview: Preview) -> Iterable[Element]:
    return foretold.planned(preview.plan, preview.foretold)


def planned(experiment: Asked, changes: Mapping[str, object]) -> tuple[LoadedExperiment, Plan]:
    """An experiment, its text as it is kept with a run, and its plan. SpecError for mistakes in it, UsageError for
    changes that cannot be."""
    loaded = _loaded(experiment)
    plan = planning.build(spec.override(loaded.experiment, changes) if changes else loaded.experiment)
    return (loaded if kept_plan(plan) is plan else replace(loaded, text=masked_text(loaded.text))), plan


def _loaded(experiment: Asked) -> LoadedExperiment:
    if not isinstance(experiment, str | Path):
        return spec.load_text(spec.beside(experiment), source="command line")
    text = str(experiment)
    return spec.load_text(text, source="experiment") if "\n" in text else spec.load(text)
