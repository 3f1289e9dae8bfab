"""Where the parts are put together: what the Python API (`kts.__all__`) and the command line do.

One file per capability. Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.app.comparisons import compare, pool
    from kts.app.handle import Run, finished, load
    from kts.app.inputs import Given
    from kts.app.predictions import predict, whatif
    from kts.app.printing import show
    from kts.app.reports import report
    from kts.app.validation import validate

__all__ = ["Given", "Run", "compare", "finished", "load", "pool", "predict", "report", "show", "validate", "whatif"]

_HOME = {
    "comparisons": ("compare", "pool"),
    "handle": ("Run", "finished", "load"),
    "inputs": ("Given",),
    "predictions": ("predict", "whatif"),
    "printing": ("show",),
    "reports": ("report",),
    "validation": ("validate",),
}


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _HOME.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
    return value
