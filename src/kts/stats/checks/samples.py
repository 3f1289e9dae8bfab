"""Are there samples enough for the figures that were asked for?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.summary import MixTenant, Verdict
from kts.shown import first_few
from kts.stats import worth
from kts.stats.checks.told import count, failed, not_applicable, passed
from kts.stats.verdict import half_width

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "samples"
MIXES_NAMED = 4


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By refusals of p99, what the iterations are worth, and the width of DF99 against what was asked."""
    name, response = view.name, view.summary.response
    told = [*_few(view), *_precision(view), *_dependent(view), *_mixes(view)]
    yield from told
    if told:
        return
    if not response.solo.n + response.shared.n:
        yield not_applicable(CODE, f"{name}: it has no iterations.", name)
        return
    width = half_width(response.df.p99)
    text = f"{name}: {response.solo.n} solo and {response.shared.n} shared iterations know DF99 to {_percent(width)}."
    yield passed(CODE, _percent(width), text, name)


def _few(view: TenantView) -> Iterator[Check]:
    response = view.summary.response
    refusals = {"solo": response.solo.p99.refused, "shared": response.shared.p99.refused}
    texts = [why if side in why else f"{side} {why}" for side, why in refusals.items() if why]
    if texts:
        figure = f"{response.solo.n} solo, {response.shared.n} shared"
        yield failed(CODE, "few-samples", figure, f"{view.name}: {'; '.join(texts)}.", view.name, lowers=True)


def _precision(view: TenantView) -> Iterator[Check]:
    name, summary, asked = view.name, view.summary, view.plan.precision
    width = half_width(summary.response.df.p99)
    has_records = summary.response.solo.n + summary.response.shared.n > 0
    if has_records and asked is not None and not _decides(summary.verdict):
        reached = f"DF99 is known to {_percent(width)}, asked was {_percent(asked)}"
        decides = ", and an interval that decides" if width is not None and width <= asked else ""
        text = f"{name}: {reached}{decides}."
        yield failed(CODE, "precision-not-reached", _percent(width), text, name, off=width, lowers=width is None)


def _dependent(view: TenantView) -> Iterator[Check]:
    """One per side whose response p99 dependence has refused or left wider than asked."""
    for side, found, text in worth.cost(view):
        width = half_width(found)
        told = f"{view.name}: of {side} p99, {text}"
        yield failed(CODE, "dependent", _percent(width), told, view.name, off=width, lowers=width is None)


def _mixes(view: TenantView) -> Iterator[Check]:
    """The same as `_precision` in the mixes besides the full house."""
    name, plan = view.name, view.plan
    house = plan.full_house.name
    known = {condition: mix for condition, mix in view.mixes.items() if condition != house and mix.n}
    wide = {condition.removeprefix("shared-"): mix for condition, mix in known.items() if not _decides(mix)}
    if wide and plan.precision is not None:
        text = (
            f"{name}: in {len(wide)} of {count(len(known), 'mix', 'mixes')} DF99 is not settled to the asked "
            f"{_percent(plan.precision)}: {first_few(list(wide), MIXES_NAMED)}."
        )
        widths = [width for mix in wide.values() if (width := half_width(mix.df_p99)) is not None]
        off = max(widths, default=None)
        yield failed(
            CODE, "mix-precision", f"{len(wide)} of {len(known)} mixes", text, name, off=off, lowers=not widths
        )


def _decides(verdict: Verdict | MixTenant) -> bool:
    """Within the asked precision, and an answer."""
    return verdict.precise and verdict.kind not in {"undetermined", "not-steady"}


def _percent(width: float | None) -> str:
    return "no interval at all" if width is None else f"+-{100 * width:.3g} %"
