"""What is injected does what it says, by its own account and the kernel's, and only while the beat is fresh; what is
drawn says nothing of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from bench.injections import Key, Trial, account, lots, told
from bench.injectors import cgroups
from bench.injectors.catalog import INJECTIONS
from bench.injectors.clocked import Clocked
from bench.injectors.judge import Verdict
from bench.injectors.stage import SUBJECT, Device, Stage
from bench.injectors.tools import Beat, Did, Tools, tools
from msgspec import UNSET
from tests.helpers_tracer import standin
from tests.helpers_wait import until

from kts.errors import SetupError
from kts.spec import load_text
from kts.stats.analysis import analyse
from kts.store.reader import open_run


@pytest.fixture
def made() -> Tools:
    try:
        return tools()
    except SetupError as error:
        pytest.skip(error.what)


@pytest.fixture
def beat(tmp_path: Path) -> Beat:
    return Beat(tmp_path / "beat")


def cpu_ms(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("what", ["thief", "hog", "disk"])
def test_what_acts_does_so_while_the_beat_is_fresh_and_at_no_other_time(
    made: Tools, beat: Beat, tmp_path: Path, what: str
) -> None:
    """Else it would act upon the tenant alone, too, and the difference would tell nothing."""
    if what == "disk":
        (tmp_path / "file").write_bytes(bytes(8 << 20))
    settings = {"mb": 8, "file": tmp_path / "file", "kb": 64, "burst_us": 1000, "gap_us": 0}
    idle, busy = Beat(tmp_path / "never"), list[Did]()
    never: list[Did] = []
    with made.acting(what, idle.path, never, **settings), made.acting(what, beat.path, busy, **settings) as pid:
        with beat.held():
            until(lambda: cpu_ms(pid) > 60, "it works")
        until(lambda: state(pid) == "S", "it rests")
    assert busy[0].turns > 0
    assert busy[0].fresh_ms > 40
    assert (never[0].turns, never[0].fresh_ms) == (0, 0)


def test_a_switch_is_on_while_the_beat_is_fresh_and_off_when_it_ends(made: Tools, beat: Beat, tmp_path: Path) -> None:
    """A limit that stays on would slow the tenant alone; one that outlives the trial, the next."""
    file, did = tmp_path / "limit", list[Did]()
    file.write_text("-")
    with made.acting("switch", beat.path, did, file=file, on="1", off="0"):
        with beat.held():
            until(lambda: file.read_text() == "1", "it is on")
        until(lambda: file.read_text() == "0", "it is off")
        with beat.held():
            until(lambda: file.read_text() == "1", "it is on")
    assert file.read_text() == "0"
    assert did[0].turns >= 4


def test_a_paused_neighbour_stops_again_whenever_it_is_told_to_go_on(made: Tools, beat: Beat) -> None:
    did: list[Did] = []
    with made.acting("paused", beat.path, did) as pid:
        for _ in range(3):
            until(lambda: state(pid) == "T", "it is stopped")
            os.kill(pid, 18)
    assert did[0].turns >= 3
    assert did[0].cpu_ms < 50


def test_launches_are_later_by_what_was_asked_and_by_nothing_without_a_beat(made: Tools, beat: Beat) -> None:
    stand = standin()

    def took_ms() -> float:
        env = stand.env(LD_PRELOAD=str(made.preload), INJECT_BEAT=str(beat.path))
        argv = stand.argv(iterations=20, trips="3", kernel_us=10, lines=1)
        printed = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
        return min(float(line.split(",")[6]) for line in printed.splitlines())

    beat.asks(launch_us=2000)
    without = took_ms()
    with beat.held():
        delayed = took_ms()
    assert without < 5
    assert delayed >= without + 3 * 2 - 1


def test_only_the_named_tenant_sleeps_longer(made: Tools, beat: Beat) -> None:
    def slept_ms(tenant: str) -> float:
        env = os.environ | {"LD_PRELOAD": str(made.preload), "INJECT_BEAT": str(beat.path)}
        code = "import time; t = time.perf_counter(); time.sleep(0.001); print(time.perf_counter() - t)"
        argv = [sys.executable, "-S", "-c", code]
        env |= {"INJECT_TENANT": "v", "KTS_TENANT": tenant}
        return 1e3 * float(subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout)

    beat.asks(sleep_us=80_000)
    with beat.held():
        assert slept_ms("v") > 80
        assert min(slept_ms("n") for _ in range(3)) < 80
    assert min(slept_ms("v") for _ in range(3)) < 80


def test_a_quota_holds_the_process_back_that_joined_its_cgroup(made: Tools, beat: Beat) -> None:
    """By the kernel's own count; and the cgroup is gone afterwards."""
    try:
        with cgroups.quota(f"kts-test-{os.getpid()}", 0.05) as switch:
            switch.file.write_text(switch.on)
            beat.asks(groups=[switch.procs])
            env = os.environ | {"LD_PRELOAD": str(made.preload), "INJECT_BEAT": str(beat.path)}
            code = "import time\nwhile time.process_time() < 0.1: pass"
            subprocess.run([sys.executable, "-S", "-c", code], env=env, check=True)
            counts = dict(line.split() for line in switch.stat.read_text().splitlines())
            assert int(counts["nr_throttled"]) > 5
    except SetupError as error:
        pytest.skip(error.what)
    assert not switch.procs.parent.exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_experiment_says_the_same_of_the_subject_whatever_is_done_to_it(
    made: Tools, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge has it in run.json."""
    monkeypatch.setattr("bench.injectors.stage.FILE_BYTES", 1 << 16)
    told: dict[str, set[str]] = {}
    for name, injection in INJECTIONS.items():
        for victim in injection.victims[device]:
            stage = Stage(tmp_path, device, victim, random.Random(1), made)
            with suppress(SetupError), injection.play(stage):  # cgroups need root
                text = stage.experiment()
            assert load_text(text, source="trial").experiment.subject == SUBJECT
            assert name not in text
            told.setdefault(victim, set()).add(json.dumps(json.loads(text)["tenants"][SUBJECT]))
    assert set(map(len, told.values())) == {1}


def test_lots_are_the_same_for_a_seed_fair_and_a_fourth_of_them_idle() -> None:
    names = list(INJECTIONS)
    drawn = lots(names, "cpu", 96, random.Random(3))
    assert drawn == lots(names, "cpu", 96, random.Random(3))
    assert drawn != lots(names, "cpu", 96, random.Random(4))
    counts = Counter(name for name, _ in drawn)
    idle = {name: n for name, n in counts.items() if not INJECTIONS[name].right}
    assert sum(idle.values()) == 24
    acting = [n for name, n in counts.items() if name not in idle]
    assert max(acting) - min(acting) <= 1
    assert all(victim in INJECTIONS[name].victims["cpu"] for name, victim in drawn)


@pytest.mark.parametrize("slower", [1.0, 1.15, 1.5])
def test_a_lower_clock_is_named_where_it_was_sampled_and_not_where_it_stood_still(slower: float) -> None:
    """Constructed from a recorded run: no clock that may be set is at hand. Else turns would be blamed for it, or the
    clock for turns."""
    altered = Clocked(open_run(Path("examples/results/h200-agents-3")), slower)
    for name, tenant in analyse(altered).summary.tenants.items():
        assert tenant.causes is not UNSET
        (causes,) = tenant.causes
        parts = {part.cause: part.ms for part in next(one for one in causes.of if one.statistic == "mean").parts}
        assert ("slower-clocks" in parts) == (slower > 1)
        if slower > 1:
            assert causes.first() is not None
            assert causes.first().cause == "slower-clocks"  # type: ignore[union-attr]
            assert 0.6 * altered.added_ms(name) < parts["slower-clocks"] < 1.1 * altered.added_ms(name)


def test_beside_a_gpu_a_thief_on_the_core_is_no_uninvited_neighbour() -> None:
    """On the CPU the core is the device, and both are one."""
    thief, stranger = INJECTIONS["thief on the core"], INJECTIONS["uninvited neighbour"]
    assert all(one.answered("cpu", said) for one in (thief, stranger) for said in ("core", "uninvited"))
    assert [thief.answered("cuda", said) for said in ("core", "uninvited", "")] == [True, False, False]
    assert [stranger.answered("cuda", said) for said in ("core", "uninvited", "")] == [False, True, False]
    assert [INJECTIONS["clean"].answered("cuda", said) for said in ("core", "")] == [False, True]


def test_the_account_counts_clean_runs_apart_and_failed_ones_not_at_all() -> None:
    def trial(name: str, said: str, right: bool | None) -> Trial:
        key = Key(run="x", injection=name, victim="ours", device="cpu", settings={}, did=(), load=0, took_s=1)
        return Trial(key=key, verdict=None if right is None else Verdict(first=said, added_ms=1.0), right=right)

    trials = [trial("CPU quota", "quota", True), trial("CPU quota", "core", False), trial("CPU quota", "", None)]
    lines = account([*trials, trial("clean", "", True)])
    assert "| CPU quota | 2 | 1 | 1.0 to 1.0 | core |" in lines
    assert lines[-2:] == [
        "| **the true cause first** | 2 | 1 | | 50.0 % |",
        "| **no cause where there is none** | 1 | 1 | | 100.0 % |",
    ]


def test_the_page_holds_the_table_of_the_trials_that_are_kept() -> None:
    """Else what it says of kts would be of other trials."""
    trials = told(Path("examples/injections/cpu.json"))
    page = Path("docs/attribution.md").read_text(encoding="utf-8")
    assert "<!-- injections -->\n" + "\n".join(account(trials)) + "\n<!-- /injections -->" in page
    assert len(trials) >= 100
    trials += told(Path("examples/injections/cpu-loaded.json"))
    trials += told(Path("examples/injections/cpu-clean.json"))
    right = [trial.right for trial in trials if INJECTIONS[trial.key.injection].right]
    idle = [trial.right for trial in trials if not INJECTIONS[trial.key.injection].right]
    assert f"{sum(map(bool, right))} of {len(right)}, and {sum(map(bool, idle))} of {len(idle)}." in page
    assert len({trial.key.run for trial in trials}) == len(trials)
