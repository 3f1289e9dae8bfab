"""Radio astronomy in miniature: blocks of samples are filtered, folded at trial periods and searched for peaks."""

import time

import numpy as np

try:
    import cupy as xp

    xp.cuda.runtime.getDeviceCount()
except Exception:  # no CuPy, or no GPU: the same code on the CPU
    xp = np

CHANNELS, SAMPLES = 64, 1 << 15
PERIODS = (331, 472, 611, 811)


def host(array):
    return array if xp is np else xp.asnumpy(array)


def search(block, window):
    spectrum = xp.fft.rfft(xp.asarray(block), axis=1)
    spectrum *= window
    clean = xp.fft.irfft(spectrum, axis=1)
    clean -= clean.mean(axis=1, keepdims=True)
    series = (clean / clean.std(axis=1, keepdims=True)).sum(axis=0)
    found = []
    for period in PERIODS:
        folded = series[: len(series) // period * period].reshape(-1, period).mean(axis=0)
        at = int(folded.argmax())
        found.append((period, at, float(folded[at])))
    return found, host(clean.max(axis=1))


def main():
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(CHANNELS, SAMPLES)).astype(np.float32) for _ in range(4)]
    window = xp.exp(-xp.linspace(0, 4, SAMPLES // 2 + 1)).astype(np.complex64)
    for number in range(10**9):
        began = time.perf_counter()
        found, peaks = search(blocks[number % len(blocks)], window)
        if number % 50 == 0:
            period, at, height = max(found, key=lambda one: one[2])
            took_ms = 1e3 * (time.perf_counter() - began)
            print(f"block {number}: {took_ms:.2f} ms, {period} at {at}: {height:.2f}, {peaks.max():.1f}", flush=True)


if __name__ == "__main__":
    main()
