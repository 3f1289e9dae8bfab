"""What the worker's image holds, as a CycloneDX 1.6 document. Run while the image is built (Containerfile)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from typing import Any

from kts import __version__


def describe(installed: Iterable[Distribution], base: str) -> dict[str, Any]:
    """kts and the Python packages beside it, each with the licence that it declares as an SPDX expression, if any.

    ``base``: the image that this one is built upon. What that one holds is not listed, and the document says so.
    The same content gives the same document: no time, no random serial number.
    """
    found = {_normal(dist.metadata["Name"]): dist for dist in installed}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "kts",
                "name": "kube-timeslice-profiler",
                "version": __version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [
            *(_library(name, dist) for name, dist in sorted(found.items())),
            {"type": "container", "bom-ref": "base", "name": base},
        ],
        "dependencies": [{"ref": "kts", "dependsOn": [*(_purl(name, found[name]) for name in sorted(found)), "base"]}],
        "compositions": [{"aggregate": "incomplete", "assemblies": ["base"]}],
    }


def _library(name: str, dist: Distribution) -> dict[str, Any]:
    licence = next(iter(dist.metadata.get_all("License-Expression") or ()), "")
    return {
        "type": "library",
        "bom-ref": _purl(name, dist),
        "name": name,
        "version": dist.version,
        "purl": _purl(name, dist),
        **({"licenses": [{"expression": licence}]} if licence else {}),
    }


def _purl(name: str, dist: Distribution) -> str:
    return f"pkg:pypi/{name}@{dist.version}"


def _normal(name: str) -> str:
    """As package URLs have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    folder, base_image = sys.argv[1:]
    json.dump(describe(distributions(path=[folder]), base_image), sys.stdout, indent=1)
