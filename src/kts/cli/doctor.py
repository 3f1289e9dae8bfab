"""`kts doctor`: what can be measured on this machine or on a cluster, and what to do about the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kts import app
from kts.cli.cluster_options import PANEL, Context, RunPlace
from kts.cli.options import Dcgm, Json
from kts.cli.output import print_plain_json, tell
from kts.errors import SetupError, UsageError
from kts.k8s.objects.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from kts.k8s.objects.needs import Need
    from kts.k8s.objects.settings import ClusterSettings

PLACES = ("local", "k8s")


def doctor(
    *,
    on: Annotated[str, typer.Option(help="local: this machine; k8s: a cluster.", metavar="BACKEND")] = "local",
    tenants: Annotated[int, typer.Option(help="Tenants that a run would have.", min=1, rich_help_panel=PANEL)] = 2,
    context: Context = None,
    place: RunPlace,
    dcgm: Dcgm = "",
    as_json: Json = False,
) -> None:
    """Say what can be measured here, and what is missing."""
    if on not in PLACES:
        raise UsageError(f"--on: no backend {on!r}", f"known: {', '.join(PLACES)}")
    if on == "local":
        _here(as_json, app.exporter_url(dcgm))
        return
    _on_cluster(place, place.run_settings(telemetry=True, dcgm=dcgm), context, tenants, as_json)


def _here(as_json: bool, dcgm: str) -> None:
    """This machine."""
    devices, checks = app.local_checks(dcgm)
    usable = sys.platform.startswith("linux") and any(device.status != "missing" for device in devices)
    if as_json:
        _print({"can_measure": usable, "devices": devices, "checks": checks})
    else:
        _show([*devices, *checks], _conclusion(usable, devices))
    if not usable:
        raise typer.Exit(SetupError.exit_code)


def _on_cluster(place: RunPlace, settings: ClusterSettings, context: str | None, tenants: int, as_json: bool) -> None:
    """A cluster, as this user sees it."""
    checks, usable = app.cluster_checks(settings, tenants, context=context, extra=place.extra)
    if as_json:
        _print({"can_measure": usable, "checks": checks})
    elif usable:
        where = "" if settings.namespace == DEFAULT_NAMESPACE else f" --namespace {settings.namespace}"
        _show(checks, f"A run of {tenants} tenants can start: kts run demo --on k8s{where}")
    else:
        _show(checks, f"A run of {tenants} tenants cannot start here yet.")
    if not usable:
        raise typer.Exit(SetupError.exit_code)


def _print(found: dict[str, object]) -> None:
    import msgspec

    print_plain_json(msgspec.to_builtins(found))


def _show(rows: Sequence[Need], conclusion: str) -> None:
    width = max(12, *(len(row.name) for row in rows))
    for row in rows:
        tell(f"{row.status:<8} {row.name:<{width}} {row.found}")
        if row.remedy:
            tell(f"{'':<{width + 9}} try: {row.remedy}")
    tell(f"\n{conclusion}")


def _conclusion(usable: bool, devices: Sequence[Need]) -> str:
    if not usable:
        return "Nothing can be measured here; `kts report` and `kts compare` work on runs made elsewhere."
    if devices[0].status == "missing":
        return "This machine can measure sharing of one CPU core (not of a GPU): kts run demo"
    return "This machine can measure sharing of its GPU: kts run demo"
