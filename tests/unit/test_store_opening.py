"""The order in which tenants opened the device, from a run's events."""

from __future__ import annotations

from pathlib import Path

from kts.store.reader import opening_order


def test_tenants_come_in_the_order_in_which_they_opened(tmp_path: Path) -> None:
    """Else a prediction puts the tenants into another circle than the GPU did. A torn line costs only itself."""
    lines = [
        '{"kind": "joined", "tenant": "a"}',
        '{"kind": "opened", "tenant": "b", "device": "GPU-1"}',
        '{"kind": "op',
        '{"kind": "note", "text": "x"}',
        '{"kind": "opened", "tenant": "a"}',
        '{"kind": "opened", "tenant": "b"}',
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert opening_order(tmp_path) == ("b", "a")


def test_no_events_are_no_order(tmp_path: Path) -> None:
    """Else KTS_APP logs and old runs could not be predicted from."""
    assert opening_order(tmp_path) == ()
