"""From the two stretches of a traced program to its iterations without the tracer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from tests.helpers_physics import fingerprint, profile
from tests.helpers_traced import Traced

from kts.arrivals import Closed
from kts.errors import DataError
from kts.files import encode
from kts.model.plan import Program, Tenant
from kts.model.records import clock_ms
from kts.model.run import DeviceInfo
from kts.physics.draws import cycle_ms, cycles_ms
from kts.physics.files import decode_profile
from kts.physics.kinds import kind_of
from kts.physics.predict import Effort, Predictor
from kts.physics.profiling import profile_of_recording
from kts.physics.programs import joined
from kts.physics.values import EMPTY, Packed
from kts.physics.values import packed as packed_columns
from kts.wire.recording import Launches, Recording, Stretch, format_result, packed, parse_result, unpacked
from kts.worker.tracing.layout import Flag, Kind
from kts.worker.tracing.listed import Owners, listed

GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="H", label="NVIDIA H", library="program")
TENANT = Tenant(name="search", work=Program(command=("search",)))


def retrieval(seed: int, n: int, slowed: float = 1.0, kernels: int = 22) -> Traced:
    """A launch, a wait, then 22, as top-k retrieval does; a fifth of the iterations makes five more. The host's time
    wanders, and grows ``slowed`` times under a tracer."""
    rng = np.random.default_rng(seed)
    one = Traced()
    for _ in range(n):
        host = slowed * rng.lognormal(0, 0.2)
        one.begin()
        one.launch(40_000, call_ns=round(4000 * host))
        one.wait()
        one.host(round(50_000 * host))
        for _ in range(kernels + 5 * (rng.random() < 0.2)):
            one.launch(6_000, call_ns=round(9000 * host))
        one.launch(9_000, Kind.COPY, flags=Flag.TO_HOST | Flag.WAITED, blocks=True)
        one.end()
        one.host(round(300_000 * rng.lognormal(0, 0.1)))
    return one


def stretch(one: Traced, usual_ns: int | None = None) -> tuple[Stretch, Launches, int]:
    found = listed([one.events], one.records, usual_ns=usual_ns)
    return Stretch(records=one.records.tobytes()), found.launches, found.usual_ns


def recording(slowed: float = 1.5) -> Recording:
    traced, launches, usual_ns = stretch(retrieval(2, 300, slowed))
    plain, calls, _ = stretch(retrieval(1, 1500), usual_ns)
    return Recording(
        tenant="search",
        device=GPU,
        size=None,
        plain=msgspec.structs.replace(plain, calls=calls),
        traced=traced,
        launches=launches,
        note="tracer",
    )


@pytest.mark.parametrize("slowed", [1.0, 1.5, 3.0])
def test_alone_the_profile_takes_as_long_as_the_program_did_without_the_tracer(slowed: float) -> None:
    """Otherwise every program is predicted as slow as its trace."""
    given = recording(slowed)
    assert parse_result(format_result(given)) == given
    made = profile_of_recording(given, TENANT)
    them = made.iterations
    assert made.method == "launches"
    assert kind_of(made) == "trips"
    assert made.tracer_inflation == pytest.approx(slowed, rel=0.1)
    assert them.wait_ms is not None
    assert them.notice_ms is not None
    waits = ~np.isnan(them.wait_ms)
    assert np.add.reduceat(waits, them.first[:-1]).tolist() == [1] * them.n
    assert set(np.diff(them.first).tolist()) == {24, 29}
    plain = made.solo_service.ms
    alone = _alone_ms(made)
    for p in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(alone, p) == pytest.approx(np.quantile(plain, p), rel=0.03)
    assert np.median(them.notice_ms[waits]) == pytest.approx(0.002, abs=0.001)
    assert made.pause_ms.mean() == pytest.approx(0.3, rel=0.05)
    assert them.apart is not None
    assert np.add.reduceat(them.apart, them.first[:-1]).tolist() == [1] * them.n
    kernels = them.duration_ms[~them.apart]
    assert set(np.round(1000 * kernels).tolist()) == {6.0, 40.0}


def _alone_ms(made: object) -> np.ndarray:
    """On a GPU of its own, launch by launch, as docs/physics.md says and nothing of ours computes."""
    them = made.iterations  # type: ignore[attr-defined]
    found = []
    for k in range(them.n):
        held = free = 0.0
        for j in range(them.first[k], them.first[k + 1]):
            free = max(free, them.offset_ms[j] + held) + them.duration_ms[j]
            if not np.isnan(them.wait_ms[j]):
                begun = them.wait_ms[j] + held
                held += max(free, begun) + them.notice_ms[j] - begun
        found.append(free + them.retire_ms[k])
    return np.array(found)


def test_iterations_that_made_other_calls_shrink_by_what_the_host_took_less() -> None:
    """Otherwise a program whose calls change from one stretch to the next has no profile."""
    traced, launches, usual_ns = stretch(retrieval(2, 200, 2.0, kernels=30))
    plain, calls, _ = stretch(retrieval(1, 800), usual_ns)
    found = joined(plain, calls, traced, launches)
    assert found.alike == 0
    them = found.iterations
    assert them.first[1] in (32, 37)
    last = them.offset_ms[them.first[1:] - 1]
    assert np.median(last) == pytest.approx(0.26, rel=0.15), "as the untraced host, not twice that"


def test_a_program_without_launches_keeps_its_pauses() -> None:
    """Otherwise a program that rests between its iterations is predicted to saturate the GPU."""
    plain, *_ = stretch(retrieval(1, 400))
    bursts = Recording(tenant="search", device=GPU, size=None, plain=plain, note="nothing was seen")
    made = profile_of_recording(bursts, TENANT)
    assert made.method == "burst"
    assert made.pause_ms.mean() == pytest.approx(0.3, rel=0.05)
    assert made.arrivals == Closed()


def two_threads(seed: int, n: int, slowed: float = 1.0) -> tuple[Stretch, Launches]:
    """Two threads in two processes that retrieve, one of them with fewer kernels and a slower host."""
    made = [retrieval(seed, n, slowed), retrieval(seed + 10, n, 1.5 * slowed, kernels=4)]
    rows = np.concatenate([one.records for one in made])
    order = np.argsort(rows["submit_ns"], kind="stable")
    whose = np.repeat([0, 1], n)[order]
    found = listed([one.events for one in made], rows[order], usual_ns=1500, threads=Owners((whose << 32) + 7))
    return Stretch(records=rows[order].tobytes(), threads=packed(whose)), found.launches


def of_two_threads(processes: Sequence[int], inflated: float = 1.0) -> Recording:
    """800 iterations without the tracer of kernels and 200 with it, which makes these so much longer."""
    (plain, calls), (traced, launches) = two_threads(1, 800), two_threads(2, 200, inflated)
    return Recording(
        tenant="search",
        device=GPU,
        size=None,
        plain=msgspec.structs.replace(plain, calls=calls),
        traced=traced,
        launches=launches,
        processes=packed(processes),
        note="tracer",
    )


def test_each_thread_of_a_program_keeps_its_own_iterations_and_pauses() -> None:
    """Otherwise the host of one gets the times of the other, and their pauses are those of nobody."""
    given = of_two_threads([0, 1], inflated=1.5)
    plain = given.plain
    assert parse_result(format_result(given)) == given
    made = profile_of_recording(given, TENANT)
    assert made.how.endswith("; 2 threads make its iterations, each has a host of its own")
    made = decode_profile(encode(made), "made")
    one, other = made.threads
    assert (one.process, other.process) == (0, 1)
    assert set(np.diff(one.iterations.first).tolist()) == {24, 29}
    assert set(np.diff(other.iterations.first).tolist()) == {6, 11}
    for thread in made.threads:
        assert thread.iterations.n == 200
        assert thread.pause_ms.mean() == pytest.approx(0.3, rel=0.05)
    for number, thread in enumerate(made.threads):
        solo = clock_ms(plain.rows, "service")[unpacked(plain.threads) == number]
        alone = _alone_ms(
            msgspec.structs.replace(made, **packed_columns(thread.iterations), thread=EMPTY, process=EMPTY)
        )
        for p in (0.1, 0.5, 0.9):
            assert np.quantile(alone, p) == pytest.approx(np.quantile(solo, p), rel=0.03)
    assert cycle_ms(made) == pytest.approx(1 / sum(1 / cycle for cycle in cycles_ms(made)))


def test_a_mix_has_the_iterations_of_all_threads_of_a_tenant() -> None:
    """Otherwise the tenant of the prediction is another one than that of the run. Two processes have two places in the
    circle, two threads of one share its turn."""
    rates = {}
    for processes in ([0, 1], [0, 0]):
        made = profile_of_recording(of_two_threads(processes), TENANT)
        effort = Effort(iterations=2000, replicates=3, seconds=2.0)
        predictor = Predictor({"search": made, "heavy": profile("heavy", 50.0)}, fingerprint(), effort)
        rates[tuple(processes)] = predictor.mix(["search", "heavy"]).tenants["search"].rate_hz.value
    alone = predictor.mix(["search"]).tenants["search"]
    assert alone.rate_hz.value == pytest.approx(1000 / cycle_ms(made), rel=0.02)
    assert rates[0, 0] > 1.2 * rates[0, 1]


@pytest.mark.parametrize(
    ("thread", "process", "why"),
    [([0, 1], [], "other iterations"), ([0] * 9 + [2], [0, 0, 0], "without iterations"), ([], [0], "no thread")],
)
def test_threads_that_cannot_be_are_refused(thread: list[int], process: list[int], why: str) -> None:
    """A profile is a file that anybody may have written."""
    made = msgspec.structs.replace(profile("a", 1.0, n=10), thread=Packed.of_ns(thread), process=Packed.of_ns(process))
    with pytest.raises(DataError, match=why):
        decode_profile(encode(made), "made")
