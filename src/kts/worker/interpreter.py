"""How Python runs a module of ours in another process, so that nothing of the current folder is run in its stead."""

from __future__ import annotations

import os
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]


def module(name: str) -> tuple[str, ...]:
    """Options for Python, to be followed by the module's arguments.

    The current folder is not searched: a ``numpy.py`` there would be run. Where it is that of our own source, it
    may be the only place that has kts.
    """
    here = os.path.realpath(".") == str(_SOURCE)
    return (*(() if here else ("-P",)), "-m", name)
