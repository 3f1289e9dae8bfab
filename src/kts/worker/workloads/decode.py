"""One token step of a decoder-only transformer with a KV cache: batch 1, float32, random weights made in place.

A server's inner loop in miniature: many small launches, each of which waits for the one before. Norms have no
gain, attention no maximum to subtract and the MLP is ReLU: what would only add launches is folded into the weights,
whose scales keep every sum near 1. The step attends to a fixed number of positions, the newest of which it
writes anew each time, so that all steps cost the same. The token that comes out goes into the next step, and to
the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kts.model.plan import Decoder
from kts.worker.devices import Device
from kts.worker.workloads import Operation, filled, real_pattern

HEAD_WIDTH = 64
VOCABULARY = 8192
_MLP = 4  # hidden width over model width
_FLOAT_BYTES = 4
_APART = 7919  # a prime: so far apart do two matrices begin in the pattern of random numbers


def bytes_needed(size: int, decoder: Decoder) -> int:
    """For weights, cache and embeddings; activations are negligible. ``size``: the model's width."""
    per_layer = (4 + 2 * _MLP) * size**2 + 2 * decoder.context * size
    return _FLOAT_BYTES * (decoder.layers * per_layer + 2 * VOCABULARY * size)


def build(size: int, device: Device, decoder: Decoder) -> Operation:
    """See `DecodeStep`."""
    return DecodeStep(size, decoder, device)


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights of one layer. ``cache``: keys and values, ``(2, heads, context, HEAD_WIDTH)``."""

    qkv: Any
    out: Any
    up: Any
    down: Any
    cache: Any


class DecodeStep:
    """Calling it queues one step. ``token``: on the device, in and out; ``seen``: the same on the host after ``wait``.

    ``d_model`` must be a multiple of `HEAD_WIDTH`. SetupError for a graph where the device has none.
    """

    def __init__(self, d_model: int, decoder: Decoder, device: Device) -> None:
        self._device = device
        self._xp = device.xp
        self._width = d_model
        self._heads = d_model // HEAD_WIDTH
        self._made = 0
        self.embedding = self._matrix((VOCABULARY, d_model), 1.0)
        self.layers = [self._layer(decoder.context) for _ in range(decoder.layers)]
        self.head = self._matrix((d_model, VOCABULARY), 1.0)
        self.token = device.place(np.zeros(1, np.int64))
        self._zero = device.place(np.zeros(1, np.float32))
        self._forward = device.capture(self.forward) if decoder.graph else self.forward
        self.seen, self._land = device.landing(self.token)

    def __call__(self) -> None:
        """Queues the step, and behind it the token's way to the host."""
        self._forward()
        self._land()

    def forward(self) -> None:
        """From the last token to the next one."""
        xp, width, heads = self._xp, self._width, self._heads
        x = xp.take(self.embedding, self.token, axis=0)
        for layer in self.layers:
            qkv = xp.matmul(self._normed(x), layer.qkv)
            layer.cache[:, :, -1:, :] = xp.reshape(qkv[:, width:], (2, heads, 1, HEAD_WIDTH))
            query = xp.reshape(qkv[:, :width], (heads, 1, HEAD_WIDTH))
            attention = xp.exp(xp.matmul(query, xp.matrix_transpose(layer.cache[0, ...])))
            mixed = xp.matmul(attention, layer.cache[1, ...]) / xp.sum(attention, axis=-1, keepdims=True)
            x = x + xp.matmul(xp.reshape(mixed, (1, width)), layer.out)
            hidden = xp.maximum(xp.matmul(self._normed(x), layer.up), self._zero)
            x = x + xp.matmul(hidden, layer.down)
        logits = xp.matmul(self._normed(x), self.head)
        self.token[...] = xp.argmax(logits, axis=-1)

    def _normed(self, x: Any) -> Any:
        """To length 1; the usual factor, the root of the width, is in the weights that follow."""
        return x / self._xp.linalg.vector_norm(x, axis=-1, keepdims=True)

    def _layer(self, context: int) -> Layer:
        width, hidden = self._width, _MLP * self._width
        return Layer(
            qkv=self._matrix((width, 3 * width), HEAD_WIDTH**-0.25),  # so that queries times keys are near 1
            out=self._matrix((width, width), width**-0.5),
            up=self._matrix((width, hidden), 1.0),
            down=self._matrix((hidden, width), hidden**-0.5),
            cache=self._matrix((2, self._heads, context, HEAD_WIDTH), HEAD_WIDTH**-0.25),
        )

    def _matrix(self, shape: tuple[int, ...], deviation: float) -> Any:
        """Normal numbers, each matrix from another place of the pattern on."""
        self._made += 1
        pattern = np.roll(real_pattern(seed=1), -_APART * self._made)[: math.prod(shape)]
        return filled(self._device, shape, pattern * np.float32(deviation))
