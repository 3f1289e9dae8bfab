"""The list of what the image holds."""

from __future__ import annotations

import json
from importlib.metadata import distributions
from pathlib import Path

import kts
from kts.k8s.pod.sbom import describe


def installed(folder: Path, name: str, version: str, *lines: str) -> None:
    """A package's metadata, as an installer leaves it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines])
    (info / "METADATA").write_text(f"{text}\n", encoding="utf-8")


def test_what_is_installed_is_listed_and_nothing_is_guessed(tmp_path: Path) -> None:
    """Else a scanner would look for the wrong package, or trust a licence that nobody declared."""
    installed(tmp_path, "Zeta_Lib", "2.0", "License: probably free")
    installed(tmp_path, "alpha", "1.5", "License-Expression: MIT")
    told = describe(distributions(path=[str(tmp_path)]), "example.org/python:3.12")
    libraries = [one for one in told["components"] if one["type"] == "library"]
    assert [one["purl"] for one in libraries] == ["pkg:pypi/alpha@1.5", "pkg:pypi/zeta-lib@2.0"]
    assert [one.get("licenses") for one in libraries] == [[{"expression": "MIT"}], None]
    assert told["metadata"]["component"]["version"] == kts.__version__
    (base,) = [one for one in told["components"] if one["type"] == "container"]
    assert base["name"] == "example.org/python:3.12"
    assert {"aggregate": "incomplete", "assemblies": [base["bom-ref"]]} in told["compositions"]


def test_the_same_content_is_the_same_document(tmp_path: Path) -> None:
    """Else two builds of one content would differ, and the tag would name two images."""
    installed(tmp_path, "a", "1")
    installed(tmp_path, "b", "1")
    texts = [json.dumps(describe(distributions(path=[str(tmp_path)]), "base")) for _ in range(2)]
    assert texts[0] == texts[1]
