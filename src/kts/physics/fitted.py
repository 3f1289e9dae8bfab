"""What was fitted, and to what. Nothing else in the model was fitted to shared runs."""

from __future__ import annotations

from msgspec.structs import replace

from kts.physics.forecast import ModelError
from kts.physics.values import Fingerprint

TRACED_GAP_MS = 0.00057
"""What a traced kernel's record holds of the gap to the next one that is queued."""

LATE_MS: dict[float, float] = {
    0: 0.02,
    0.05: 0.03,
    0.25: 0.06,
    0.5: 0.07,
    0.75: 0.08,
    0.95: 0.18,
    0.99: 0.26,
    0.999: 0.44,
    1: 0.8,
}
"""How long after its alarm a sleeping host goes on: by quantile, linear between these."""

MODEL_ERROR = ModelError(
    relative=0.03,
    kinds={"gpu": 0.01, "short": 0.04, "graph": 0.02, "eager": 0.02},
    solo={"gpu": 0.06, "eager": 0.07},
    host=0.16,
    host_block=0.15,
    source="fitted",
    how="to the development set on one NVIDIA H200",
)
"""`python examples/06_validate.py` shows how all of these come out of the development set; docs/physics.md has the
tables."""

IN_LINE_ERROR = ModelError(
    relative=0.08,
    host=MODEL_ERROR.host,
    host_block=MODEL_ERROR.host_block,
    source="fitted",
    how="to one pair under MPS on one NVIDIA H200",
)
"""Where kernels stand in line: of examples/modes/h200-fast-5; docs/physics.md."""


BESIDE = 0.6
"""Under MPS a kernel takes so much longer for each other program that has one on the GPU, too."""

PROGRAMS_ERROR = ModelError(
    relative=0.1,
    host=MODEL_ERROR.host,
    host_block=MODEL_ERROR.host_block,
    source="fitted",
    how="to eleven mixes of six programs on two NVIDIA H200s",
)
"""Of programs under MPS: examples/modes/h200-programs-8 and -9; docs/physics.md."""

PROFILED_HOST = 0.37
"""How far programs' hosts in a run are from those in their profiles, all together, besides `ModelError.host`:
`examples/programs_hosts.py` shows both on eight machines."""


def model_error(fingerprint: Fingerprint, *, side_by_side: bool = False) -> ModelError:
    """The one for a GPU that is shared so; none, and labelled so, for what is no GPU: nothing was fitted there."""
    if fingerprint.gpu.kind != "cuda":
        return ModelError()
    if side_by_side:
        return PROGRAMS_ERROR
    return IN_LINE_ERROR if fingerprint.in_line else MODEL_ERROR


def hosts_profiled(error: ModelError) -> ModelError:
    """The error where only profiles tell programs' hosts: how fast they are in the run is luck."""
    return replace(error, program_host=PROFILED_HOST)


def hosts_told(error: ModelError) -> ModelError:
    """The error where programs' hosts are known, or the same in all that is compared."""
    return replace(error, program_host=0.0)


def in_mode(error: ModelError, fingerprint: Fingerprint, *, side_by_side: bool = False) -> ModelError:
    """Of what was fitted, that of the way of sharing, hosts as well known as before; what is given, or none, stays."""
    if hosts_told(error) not in (MODEL_ERROR, IN_LINE_ERROR, PROGRAMS_ERROR):
        return error
    found = model_error(fingerprint, side_by_side=side_by_side)
    return hosts_profiled(found) if error.program_host else found
