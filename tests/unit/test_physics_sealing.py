"""If these fail, a prediction made after its run may be called sealed before it, or an honest one not."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace
from tests.helpers_physics import fingerprint, profile
from tests.helpers_stats import make_info, make_plan

from kts.model.provenance import Material, Provenance
from kts.model.run import RunInfo
from kts.physics.forecast import Prediction
from kts.physics.predict import Effort, Predictor
from kts.physics.sealing import Seal, check

BEGAN_NS = 1_700_000_000 * 10**9
HASH = "ab" * 32
RUN_FILE = Material(kind="run", name="r/run.json", sha256="cd" * 32)


@cache
def a_prediction() -> Prediction:
    profiles = {name: profile(name, 2.0, n=20) for name in ("fft", "gemm")}
    return Predictor(profiles, fingerprint(), Effort(seconds=1, replicates=2)).predict([("fft", "gemm")])


def predicted(made_ns: int | None, *made_from: Material) -> Prediction:
    return replace(a_prediction(), created_ns=made_ns, provenance=Provenance(kts="1", made_from=made_from))


def run(began_ns: int = BEGAN_NS) -> RunInfo:
    return replace(make_info(make_plan(("fft", "gemm")), ()), created_ns=began_ns)


def sealed(prediction: Prediction, given: str = HASH, began_ns: int = BEGAN_NS) -> Seal:
    return check(prediction, HASH, given, run(began_ns), (RUN_FILE,))


def used(created_ns: int | None, kind: str = "profile") -> Material:
    return Material(kind=kind, name="fft", sha256="0", created_ns=created_ns)  # type: ignore[arg-type]


def test_made_before_with_the_hash_given_is_sealed() -> None:
    """The case that the whole thing is for."""
    found = sealed(predicted(BEGAN_NS - 1, used(BEGAN_NS - 2), used(BEGAN_NS - 3, "fingerprint")))
    assert found.sealed
    assert found.sentence.startswith("Sealed before the run")
    assert HASH in found.sentence
    assert found.against == ()


@pytest.mark.parametrize(
    ("made", "given", "words"),
    [
        ((BEGAN_NS - 1,), "", "no published hash was given"),
        ((BEGAN_NS - 1,), "00" * 32, "the one given 0000"),
        ((BEGAN_NS + 1,), HASH, "after the run had begun"),
        ((BEGAN_NS,), HASH, "after the run had begun"),
        ((None,), HASH, "does not say when it was made"),
        ((BEGAN_NS - 1, used(BEGAN_NS + 1)), HASH, "made after the run had begun: profile fft"),
        ((BEGAN_NS - 1, used(BEGAN_NS, "fingerprint")), HASH, "fingerprint fft"),
        (
            (
                BEGAN_NS - 1,
                RUN_FILE,
            ),
            HASH,
            "from this very run",
        ),
    ],
)
def test_whatever_speaks_against_it_is_named(made: tuple[Any, ...], given: str, words: str) -> None:
    """One reason is enough: a seal that holds by half holds nothing."""
    found = sealed(predicted(*made), given)
    assert not found.sealed
    assert found.sentence.startswith("NOT sealed: ")
    assert words in found.sentence


def test_logs_do_not_say_when_they_began() -> None:
    """Else any prediction would be older than a run of unknown age."""
    assert "does not say when it began" in sealed(predicted(5), began_ns=0).sentence


def test_what_cannot_be_checked_is_told() -> None:
    """A profile from before times were recorded: its hash is in the sealed file, but it has no date of its own."""
    found = sealed(predicted(BEGAN_NS - 1, used(None)))
    assert found.sealed
    assert "no time of their own in: profile fft" in found.remarks[0]
    old = replace(predicted(BEGAN_NS - 1), provenance=None)
    assert "does not say what it was made from" in sealed(old).remarks[0]
