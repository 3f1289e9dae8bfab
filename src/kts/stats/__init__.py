"""Statistics of a run: quantiles, intervals, degradation, cautions. Pure: a run's arrays in, figures out.

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.stats.analysis import analyse
    from kts.stats.comparison import Comparison, compare
    from kts.stats.foretold import Foretelling
    from kts.stats.series import Analysis, TenantSeries
    from kts.stats.stopping import PrecisionRule

__all__ = ["Analysis", "Comparison", "Foretelling", "PrecisionRule", "TenantSeries", "analyse", "compare"]

_HOME = {
    "Analysis": "series",
    "Comparison": "comparison",
    "Foretelling": "foretold",
    "PrecisionRule": "stopping",
    "TenantSeries": "series",
    "analyse": "analysis",
    "compare": "comparison",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
