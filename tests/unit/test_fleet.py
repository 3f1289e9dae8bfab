"""A fleet's figures and its file: drawn with a truth that is given, and damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_cli import errors, kts_here
from tests.helpers_fleet import fleet, recorded

from kts.app.fleets import load_fleet
from kts.errors import DataError
from kts.model.fleet import FleetNode
from kts.model.fleet_summary import FEWEST
from kts.model.run import Outcome
from kts.model.summary import Estimate
from kts.stats.fleet import band
from kts.store import fleetfile

FAILED = FleetNode(node="n-bad", state="failed", reason="no free slot", remedy="wait", exit_code=4)


def drawn(rng: np.random.Generator, factors: list[float], between: float, error: float) -> dict[str, Estimate]:
    """Figures of nodes around 2: truth ``factors``, nodes differ by ``between``, each known to ``error``."""
    logs = [math.log(2 * factor) + rng.normal(0, between) + rng.normal(0, error) for factor in factors]
    reach = 1.96 * error
    return {
        f"n{k}": Estimate(estimate=math.exp(y), lo=math.exp(y - reach), hi=math.exp(y + reach))
        for k, y in enumerate(logs)
    }


@pytest.mark.parametrize("nodes", [4, 6, 12, 50])
@pytest.mark.parametrize(("between", "error"), [(0.0, 0.02), (0.02, 0.01), (0.05, 0.005), (0.1, 0.02)])
def test_nodes_that_are_alike_are_seldom_named(nodes: int, between: float, error: float) -> None:
    """Else healthy machines would be taken out of service."""
    rng = np.random.default_rng(nodes)
    named = sum(bool(band(drawn(rng, [1.0] * nodes, between, error)).outliers) for _ in range(400))
    assert named <= 0.15 * 400


@pytest.mark.parametrize("factor", [1.3, 1 / 1.3])
def test_the_one_that_is_off_is_named_and_no_other(factor: float) -> None:
    """Else a sick GPU would hide in its fleet."""
    rng = np.random.default_rng(1)
    found = [band(drawn(rng, [factor, *[1.0] * 7], 0.02, 0.01)).outliers for _ in range(300)]
    assert sum("n0" in one for one in found) >= 0.95 * 300
    assert sum(len(set(one) - {"n0"}) > 0 for one in found) <= 0.08 * 300


def test_two_bad_nodes_do_not_hide_each_other() -> None:
    """Else a mean and a standard deviation would do; they are blown up by what they should name."""
    figures = drawn(np.random.default_rng(2), [3.0, 3.0, *[1.0] * 6], 0.02, 0.01)
    assert set(band(figures).outliers) == {"n0", "n1"}


def test_what_is_within_five_percent_or_vague_is_not_named() -> None:
    """Else the most precise fleet would be the one with most outliers, and a noisy node would be one for its noise."""
    close = {f"n{k}": Estimate(estimate=2.0, lo=1.999, hi=2.001) for k in range(8)}
    assert band({**close, "x": Estimate(estimate=2.08, lo=2.079, hi=2.081)}).outliers == ()
    assert band({**close, "x": Estimate(estimate=2.2, lo=2.19, hi=2.21)}).outliers == ("x",)
    assert band({**close, "x": Estimate(estimate=2.6, lo=1.5, hi=4.0)}).outliers == ()


def test_too_few_nodes_name_nobody_and_say_so() -> None:
    """Else one of three would be blamed for what two have in common."""
    figures = drawn(np.random.default_rng(3), [5.0, 1.0, 1.0], 0.01, 0.01)
    figures["no figure"] = Estimate(estimate=None, lo=None, hi=None, refused="too few iterations")
    assert len(figures) == FEWEST
    found = band(figures)
    assert (found.median, found.outliers, found.nodes) == (None, (), 3)
    assert "need 4 nodes" in found.refused


def test_the_table_names_outliers_what_failed_and_what_differs(tmp_path: Path) -> None:
    """Else the one thing that a fleet is measured for would have to be looked for."""
    nodes = {f"n{k}": {"alone": 1.0} for k in range(6)} | {"n4": {"together": 3.0}, "n9": {"alone": 9.0}}
    recorded(tmp_path, nodes, [FAILED], gpus={"n9": "NVIDIA A100"})
    done = kts_here("report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Unlike the others: n4." in done.stdout
    assert "n-bad: failed: no free slot (try: wait)" in done.stdout
    assert "GPU differs: NVIDIA H200 on n0, n1, n2, n3, n4, n5; NVIDIA A100 on n9" in done.stdout
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {"fleet.png", "fleet.svg", "fleet-dark.png"}
    told = json.loads((tmp_path / "fleet-summary.json").read_text(encoding="utf-8"))
    assert {node for one in told["bands"] for node in one["outliers"]} == {"n4"}
    assert (tmp_path / "results.md").read_text(encoding="utf-8").count("![") == 0
    assert "n4,response,fft,df99,5." in (tmp_path / "summary.csv").read_text(encoding="utf-8")


def test_the_worst_node_decides_how_a_fleet_ended() -> None:
    """Else a pipeline would go on with half a fleet."""
    good = FleetNode(node="n1", state="complete")
    assert fleet([good]).outcome == Outcome(kind="complete")
    mixed = fleet([good, FAILED, FleetNode(node="n2", state="incomplete", reason="OOM", remedy="more", exit_code=5)])
    assert (mixed.outcome.kind, mixed.outcome.exit_code, mixed.outcome.remedy) == ("incomplete", 5, "more")
    assert mixed.outcome.reason == "2 of 3 nodes are not complete (n-bad failed, n2 incomplete)"
    assert fleet([good, FleetNode(node="n2")]).outcome.kind == "running"
    assert fleet([good, FleetNode(node="n2", state="undetermined")]).outcome.exit_code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:40], "not a fleet"),
        (lambda text: text.replace('"n1"', '"../../etc"'), "no node is called"),
        (lambda text: text.replace('"n1"', '"n-bad"'), "one of them twice"),
        (lambda text: text.replace('"schema": 1', '"schema": 99'), "newer kts"),
        (lambda text: text.replace('"state": "complete"', '"state": "fine"'), "not a fleet"),
        (lambda _: "[]", "not a fleet"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    """Else a cut or foreign fleet.json would be a traceback, or lead out of its directory."""
    fleetfile.write(tmp_path, fleet([FleetNode(node="n1", state="complete"), FAILED]))
    path = tmp_path / fleetfile.FLEET
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        load_fleet(tmp_path)
    done = kts_here("report", tmp_path)
    assert done.returncode == DataError.exit_code
    assert said in errors(done)[0]


def test_a_run_that_cannot_be_read_costs_its_node_alone(tmp_path: Path) -> None:
    """Else one damaged copy would cost the whole fleet's report."""
    recorded(tmp_path, {f"n{k}": {"alone": 1.0} for k in range(2)})
    (tmp_path / "nodes" / "n1" / "run.json").write_text("{", encoding="utf-8")
    done = kts_here("report", tmp_path, "--no-figures")
    assert done.returncode == 0, done.stderr
    assert "n1: complete:" in " ".join(done.stdout.split())
    assert "run.json" in done.stdout
