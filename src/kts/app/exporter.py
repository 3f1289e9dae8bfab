"""The exporter that a run scrapes, checked before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from kts.errors import UsageError
from kts.k8s.objects.exporters import AUTO


class Found(NamedTuple):
    """``url`` of an exporter, or why there is none; both empty where none was asked for."""

    url: str = ""
    missing: str = ""


def exporter_url(url: str, *, telemetry: bool = True) -> str:
    """``url`` of a dcgm-exporter, or ``auto``. UsageError if it is none that can be scraped, or is given without
    telemetry."""
    if not url:
        return ""
    if not telemetry:
        raise UsageError("--dcgm asks for telemetry, --no-telemetry for none", "leave one of them out")
    if url != AUTO:
        from kts.telemetry.scrape import ExporterAddress

        ExporterAddress(url)
    return url


def exporter_in_pods(url: str, *, telemetry: bool = True) -> str:
    """The same for a run in pods, where the address is in a pod's environment. UsageError if it holds a password."""
    if "@" in url:
        raise UsageError(
            "--dcgm: a user and password would be readable in the conductor's pod", "give an address that asks for none"
        )
    return exporter_url(url, telemetry=telemetry)


@contextmanager
def exporter_here(given: str, uuids: Sequence[str]) -> Iterator[Found]:
    """The exporter as ``given``, or for ``auto`` the one of this machine's GPUs (their ``uuids``), reachable for as
    long as the context lasts."""
    with ExitStack() as open_ways:
        if given == AUTO:
            from kts.app.finding import search  # what speaks with clusters takes a second to load

            url, why = search(uuids, open_ways)
            yield Found(url, f"--dcgm auto: {why}" if why else "")
        else:
            yield Found(given)
