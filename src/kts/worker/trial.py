"""A tenant of a trial of isolation, in a process of its own: ``python -m kts.worker.trial ROLE DEVICE``.

It computes in turns, again and again, each of which takes and gives back memory of the device as programs do that
allocate as they go, and says ``turn`` after each. ROLE: ``go-on``, or what becomes of it after `BEFORE` turns:
``kill`` (SIGKILL, with work on its way), ``memory`` (takes all that it can get, says so and keeps it), ``fault`` (a
kernel writes where nothing is; on a CPU: the process reads there). First it says of what mode it has proof.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any, Protocol

from kts.errors import KtsError
from kts.worker.detect import cuda_devices
from kts.worker.probe.driver_api import Driver, u64
from kts.worker.sharing import seen_from

BEFORE = 20
TURN, SHOWN, TOOK, FELL = "turn", "shown", "took", "fell"
"""First words of its lines."""
_MIB = 1 << 20
_BUFFER, _CHUNK = 16 * _MIB, 1024 * _MIB
_OUT_OF_MEMORY = 2

# Compiled by the driver: kts_turn writes its thread's number, kts_fault writes to an address that nobody has.
_PTX = b"""
.version 6.3
.target sm_70
.address_size 64
.visible .entry kts_turn_100us(.param .u64 to)
{
    .reg .b32 %r<5>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [to];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    mul.wide.u32 %rd3, %r4, 8;
    add.s64 %rd4, %rd2, %rd3;
    cvt.u64.u32 %rd3, %r4;
    st.global.u64 [%rd4], %rd3;
    ret;
}
.visible .entry kts_fault_100us(.param .u64 to)
{
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [to];
    st.global.u64 [%rd1], %rd1;
    ret;
}
\0"""


class _Work(Protocol):
    def turn(self) -> None: ...
    def take_all(self) -> str: ...
    def fault(self) -> None: ...


class _TrialDriver(Driver):
    failed = "the trial ended"


class _Gpu:
    def __init__(self) -> None:
        self._driver = _TrialDriver()
        self._driver.begun = True
        module = self._driver.load(_PTX)
        self._turn = self._driver.function(module, "kts_turn_100us")
        self._fault = self._driver.function(module, "kts_fault_100us")

    def turn(self) -> None:
        buffer = self._driver.allocate(_BUFFER // 8)
        self._driver.launch(self._turn, _BUFFER // 8 // 256, 256, buffer)
        self._driver.wait()
        self._driver.call("cuMemFree_v2", u64(buffer))

    def take_all(self) -> str:
        taken, chunk, buffer = 0, _CHUNK, u64()
        library = ctypes.CDLL("libcuda.so.1")
        while chunk >= _MIB:
            if code := library.cuMemAlloc_v2(ctypes.byref(buffer), ctypes.c_size_t(chunk)):
                if code != _OUT_OF_MEMORY:
                    self._driver.call("cuMemAlloc_v2", ctypes.byref(buffer), ctypes.c_size_t(chunk))
                chunk //= 2
            else:
                taken += chunk
        return f"{taken // _MIB} MiB, then no more"

    def fault(self) -> None:
        self._driver.launch(self._fault, 1, 1, 16)
        self._driver.wait()


class _Cpu:
    def turn(self) -> None:
        sum(range(20000))
        bytearray(_MIB)

    def take_all(self) -> str:
        raise NotImplementedError  # never asked of a CPU: its limit would be the process's own

    def fault(self) -> None:
        ctypes.string_at(16)


def main(role: str, device: str) -> int:
    """The exit code: 1 where something ended it that it can tell."""
    try:
        work: _Work = _Cpu() if device == "cpu" else _Gpu()
        work.turn()
        _say(SHOWN, _shown(device))
        done = 0
        while role == "go-on" or done < BEFORE:
            work.turn()
            done += 1
            _say(TURN, str(done))
            time.sleep(0.002)
        if role == "memory":
            _say(TOOK, work.take_all())
            signal.pause()
        if role == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        work.fault()
    except KtsError as error:
        _say(FELL, error.what)
        return 1
    _say(FELL, "nothing was noticed")
    return 0


def _shown(device: str) -> str:
    """The mode that the device or kernel itself shows this process; empty where only somebody's word does."""
    if device == "cpu":
        return "cpu-scheduler"
    gpu = next(iter(cuda_devices()))
    info: Any = SimpleNamespace(kind="cuda", uuid=gpu.uuid, name=gpu.name)  # as of DeviceInfo, which loads numpy
    return next((one.mode for one in seen_from("trial", info) if not one.told), "")


def _say(word: str, rest: str) -> None:
    sys.stdout.write(f"{word} {rest}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
