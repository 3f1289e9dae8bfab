"""What a program will do beside ready-made neighbours, from a profile of each alone. No mix is run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from kts import spec
from kts.app.fingerprints import folder, probe
from kts.app.plans import planned
from kts.app.predictions import predict
from kts.app.printing import Say, elements, silent
from kts.app.profiles import profile
from kts.files import encode
from kts.model.plan import DeviceChoice
from kts.physics.files import PROFILE_SUFFIX
from kts.physics.forecast import Prediction
from kts.physics.values import Fingerprint, Gpu, Profile
from kts.report.forecasts import company_elements
from kts.report.writing import write_file
from kts.store import fingerprints
from kts.worker.sharing import before

PREDICTION = "prediction.json"
"""In the folder of the profiles."""


class PredictedBeside(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction of what company costs the tenant ``subject``; each of its mixes holds that one."""

    subject: str
    prediction: Prediction


elements.register(PredictedBeside, lambda of: company_elements(of.subject, of.prediction))


def predict_beside(
    command: Sequence[str],
    out: str | Path | None = None,
    *,
    seconds: float = 10.0,
    device: str | None = None,
    library: str | None = None,
    overwrite: bool = False,
    say: Say = silent,
) -> PredictedBeside:
    """What `kts.run` of the same ``command`` would measure: the program alone and beside each ready-made neighbour.

    Each is profiled alone, ``seconds`` without a tracer and, where it can be traced, again with one; a copy of the
    program is what the program is. A fingerprint is measured where none of the device is kept. ``out``: the folder for
    profiles and prediction, by default ``predictions/TIME-NAME``; ``overwrite``: replace those that are there. Raises
    as `kts.profile`, `kts.probe` and `kts.predict` do.
    """
    changes = {key: value for key, value in (("device", device), ("library", library)) if value is not None}
    plan = planned(command, changes)[1]
    subject, copy = plan.subject, spec.COPY
    where = Path("predictions") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plan.name}" if out is None else Path(out)

    def profiled(names: Sequence[str]) -> list[Profile]:
        return profile(
            command, where, tenants=names, seconds=seconds, overwrite=overwrite, device=device, library=library, say=say
        )

    (own,) = profiled([subject])  # first: it is what may fail
    fingerprint = _fingerprint(own.gpu, say)
    others = profiled([tenant.name for tenant in plan.tenants if tenant.name not in {subject, copy}])
    made = [own, *others, replace(own, tenant=copy)]
    write_file(where / f"{copy}{PROFILE_SUFFIX}", encode(made[-1]))
    say(f"predicting {len(plan.mixes)} mixes")
    prediction = predict(
        [mix.tenants for mix in plan.mixes],
        profiles=made,
        fingerprint=fingerprint,
        seconds=plan.tenant(subject).seconds,
        out=where / PREDICTION,
        say=say,
    )
    return PredictedBeside(subject=subject, prediction=prediction)


def _fingerprint(gpu: Gpu, say: Say) -> Fingerprint:
    """The one that is kept of this device, or measured now."""
    device: DeviceChoice = "cpu" if gpu.kind == "cpu" else "cuda"
    kept = fingerprints.find(gpu.uuid, gpu.driver, before(device).likely, folder())
    if kept is not None:
        return kept
    say(f"how {gpu.label} is shared has not been measured: probing")
    return probe(device, say=say).fingerprint
