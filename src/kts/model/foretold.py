"""What a run was expected to decide before it was over, and where it came otherwise."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

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
    ``mode``: of a run in several modes, in which; ``tenant`` and ``condition`` are called as all modes call them then.
    Empty for what is measured once for all modes: everybody alone.
    """

    tenant: str
    condition: str
    n: int
    slower: float = 1.0
    effect: float = 1.0
    refused: tuple[FigureName, ...] = ()
    open: tuple[FigureName, ...] = ()
    width: float | None = None
    mode: str = ""


class ExpectedRatio(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant of a pair, at the limits of its run if nothing is decided before: B's p99 over A's.

    ``n``: iterations of A and of B. ``refused``: there will be no ratio; ``open``: it depends on what a program does.
    ``passes``, ``fails``: up to which ratio, and from which on, the last look decides, at the tolerance that is asked
    for, if all rounds are like those so far; between the two it is inconclusive. None while that cannot be told.
    """

    tenant: str
    n: tuple[int, int]
    refused: bool = False
    open: bool = False
    passes: float | None = None
    fails: float | None = None


class Foretold(msgspec.Struct, frozen=True, kw_only=True):
    """What a run can decide in its time, as told when ``after_rounds`` were measured (0: from calibration alone).

    It is expected to end after ``rounds`` (not a whole one where time is over in the first), ``seconds`` of measuring,
    for ``bound``. ``precision``: relative half-width of DF99 that is asked for. ``untold``: tenants whose iterations
    nobody has timed. ``enough``: what would be enough for each p99 and DF99, ways to choose from; empty where this is.
    Of a pair there are ``ratios``, and ``enough`` is what lets two versions that are alike pass.
    """

    after_rounds: int
    rounds: float
    seconds: float
    bound: Bound
    expected: tuple[Expected, ...]
    precision: float | None = None
    untold: tuple[str, ...] = ()
    enough: tuple[str, ...] = ()
    ratios: tuple[ExpectedRatio, ...] = ()

    def in_mode(self, name: str) -> Foretold:
        """Of a run in several modes, as if that one had been measured alone."""
        mine = tuple(replace(one, mode="") for one in self.expected if one.mode in ("", name))
        return replace(self, expected=mine)

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
