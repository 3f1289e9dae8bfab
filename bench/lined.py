"""A program for `bench watch_live` on a GPU: a small encoder in eager PyTorch that prints a KTS_APP line per iteration.

    python -m bench watch_live --mount -- python bench/lined.py

An iteration is some 170 launches and one wait, a millisecond or two of a core.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from kts.wire.appline import AppLine, format_line

LAYERS, WIDTH, LENGTH = 6, 512, 64


def main() -> None:
    """Until it is killed."""
    layer = nn.TransformerEncoderLayer(WIDTH, 8, 4 * WIDTH, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).half().cuda().eval()
    words = torch.randn(1, LENGTH, WIDTH, device="cuda", dtype=torch.half)
    number = 0
    torch.set_grad_enabled(False)
    while True:
        begin = time.time_ns()
        model(words).sum().item()
        end = time.time_ns()
        line = AppLine(app="LINED", i=number, start_ns=begin, end_ns=end, device_ms=float("nan"), phase="solo")
        print(format_line(line), flush=True)
        number += 1


if __name__ == "__main__":
    main()
