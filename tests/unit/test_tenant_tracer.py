"""Whether a program is traced at all, and how large its rings are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kts.errors import SetupError
from kts.model.plan import Program
from kts.worker.tenants import tracer
from kts.worker.tenants.tracer import tracer_for
from kts.worker.tracing.build import Library
from kts.worker.tracing.layout import CONTROL

TRACED = Program(command=("true",), trace="calls")


@pytest.fixture(autouse=True)
def _built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "library", lambda: Library(Path("/x/libkts_trace.so")))


@pytest.mark.parametrize(("text", "events"), [("", 65536), ("64", 64), ("65", 128), ("100000", 131072)])
def test_a_ring_holds_what_was_asked_for_at_least(text: str, events: int) -> None:
    made = tracer_for(TRACED, on_gpu=False, beside=False, given={"KTS_TRACE_EVENTS": text} if text else {})
    assert made.tracing is not None
    control = (Path(str(made.tracing.folder)) / "control").read_bytes()
    assert np.frombuffer(control, CONTROL, 1)["capacity"] == events
    made.tracing.close()


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e6", " 64", "99999999999999999999", "²"])
def test_a_number_of_events_that_is_none_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(SetupError) as refused:
        tracer_for(TRACED, on_gpu=False, beside=False, given={"KTS_TRACE_EVENTS": text})
    assert repr(text) in refused.value.what
    assert "KTS_TRACE_EVENTS: '262144'" in refused.value.remedy


def test_without_the_library_a_program_is_not_traced_and_it_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "library", lambda: Library(None, "no C compiler (cc, gcc, clang)"))
    made = tracer_for(TRACED, on_gpu=True, beside=False, given={})
    assert (made.tracing, dict(made.env)) == (None, {})
    assert made.notes() == ("its launches are not seen: no C compiler (cc, gcc, clang)",)
