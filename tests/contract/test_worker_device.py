"""The contract of `kts.worker.devices.Device`, for every device that this machine has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from kts.errors import SetupError
from kts.model.plan import KERNELS, Decoder, KernelName
from kts.wire.recording import unpacked
from kts.worker.detect import cuda_devices, installed
from kts.worker.devices import Device, open_device
from kts.worker.iteration import Watch, timed
from kts.worker.traced import launches_of
from kts.worker.workloads import build, bytes_needed
from kts.worker.workloads.decode import HEAD_WIDTH, DecodeStep

SMALL = Decoder(layers=2, context=16)


@pytest.fixture(
    params=[
        pytest.param(("cpu", "numpy", None), id="cpu"),
        pytest.param(("cuda", "torch", None), id="torch", marks=pytest.mark.gpu),
        pytest.param(("cuda", "cupy", None), id="cupy", marks=pytest.mark.gpu),
        pytest.param(("cuda", "torch", "first"), id="torch-stream", marks=pytest.mark.gpu),
        pytest.param(("cuda", "cupy", "first"), id="cupy-stream", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    kind, library, wish = request.param
    if kind == "cuda" and not (cuda_devices() and installed(library)):
        pytest.skip(f"no CUDA device with {library}")
    opened = open_device(kind, library, wish)
    assert (opened.stream is not None) == (kind == "cuda" and wish is not None)
    yield opened
    opened.release()


def test_it_says_what_it_is(device: Device) -> None:
    """Otherwise two devices cannot be told apart, or a CPU poses as a GPU."""
    info = device.info()
    assert info.uuid.startswith({"cuda": "GPU-", "cpu": "cpu:"}[info.kind])
    assert info.stopwatch
    assert info.library_version
    assert ("not a GPU" in info.label) == (info.kind == "cpu")
    assert info == device.info()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_stopwatch_lies_within_the_hosts_time(device: Device, kernel: KernelName) -> None:
    """Otherwise wait-before-start (host - device) comes out negative."""
    operation = build(kernel, 256, device, SMALL)
    for _ in range(5):
        begin_ns = time.monotonic_ns()
        device.begin()
        operation()
        device.end()
        device.wait()
        host_ms = (time.monotonic_ns() - begin_ns) / 1e6
        assert 0 < device.device_ms() <= host_ms * 1.001 + 0.01


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "decode"])
def test_the_work_is_the_one_that_is_named(device: Device, kernel: KernelName) -> None:
    """Otherwise something cheaper than a fft or a product is measured."""
    operation = build(kernel, 48, device)
    closure = dict(zip(operation.__code__.co_freevars, operation.__closure__, strict=True))
    held = {name: np.asarray(_to_host(cell.cell_contents)) for name, cell in closure.items() if name != "xp"}
    result = np.asarray(_to_host(operation()))
    if kernel == "fft":
        assert result.dtype == np.complex64
        np.testing.assert_allclose(result, np.fft.fft2(held["square"].astype(complex)), rtol=1e-3, atol=1e-2)
    elif kernel == "tiny":
        assert result.shape == (48,)
        np.testing.assert_allclose(result, held["left"] + held["right"], rtol=1e-6)
    else:
        assert result.dtype == np.float32
        exact = held["left"].astype(float) @ held["right"].astype(float)
        np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-4)


def test_a_decode_step_is_a_transformers(device: Device) -> None:
    """Otherwise the launches of something else are measured; three steps, because tokens and cache carry on."""
    step = build("decode", 2 * HEAD_WIDTH, device, SMALL)
    assert isinstance(step, DecodeStep)
    twin = _Reference(step)
    for _ in range(3):
        logits = twin.step()
        device.begin()
        step()
        device.end()
        device.wait()
        seen = int(np.asarray(step.seen)[0])
        assert logits[seen] == pytest.approx(logits.max(), abs=1e-3), "the token is the likeliest one"
        assert seen == int(np.asarray(_to_host(step.token))[0])
        twin.token = seen
    for layer, cache in zip(step.layers, twin.caches, strict=True):
        np.testing.assert_allclose(np.asarray(_to_host(layer.cache)), cache, rtol=1e-3, atol=1e-3)


def test_a_landing_is_complete_after_the_wait(device: Device) -> None:
    """Otherwise an iteration is reported as done before its token is on the host."""
    array = device.place(np.arange(5))
    host, land = device.landing(array)
    for _ in range(2):
        array += 1
        device.begin()
        land()
        device.end()
        device.wait()
        assert np.array_equal(np.asarray(host), np.asarray(_to_host(array)))


def test_a_captured_operation_does_the_same_again(device: Device) -> None:
    """Otherwise a graph replays nothing, or something else; where there are none, the user must learn what to do."""
    if device.info().library != "torch":
        with pytest.raises(SetupError) as caught:
            device.capture(lambda: None)
        assert "graph: false" in caught.value.remedy
        return
    plain = build("decode", 2 * HEAD_WIDTH, device, SMALL)
    graph = build("decode", 2 * HEAD_WIDTH, device, Decoder(layers=2, context=16, graph=True))
    tokens = {}
    for step in (plain, graph):
        assert isinstance(step, DecodeStep)
        step.token[...] = 7
        tokens[step] = []
        for _ in range(4):
            device.begin()
            step()
            device.end()
            device.wait()
            tokens[step].append(int(np.asarray(step.seen)[0]))
    assert tokens[plain] == tokens[graph]


# torch warns of sessions after the first, some versions of the first one too.
@pytest.mark.filterwarnings("ignore:(Warning. )?Profiler clears events at the end of each cycle:UserWarning")
@pytest.mark.parametrize(
    ("kernel", "size", "launched", "waits"),
    [
        # its last copy and the events around it: the copy engine's
        ("decode", 2 * HEAD_WIDTH, range(2 * 17 + 6, 2 * (2 * 17 + 7) + 1), False),
        # between two events
        ("tiny", 4096, [3], True),
    ],
)
def test_a_tracer_sees_what_every_iteration_launches(
    device: Device, kernel: KernelName, size: int, launched: Sequence[int], waits: bool
) -> None:
    """Otherwise a profile is of other launches than the tenant's; where there is no tracer, None must say so."""
    tracer = device.tracer()
    if tracer is None:
        assert device.info().library != "torch"
        return
    operation = build(kernel, size, device, SMALL)
    watch = Watch(tracer)
    iterate = timed(device, operation, watch=watch)
    with tracer:
        for _ in range(5):
            iterate()
    found = launches_of(tracer.events(), watch.issue_ns)
    counts = unpacked(found.counts)
    assert len(set(counts.tolist())) == 1
    assert counts[0] in launched
    assert found.stopwatch_waits == waits
    assert (unpacked(found.duration_ns) > 0).sum() == 5 * (counts[0] - 2 * waits)
    assert (unpacked(found.offset_ns) >= 0).all()


def test_it_tells_what_memory_it_holds(device: Device) -> None:
    """Otherwise nobody knows which tenants fit together."""
    step = build("decode", 4 * HEAD_WIDTH, device, SMALL)
    held = device.held_bytes()
    assert held is not None
    assert held >= bytes_needed("decode", 4 * HEAD_WIDTH, SMALL)
    del step


def test_memory_is_given_back(device: Device) -> None:
    """Otherwise calibration runs out of memory on sizes that fit."""
    before = device.free_bytes()
    for _ in range(3):
        build("gemm", 2048, device)
        device.release()
    assert device.free_bytes() > before - 2**30


class _Reference:
    """The same decoder from its description, in double precision and one position after the other."""

    def __init__(self, step: DecodeStep) -> None:
        def host(array: object) -> np.ndarray:
            return np.asarray(_to_host(array)).astype(np.float64)

        self.token = 0
        self.embedding, self.head = host(step.embedding), host(step.head)
        self.layers = [
            {name: host(getattr(layer, name)) for name in ("qkv", "out", "up", "down")} for layer in step.layers
        ]
        self.caches = [host(layer.cache) for layer in step.layers]

    def step(self) -> np.ndarray:
        x = self.embedding[self.token]
        width = len(x)
        for layer, cache in zip(self.layers, self.caches, strict=True):
            query, key, value = np.split(x / np.linalg.norm(x) @ layer["qkv"], 3)
            mixed = np.empty(width)
            for head in range(width // HEAD_WIDTH):
                part = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
                cache[0, head, -1], cache[1, head, -1] = key[part], value[part]
                scores = [float(query[part] @ position) for position in cache[0, head]]
                weights = np.exp(np.array(scores) - max(scores))
                mixed[part] = (weights / weights.sum()) @ cache[1, head]
            x = x + mixed @ layer["out"]
            x = x + np.maximum(x / np.linalg.norm(x) @ layer["up"], 0) @ layer["down"]
        return np.asarray(x / np.linalg.norm(x) @ self.head)


def _to_host(value: object) -> object:
    for method in ("cpu", "get"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value
