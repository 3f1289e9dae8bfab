"""What deploy/watch/ brings to Prometheus and Grafana, tried with Prometheus's own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.helpers_watch import three

from kts.report.metrics import Board

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "watch"
ALERTS = ROOT / "tests" / "data" / "watch" / "alerts.yaml"
PROMTOOL = shutil.which("promtool")
GRAFANA = {"$__rate_interval": "5m", "$instance": "a", "$unit": "b"}
NAME = re.compile(r"\bkts_watch_\w+")
LABELS = re.compile(
    r"\{\{ *(?:\$labels\.)?([a-z_]+) *\}\}|\$labels\.(\w+)|\b(?:by|on) \(([\w, ]+)\)|[{ ](\w+)[!=]~?\\\""
)
"""That a legend, an annotation or a query asks for."""

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (Debian: prometheus)")


def rules() -> dict[str, Any]:
    """The groups, as a Prometheus without the operator takes them."""
    spec: dict[str, Any] = yaml.safe_load((DEPLOY / "rules.yaml").read_text(encoding="utf-8"))["spec"]
    return spec


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    return found


def queries() -> Iterator[str]:
    """Of the dashboard, as Grafana would send them."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in GRAFANA.items():
                query = query.replace(name, value)
            yield query


def promtool(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(PROMTOOL), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_every_alert_fires_when_it_must_and_only_then(tmp_path: Path) -> None:
    """Else nobody would be called; or everybody, about noise."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()), encoding="utf-8")
    shutil.copy(ALERTS, tmp_path / "alerts.yaml")
    assert "SUCCESS" in promtool("test", "rules", "alerts.yaml", cwd=tmp_path)


def test_no_alert_is_left_untried() -> None:
    """Else one could be added that never fires."""
    tried = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["tests"]
    fires = {case["alertname"] for test in tried for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fires == {rule["alert"] for group in rules()["groups"] for rule in group["rules"]}


@needs_promtool
def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    """Else a panel would show an error in place of a figure."""
    asked = [{"record": f"panel:query{k}", "expr": query} for k, query in enumerate(queries())]
    (tmp_path / "queries.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "x", "rules": asked}]}), encoding="utf-8"
    )
    assert f"{len(asked)} rules found" in promtool("check", "rules", "queries.yaml", cwd=tmp_path)


def test_alerts_and_panels_ask_for_what_is_exported() -> None:
    """Else one that asks for a name of yesterday is silent for ever."""
    board = Board("0.1")
    board.put(three())
    families = text_string_to_metric_families(generate_latest(board).decode())
    samples = [sample for family in families for sample in family.samples]
    alerts = [rule["expr"] for group in rules()["groups"] for rule in group["rules"]]
    asked = {name for query in (*queries(), *alerts) for name in NAME.findall(query)}
    assert asked <= {sample.name for sample in samples}
    assert len(asked) > 12
    texts = json.dumps([dashboard(), rules()])
    labels = {name for found in LABELS.findall(texts) for part in found for name in re.findall(r"\w+", part)}
    assert labels - {"instance"} <= {label for sample in samples for label in sample.labels}
    assert labels >= {"unit", "because_of", "what", "gpu"}


def test_panels_do_not_lie_on_each_other() -> None:
    """Else Grafana would move them about."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken.keys()
        taken.update(dict.fromkeys(cells, panel["title"]))
