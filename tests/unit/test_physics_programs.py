"""From the two stretches of a traced program to its iterations without the tracer."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.helpers_traced import Traced

from kts.arrivals import Closed
from kts.model.plan import Program, Tenant
from kts.model.run import DeviceInfo
from kts.physics.kinds import kind_of
from kts.physics.profiling import profile_of_recording
from kts.physics.programs import joined
from kts.wire.recording import Launches, Recording, Stretch, format_result, parse_result
from kts.worker.tracing.layout import Flag, Kind
from kts.worker.tracing.listed import listed

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
