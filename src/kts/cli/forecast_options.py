"""What predict and whatif have in common: profiles, a fingerprint, how much to simulate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.errors import UsageError

if TYPE_CHECKING:
    from kts.app import Given


@dataclass(frozen=True)
class Forecast:
    """The options of every forecast."""

    profiles: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A profile, or a folder of *.profile.json; may be repeated."),
    ] = None
    from_run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Take from this run's solo blocks how fast each tenant's host is, and single bursts where there is no "
            "profile.",
        ),
    ] = None
    fingerprint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How the GPU is shared. Default: what kts probe kept of it.")
    ] = None
    assume: Annotated[
        str | None,
        typer.Option(
            metavar="SLICE,PREEMPT,YIELD",
            help="Instead of a fingerprint: slice and switch costs in ms, e.g. 2.087,0.178,0.1.",
        ),
    ] = None
    deadline: Annotated[
        list[str] | None, typer.Option(metavar="NAME=MS", help="A tenant's deadline; may be repeated.")
    ] = None
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Length of the run that the bands are for, per mix. Default: as long as --from-run has of each, else "
            "600.",
        ),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0
    model_error: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Relative error of the model itself, to widen the bands by. Default: as fitted for GPUs, by kind of "
            "tenant; 0 on a CPU.",
        ),
    ] = None

    def given(self) -> Given:
        """As the API takes it. UsageError for text that is no number."""
        return {
            "profiles": self.profiles or (),
            "from_run": self.from_run,
            "fingerprint": self.fingerprint,
            "assume": None if self.assume is None else three(self.assume),
            "deadlines_ms": dict(pair(text, "--deadline") for text in self.deadline or ()),
            "seconds": self.seconds,
            "seed": self.seed,
            "model_error": self.model_error,
        }


def three(text: str) -> tuple[float, float, float]:
    """``SLICE,PREEMPT,YIELD``. UsageError for anything else."""
    try:
        slice_ms, preempt_ms, yield_ms = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--assume {text}: not three numbers", "e.g. --assume 2.087,0.178,0.1") from None
    return slice_ms, preempt_ms, yield_ms


def pair(text: str, option: str) -> tuple[str, float]:
    """``NAME=NUMBER``. UsageError for anything else."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{option} {text}: not NAME=NUMBER", f"e.g. {option} fft=8")
    return name, positive(value, option)


def positive(text: str, option: str) -> float:
    """A number above 0. UsageError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {text}: not a number above 0")
    return value
