"""What a run was expected to decide before it was over, and where it came otherwise."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

FigureName = Literal["p50", "p95", "p99", "p999", "df99"]
FIGURES: tuple[FigureName, ...] = get_args(FigureName)
"""Of the response clock; df99 of mixes alone."""
Bound = Literal["rounds", "max_rounds", "max_seconds", "precision"]
"""What ends a run: all its rounds, or one of its limits, or that DF99 is as precise as asked."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one condition, when the run is over.

    ``n``: iterations that count, which are worth ``n / effect`` independent ones. ``slower``: how many times as long as
    alone an iteration takes, on average. ``refused``: figures that there will be none of; ``open``: those of which it
    depends on when the run stops. ``width``: relative half-width of DF99's interval; None where that cannot be told.
    """

    tenant: str
    condition: str
    n: int
    slower: float = 1.0
    effect: float = 1.0
    refused: tuple[FigureName, ...] = ()
    open: tuple[FigureName, ...] = ()
    width: float | None = None


class Foretold(msgspec.Struct, frozen=True, kw_only=True):
    """What a run can decide in its time, as told when ``after_rounds`` were measured (0: from calibration alone).

    It is expected to end after ``rounds`` (not a whole one where time is over in the first), ``seconds`` of measuring,
    for ``bound``. ``precision``: relative half-width of DF99 that is asked for. ``untold``: tenants whose iterations
    nobody has timed. ``enough``: what would be enough for each p99 and DF99, ways to choose from; empty where this is.
    """

    after_rounds: int
    rounds: float
    seconds: float
    bound: Bound
    expected: tuple[Expected, ...]
    precision: float | None = None
    untold: tuple[str, ...] = ()
    enough: tuple[str, ...] = ()

    def too_wide(self, one: Expected) -> bool:
        """DF99 of ``one`` will not be as precise as asked."""
        return self.precision is not None and one.width is not None and one.width > self.precision


class Otherwise(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that came otherwise than foretold: ``refused`` says why there is none; empty: there is one."""

    tenant: str
    condition: str
    figure: FigureName
    n: int
    expected_n: int
    refused: str = ""


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``figures`` that were foretold to come or not, those that came otherwise."""

    figures: int
    otherwise: tuple[Otherwise, ...] = ()
