"""The exporter that a run scrapes, checked before anything is started."""

from __future__ import annotations

from kts.errors import UsageError


def exporter_url(url: str, *, telemetry: bool = True) -> str:
    """``url`` of a dcgm-exporter. UsageError if it is none that can be scraped, or is given without telemetry."""
    if not url:
        return ""
    if not telemetry:
        raise UsageError("--dcgm asks for telemetry, --no-telemetry for none", "leave one of them out")
    from kts.telemetry.dcgm import DcgmSource

    return DcgmSource(url).url
