"""By whose turns a watch foretells: if these fail, a GPU's figures are made with another one's turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.helpers_physics import fingerprint

from kts import files
from kts.app import watch_turns
from kts.errors import DataError
from kts.model.mode import MPS
from kts.model.summary import Estimate
from kts.physics.simulate import SharingModel
from kts.physics.values import Fingerprint
from kts.stats.natural import KEPT, SeenUnit
from kts.store import fingerprints
from kts.watch.watching import USUAL, ByModel, Foretell, TurnCosts

GPU = "GPU-11111111-2222-3333-4444-555555555555"
MIG = "MIG-66666666-7777-8888-9999-000000000000"
NONE = np.zeros(0, KEPT)


def _by_turns(given: Path | None, driver: str) -> Foretell:
    return watch_turns.model(watch_turns.known(given, lambda: driver), lambda: driver)


def _unit(*gpus: str) -> SeenUnit:
    return SeenUnit("a", NONE, NONE, 10.0, 30.0, 0.5, gpus)


def _of(slice_ms: float, uuid: str = GPU, driver: str = "580", created_ns: int = 1) -> Fingerprint:
    made = fingerprint(slice_ms)
    gpu = replace(made.gpu, kind="cuda", uuid=uuid, label="Made L4", driver=driver)
    return replace(made, gpu=gpu, source="measured", created_ns=created_ns)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """The slices with which the model was asked; fingerprints are kept of `GPU`, of a MIG device and of another."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "kts" / "fingerprints"
    for one in (
        _of(1.0, driver="570"),
        _of(3.0, created_ns=2),
        _of(7.0, uuid="GPU-other", created_ns=3),
        _of(4.0, uuid=MIG),
    ):
        fingerprints.keep(one, folder)
    fingerprints.keep(replace(_of(9.0, created_ns=4), mode=MPS), folder)
    (folder / "broken.json").write_text("{", encoding="utf-8")
    slices: list[float] = []

    def told(_own: SeenUnit, _others: object, turns: SharingModel) -> Estimate:
        slices.append(turns.slice_ms)
        return Estimate(estimate=1.5, lo=1.4, hi=1.6)

    monkeypatch.setattr(watch_turns, "foretold", told)
    return slices


@pytest.mark.parametrize(
    ("gpu", "driver", "slice_ms"), [(GPU, "570", 1.0), (GPU, "580", 3.0), (GPU, "", 3.0), (MIG, "580", 4.0)]
)
def test_a_gpu_has_the_turns_that_a_probe_kept_of_it(
    asked: list[float], gpu: str, driver: str, slice_ms: float
) -> None:
    """Else every GPU would be taken for the one on which kts was made, or for what it was before its driver changed; a
    MIG device for its GPU or for none."""
    found = _by_turns(None, driver)(_unit(gpu), ())
    assert asked == [slice_ms]
    assert found.df99 is not None
    assert f"{slice_ms:g} ms, measured on Made L4" in found.note
    assert "another" not in found.note


@pytest.mark.parametrize(
    ("unit", "driver"), [(_unit("GPU-new"), "580"), (_unit(GPU), "590"), (_unit(""), ""), (_unit(), "")]
)
def test_without_a_fingerprint_nothing_is_foretold_and_it_says_why(
    asked: list[float], unit: SeenUnit, driver: str
) -> None:
    """Else a figure would rest on turns that nobody measured."""
    found = _by_turns(None, driver)(unit, ())
    assert (found.df99, asked) == (None, [])
    assert "no fingerprint of it is kept" in found.note
    assert "kts probe" in found.note


def test_a_fingerprint_that_is_given_is_taken_and_named(asked: list[float], tmp_path: Path) -> None:
    """Else a recording could not be looked at away from its node, or another GPU's turns would pass for its own."""
    file = tmp_path / "given.json"
    file.write_bytes(files.encode(_of(5.0, uuid="GPU-other")))
    found = _by_turns(file, "")(_unit(GPU), ())
    assert asked == [5.0]
    assert "another GPU" in found.note
    file.write_bytes(files.encode(replace(_of(5.0), mode=MPS)))
    assert _by_turns(file, "")(_unit(GPU), ()).df99 is None
    file.write_text("{", encoding="utf-8")
    with pytest.raises(DataError):
        _by_turns(file, "")


def test_where_the_model_has_none_no_note_says_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would seem that a figure was foretold, and be looked for."""
    monkeypatch.setattr(watch_turns, "foretold", lambda *_: None)
    assert _by_turns(None, "")(_unit(GPU), ()) == ByModel(None)


def test_what_a_neighbour_takes_is_by_the_same_turns(tmp_path: Path) -> None:
    """Else whose a wait is would be told by another GPU's switches where its own are known."""
    turns = watch_turns.turns(watch_turns.known(None, lambda: "580"))
    made = _of(3.0)
    assert turns(GPU) == TurnCosts(3.0, made.preempt_ms[0].value + made.yield_ms[0].value)
    assert turns("GPU-new") == turns("") == USUAL
    file = tmp_path / "given.json"
    file.write_bytes(files.encode(replace(made, mode=MPS)))
    assert watch_turns.turns(watch_turns.known(file, str))(GPU).taken_ms(5.0) == 5.0
