"""A copy of a growing run directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers_telemetry import sample

from kts.errors import DataError, SetupError
from kts.model.mode import SharingMode
from kts.model.records import RECORD
from kts.model.run import BlockOutcome, Outcome
from kts.model.telemetry import SourceState
from kts.plan import blocks_of_round, build
from kts.spec import load_text
from kts.store import create, layout, open_run
from kts.store.mirror import GROWING, Mirror

PLAN = build(
    load_text(
        "name: x\nrounds: 1\ntenants:\n  a: {workload: fft, size: 8}\n  b: {workload: fft, size: 8}\n", source="test"
    ).experiment
)


def original(directory: Path) -> Path:
    """A finished run of one round, as the conductor's pod keeps it."""
    writer = create(
        directory,
        plan=PLAN,
        backend="k8s",
        mode=SharingMode(recorded="m"),
        experiment_text="",
        environment={},
        keep_journal=True,
    )
    for block in blocks_of_round(PLAN, 0):
        rows = np.zeros(20, RECORD)
        rows["i"] = np.arange(20)
        rows["submit_ns"] = rows["due_ns"] = 1000 + np.arange(20) * 10
        rows["retire_ns"] = rows["submit_ns"] + 5
        for tenant in block.tenants:
            writer.records(tenant, block.index, 0, rows)
        counts = dict.fromkeys(block.tenants, 20)
        outcome = BlockOutcome(
            index=block.index, round=0, condition=block.condition, start_ns=1, end_ns=2, valid=True, counts=counts
        )
        writer.block(outcome)
        writer.samples([sample(block.index, 0.5)])
    writer.source(SourceState(source="nvml", metrics=("gpu_busy_ratio",)))
    writer.close(Outcome(kind="complete"))
    return directory


def copied(source: Path, target: Path, journal_bytes: int | None = None) -> Mirror:
    """A copy, its journal cut after so many bytes."""
    mirror = Mirror.create(target, plan=PLAN, mode=SharingMode(recorded="m"), experiment_text="")
    for name in GROWING:
        data = (source / name).read_bytes()
        mirror.append(name, data[: journal_bytes if name == layout.JOURNAL else None], 0)
    mirror.replace_run((source / layout.RUN).read_bytes())
    return mirror


def test_a_whole_copy_is_the_run(tmp_path: Path) -> None:
    """Else what is reported would not be what was measured."""
    source = original(tmp_path / "pod")
    assert (source / layout.JOURNAL).exists()
    mirror = copied(source, tmp_path / "here")
    mirror.note("seen from here")
    mirror.finish(None)
    mirror.close()
    run = open_run(tmp_path / "here")
    assert run.damage == ()
    assert run.info.outcome.kind == "complete"
    assert "seen from here" in run.info.notes
    assert [len(run.records("a", block.index)) for block in run.blocks] == [20, 0, 20]
    assert (tmp_path / "here" / layout.PARQUET).exists()
    assert (tmp_path / "here" / layout.TELEMETRY).exists()
    assert [list(series.value) for series in run.telemetry()] == [[0.5] * 3]
    assert [state.source for state in run.info.telemetry] == ["nvml"]


def test_telemetry_that_cannot_be_copied_is_named_and_costs_nothing_else(tmp_path: Path) -> None:
    """Else a full disk under the telemetry's copy would end the following of a run that goes on."""
    source = original(tmp_path / "pod")
    mirror = copied(source, tmp_path / "here")
    (tmp_path / "here" / layout.TELEMETRY_JOURNAL).unlink()
    (tmp_path / "here" / layout.TELEMETRY_JOURNAL).mkdir()
    for offset in (0, 1, 7):
        assert mirror.append(layout.TELEMETRY_JOURNAL, b"x", offset) == offset + 1
    mirror.finish(None)
    mirror.close()
    run = open_run(tmp_path / "here")
    assert any("telemetry.journal could not be copied" in note for note in run.info.notes)
    assert [len(run.records("a", block.index)) for block in run.blocks] == [20, 0, 20]


@pytest.mark.parametrize("cut", [0, 1, 700, 1500, 2900])
def test_a_copy_cut_off_anywhere_opens_and_analyses_only_whole_blocks(tmp_path: Path, cut: int) -> None:
    """Else a cluster that is lost in the middle would cost what had been fetched."""
    source = original(tmp_path / "pod")
    mirror = copied(source, tmp_path / "here", cut)
    mirror.finish(Outcome(kind="incomplete", reason="the pod is gone", exit_code=5))
    mirror.close()
    run = open_run(tmp_path / "here")
    assert run.info.outcome.reason == "the pod is gone"
    for block in run.blocks:
        whole = all(len(run.records(name, block.index)) == count for name, count in block.counts.items())
        assert whole or not block.valid


def test_what_is_no_run_json_does_not_replace_the_last_one(tmp_path: Path) -> None:
    """Else one bad answer would cost the description of all that was measured."""
    mirror = Mirror.create(tmp_path / "here", plan=PLAN, mode=SharingMode(recorded="m"), experiment_text="text")
    with pytest.raises(DataError):
        mirror.replace_run(b'{"schema": 1')
    mirror.close()
    assert open_run(tmp_path / "here").info.experiment == "text"


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_in_any_order_and_overlapping_never_make_a_wrong_copy(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]]
) -> None:
    """Else an answer that came twice would be in the journal twice, and its records lost."""
    content = bytes(range(100))
    mirror = Mirror.create(
        tmp_path_factory.mktemp("copy") / "here", plan=PLAN, mode=SharingMode(recorded="m"), experiment_text=""
    )
    for offset, length in parts:
        had = mirror.size(layout.JOURNAL)
        data = content[offset : offset + length]
        if offset > had:
            with pytest.raises(DataError, match=f"do(es)? not continue the {had} bytes"):
                mirror.append(layout.JOURNAL, data, offset)
        else:
            assert mirror.append(layout.JOURNAL, data, offset) == max(had, offset + len(data))
        assert (mirror.directory / layout.JOURNAL).read_bytes() == content[: mirror.size(layout.JOURNAL)]
    mirror.close()


def test_other_bytes_than_those_that_are_here_are_refused(tmp_path: Path) -> None:
    """Else the copy of one run would go on with another's."""
    mirror = Mirror.create(tmp_path / "here", plan=PLAN, mode=SharingMode(recorded="m"), experiment_text="")
    assert mirror.append(layout.JOURNAL, b"abcd", 0) == 4
    with pytest.raises(DataError, match="from byte 2 on"):
        mirror.append(layout.JOURNAL, b"cx", 2)
    assert (tmp_path / "here" / layout.JOURNAL).read_bytes() == b"abcd"
    mirror.close()


def test_two_cannot_write_one_copy(tmp_path: Path) -> None:
    """Else attaching twice would write every byte twice."""
    mirror = Mirror.create(tmp_path / "here", plan=PLAN, mode=SharingMode(recorded="m"), experiment_text="")
    with pytest.raises(SetupError, match="another kts"):
        Mirror.resume(tmp_path / "here")
    mirror.close()
