"""Isolation tried by the stand-in for a GPU: who falls with whom is what is told, in each kind of harm."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from tests.helpers_stats import make_plan
from tests.helpers_tracer import standin

from kts.app import measuring
from kts.errors import Interrupted, SetupError
from kts.model.mode import STREAMS, Mode
from kts.model.sharing_facts import SharedMachine, Trial
from kts.plan import in_modes
from kts.sharing import isolation, parse
from kts.sharing.port import Held
from kts.store.sharingfile import read_sharing

MIB = 1 << 20


def gpu(**more: str) -> dict[str, str]:
    """A tenant's environment: the stand-in's driver, with so much memory."""
    return {"LD_LIBRARY_PATH": str(standin().cuda), "STANDIN_MEMORY": str(512 * MIB), **more}


def test_a_fault_that_stays_with_its_process_is_told_apart_from_one_that_all_die_of(tmp_path: Path) -> None:
    """Else a mode without isolation would look safe, or one with it unsafe."""
    apart = isolation.trial("fault", "cuda", gpu(), gpu())
    assert (apart.others, apart.bystander, apart.newcomer) == ("go-on", "went on", True)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in apart.victim
    both = gpu(STANDIN_FAULTS=str(tmp_path / "faults"))
    together = isolation.trial("fault", "cuda", both, both)
    assert (together.others, together.newcomer) == ("fall", True)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in together.bystander


def test_memory_that_a_tenant_takes_is_bounded_by_its_limit() -> None:
    """What a limit of pinned memory is for: the trial says how much was had."""
    limited = gpu(CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=128M")
    taken = isolation.trial("memory", "cuda", limited, gpu())
    assert (taken.others, taken.victim) == ("go-on", "took 128 MiB, then no more")
    assert isolation.trial("memory", "cuda", gpu(), gpu()).victim == "took 512 MiB, then no more"


def test_who_is_killed_takes_nobody_along_on_a_cpu() -> None:
    killed = isolation.trial("kill", "cpu", {}, {})
    assert (killed.others, killed.victim, killed.newcomer) == ("go-on", "killed by SIGKILL", True)
    assert killed.shown == "cpu-scheduler"


def test_where_nobody_can_compute_nothing_was_tried() -> None:
    """A trial that could not be made is no isolation that was shown."""
    none = isolation.trial("kill", "cuda", gpu(), gpu(STANDIN_MEMORY="0"))
    assert none.others == "not-tried"
    assert "CUDA_ERROR_OUT_OF_MEMORY" in none.why


def test_what_cannot_be_tried_is_said_for_each_mode() -> None:
    plan = in_modes(make_plan(), parse("cpu-scheduler"))
    one = replace(plan.modes[0], mode=Mode(name="s", kind=STREAMS))
    told: list[str] = []
    found, stopped = isolation.tried(replace(plan, modes=(one,)), Held({}), told.append)
    assert not stopped
    assert [(one.harm, one.others) for one in found["s"]] == [(harm, "not-tried") for harm in isolation.HARMS]
    assert told == ["isolation in s: kill", "isolation in s: memory", "isolation in s: fault"]


def test_nothing_is_tried_once_somebody_asked_to_stop() -> None:
    """Else Ctrl-C at the end of a run is followed by minutes of harm, or by a report without a word of them."""
    plan, told = in_modes(make_plan(), parse("cpu-scheduler")), list[str]()
    found, _ = isolation.tried(plan, Held({}), told.append, stopped="SIGINT")
    assert {(one.others, one.why) for one in found["cpu-scheduler"]} == {("not-tried", "SIGINT came before it")}
    assert told == ["isolation is not tried: SIGINT"]


def test_what_was_tried_before_a_signal_is_kept_and_the_exit_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who presses Ctrl-C during the last of many harms loses what all others showed."""
    plan = replace(in_modes(make_plan(), parse("a=cpu-scheduler,b=cpu-scheduler")), device="cpu")
    seen = Trial(harm="kill", others="go-on")
    left = iter([seen])

    def cut(*_: object) -> Trial:
        for one in left:
            return one
        raise KeyboardInterrupt

    run = SimpleNamespace(directory=tmp_path, outcome=SimpleNamespace(kind="complete"))
    monkeypatch.setattr(isolation, "_tried", cut)
    monkeypatch.setattr(measuring, "_measured", lambda *_, **__: run)
    with pytest.raises(Interrupted, match="while isolation was tried") as caught:
        measuring.measured(plan, "", None, overwrite=False, telemetry=False, try_isolation=True)
    assert caught.value.exit_code == 130
    facts = read_sharing(tmp_path)
    assert facts is not None
    assert facts.trials["a"][0] == seen
    others = [one.why for one in (*facts.trials["a"][1:], *facts.trials["b"])]
    assert others == ["a signal to stop came while it was tried", *["a signal to stop came before it"] * 4]


def test_nothing_is_tried_where_somebody_else_computes() -> None:
    """A trial takes all memory, and may end the contexts of everybody."""
    isolation.check_alone(SharedMachine(at_ns=1, computing=0))
    isolation.check_alone(None)
    with pytest.raises(SetupError, match="2 processes compute"):
        isolation.check_alone(SharedMachine(at_ns=1, computing=2))
