"""Whether what a run foretold came."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.foretold import Came, Expected, FigureName, Foretold, Otherwise
from kts.model.summary import Estimate, Latency, Mix, TenantSummary
from kts.stats.quantiles import QUANTILES

Figures = dict[FigureName, Estimate]


def came(told: Foretold, tenants: dict[str, TenantSummary], mixes: tuple[Mix, ...], full_house: str) -> Came:
    """Each figure that was foretold to come, or to be refused, beside what came of it."""
    pairs = [
        (one, figure, estimate, n)
        for one in told.expected
        if one.tenant in tenants
        for n, figures in _came_of(one, tenants[one.tenant], mixes, full_house)
        for figure, estimate in figures.items()
        if figure not in one.open
    ]
    otherwise = tuple(
        Otherwise(
            tenant=one.tenant,
            condition=one.condition,
            figure=figure,
            n=n,
            expected_n=one.n,
            refused=estimate.refused or "",
        )
        for one, figure, estimate, n in pairs
        if (figure in one.refused) is (estimate.estimate is not None)
    )
    return Came(figures=len(pairs), otherwise=otherwise)


def _came_of(
    one: Expected, tenant: TenantSummary, mixes: tuple[Mix, ...], full_house: str
) -> Iterator[tuple[int, Figures]]:
    """Iterations and figures of the response clock; nothing of a condition that the summary does not have."""
    response = tenant.response
    if one.condition == full_house:
        sides: list[tuple[Latency, Estimate | None]] = [(response.shared, response.df.p99)]
    elif found := [
        mix.tenants[one.tenant] for mix in mixes if mix.condition == one.condition and one.tenant in mix.tenants
    ]:
        sides = [(mix.response, mix.df_p99) for mix in found if mix.response is not None]
    else:
        sides = [(response.solo, None)]
    for side, df in sides:
        figures: Figures = {name: getattr(side, name) for name in QUANTILES}  # type: ignore[misc]
        yield side.n, figures if df is None else {**figures, "df99": df}
