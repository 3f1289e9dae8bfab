"""A prediction held against a measured run."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from kts import __version__, files
from kts.app.handle import Run, load
from kts.app.printing import Say, Tell, elements, silent, untold
from kts.model.provenance import sha256
from kts.physics.files import decode_prediction
from kts.physics.forecast import Prediction
from kts.physics.sealing import check
from kts.physics.validate import Score, score
from kts.report.forecasts import score_elements
from kts.report.writing import write_score
from kts.store import origin

elements.register(Score, score_elements)


def validate(
    prediction: str | Path | Prediction,
    run: str | Path | Run,
    *,
    sealed: str = "",
    out: str | Path | None = None,
    figures: bool = True,
    say: Say = silent,
    tell: Tell = untold,
) -> Score:
    """Errors of the prediction and of simpler rules, how often its bands hold, and whether it was sealed.

    ``sealed``: the sha256 (64 hexadecimal digits) that was published before the run; ``Score.seal`` says what became
    of it. Of a run in several modes the one counts that was predicted. ``out``: a folder for validation.json and, with
    ``figures``, plots; ``tell`` gets the result before these. DataError for what cannot be read, SetupError where
    ``out`` cannot be written.
    """
    if isinstance(prediction, Prediction):
        given, raw = prediction, files.encode(prediction)
    else:
        raw = files.read(Path(prediction), "give a file that kts predict --out wrote")
        given = decode_prediction(raw, str(prediction))
    whole = load(run)
    measured = whole.shared_as(given.fingerprint.mode)
    seal = check(given, sha256(raw), sealed, measured.info, origin.of_run(whole.directory))
    result = replace(score(given, measured.data), seal=seal)
    tell(result)
    if out is not None:
        label = ", ".join(sorted({worker.device.label for worker in measured.info.workers})) or "unknown device"
        for path in write_score(result, Path(out), label, __version__, figures=figures, say=say):
            say(f"wrote {path}")
    return result
