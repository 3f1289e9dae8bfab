"""Training of a convolutional network in JAX: one compiled step per batch."""

import os
import time
from functools import partial

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is shared

import jax
import jax.numpy as jnp
import numpy as np

CHANNELS, BATCH, SIDE, CLASSES = (3, 64, 128, 256), 32, 32, 10
RATE = 1e-3


def weights(key: jax.Array) -> list[jax.Array]:
    keys = jax.random.split(key, len(CHANNELS))
    kernels = [
        jax.random.normal(k, (3, 3, a, b)) * (2 / (9 * a)) ** 0.5
        for k, a, b in zip(keys, CHANNELS, CHANNELS[1:], strict=False)
    ]
    return [*kernels, jax.random.normal(keys[-1], (CHANNELS[-1], CLASSES)) * 0.01]


def loss(parameters: list[jax.Array], images: jax.Array, labels: jax.Array) -> jax.Array:
    x = images
    for kernel in parameters[:-1]:
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    scores = jax.nn.log_softmax(x.mean((1, 2)) @ parameters[-1])
    return -scores[jnp.arange(len(labels)), labels].mean()


@partial(jax.jit, donate_argnums=0)
def step(parameters: list[jax.Array], images: jax.Array, labels: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    value, slopes = jax.value_and_grad(loss)(parameters, images, labels)
    return [p - RATE * s for p, s in zip(parameters, slopes, strict=True)], value


def main() -> None:
    rng, parameters = np.random.default_rng(0), weights(jax.random.key(0))
    images = rng.normal(size=(8, BATCH, SIDE, SIDE, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (8, BATCH))
    for number in range(10**9):
        began = time.perf_counter()
        parameters, value = step(parameters, images[number % 8], labels[number % 8])
        shown = float(value)
        if number % 20 == 0:
            took_ms = 1e3 * (time.perf_counter() - began)
            print(f"step {number} on {jax.default_backend()}: loss {shown:.3f}, {took_ms:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
