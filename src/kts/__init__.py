"""Kube-Timeslice-Profiler: what sharing one accelerator costs each tenant's tail latency.

Its names are the Python API, documented in docs/python.md. Each is loaded on first use, so that ``import kts`` costs
nothing; `kts.app` is where they are made.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kts.app import (
        Preview,
        Run,
        check,
        check_pair,
        choose,
        compare,
        experiments,
        explain,
        load,
        pool,
        predict,
        predict_choice,
        preview,
        preview_pair,
        probe,
        profile,
        replay,
        report,
        run,
        selfcheck,
        selfcheck_here,
        show,
        validate,
        whatif,
        who,
    )
    from kts.errors import KtsError

__version__ = "0.1.0"

__all__ = [
    "KtsError",
    "Preview",
    "Run",
    "__version__",
    "check",
    "check_pair",
    "choose",
    "compare",
    "experiments",
    "explain",
    "load",
    "pool",
    "predict",
    "predict_choice",
    "preview",
    "preview_pair",
    "probe",
    "profile",
    "replay",
    "report",
    "run",
    "selfcheck",
    "selfcheck_here",
    "show",
    "validate",
    "whatif",
    "who",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kts import app, errors

    globals()[name] = value = getattr(errors if name == "KtsError" else app, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package ``kts.report`` has the name of a function. Python would set the one over the other as soon as
    anything imports it; ``from kts.report import ...`` needs no attribute."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
