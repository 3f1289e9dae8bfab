"""Launches of PyTorch and a wait, for ever: what tests/standin/program.c is to the stand-in of a GPU. NAME=VALUE:
trips=2,4 launches of each round trip, kernel_us=100 each, host_work=200 (thousand steps before each trip, as there),
think_us=500 (sleep after each iteration). With beat=FILE only while that is fresh."""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path

import torch

_STEPS = 60
"""Of Python for a thousand of the stand-in's: both take about as long."""

_FRESH_NS = 25_000_000


def main() -> None:
    """Runs for ever."""
    shape = {"kernel_us": 100, "host_work": 200, "think_us": 500}
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    beat, trips = words.pop("beat", ""), [int(count) for count in words.pop("trips", "2,4").split(",")]
    shape |= {name: int(value) for name, value in words.items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    data = torch.ones(_elements(device, shape["kernel_us"]), device=device)
    while True:
        while beat and not fresh(Path(beat)):
            time.sleep(0.001)
        for launches in trips:
            for _ in range(shape["host_work"] * _STEPS):
                pass
            for _ in range(launches):
                data.mul_(1.0)
            data[0].item()
        if shape["think_us"]:
            time.sleep(shape["think_us"] / 1e6)


def fresh(beat: Path) -> bool:
    """As native/beat.h has it."""
    return bool(time.monotonic_ns() - struct.unpack("<q", beat.read_bytes()[:8])[0] < _FRESH_NS)


def _elements(device: torch.device, kernel_us: int) -> int:
    """Of an array that takes so long to go through."""
    elements, took_us = 1 << 18, 0.0
    while took_us < kernel_us and elements < 1 << 31:
        elements *= 2
        data = torch.ones(elements, device=device)
        times = []
        for _ in range(5):
            _finish(data)
            begin = time.perf_counter()
            data.mul_(1.0)
            _finish(data)
            times.append(time.perf_counter() - begin)
        took_us = 1e6 * sorted(times)[2]
    return elements


def _finish(data: torch.Tensor) -> None:
    data[0].item()


if __name__ == "__main__":
    main()
