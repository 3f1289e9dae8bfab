"""What mixes of profiled tenants will do, before anyone runs them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

import msgspec
from msgspec.structs import replace

from kts import __version__
from kts.app.handle import Run
from kts.app.inputs import Given, Inputs, basis, check_name
from kts.app.printing import Say, Tell, elements, silent, untold
from kts.errors import UsageError
from kts.files import encode
from kts.model.provenance import Material, sha256
from kts.physics.files import PROFILE_SUFFIX
from kts.physics.forecast import ModelError, Prediction
from kts.physics.predict import Predictor, all_mixes
from kts.physics.recorded import mix_seconds
from kts.physics.values import Profile
from kts.physics.whatif import Question, WhatIf, what_if
from kts.report.forecasts import answers_elements, prediction_elements
from kts.report.writing import write_file
from kts.store import origin
from kts.store.reader import opening_order
from kts.worker.environment import usable_cores

Mix = str | Sequence[str]
"""Names of profiles that run together: ``"fft+gemm"``, ``"fft*3+gemm"``, or a list of names."""


def predict(
    mixes: Sequence[Mix] = (),
    *,
    every_mix: bool = False,
    in_order: bool = False,
    out: str | Path | None = None,
    seal: bool = False,
    save_profiles: str | Path | None = None,
    say: Say = silent,
    tell: Tell = untold,
    **given: Unpack[Given],
) -> Prediction:
    """Latencies and DF of mixes, with bands, from how each tenant behaves alone. Nothing is run.

    ``mixes``: by default those of the run that was given, else all tenants together. ``every_mix``: every pair,
    triple and quad of the profiles, instead. ``in_order``: the tenants open the device in the order of the mix;
    otherwise bands are for any order. ``out``: where to write the prediction, for `validate`; with ``seal`` its
    sha256 goes beside it. ``save_profiles``: a folder for the profiles that were used. ``tell`` gets the prediction
    before these are written. ``given``: see `Given`. UsageError for what cannot be asked, DataError for files that
    cannot be read, SetupError for what cannot be written.
    """
    base = basis(given)
    wanted, as_run, lengths = _mixes(mixes, base, every=every_mix), False, None
    if base.run is not None and not mixes and not every_mix:
        lengths = _lengths(wanted, base.run) if given.get("seconds") is None else None
        wanted, as_run = _in_opening_order(wanted, base.run)
    with threads() as pool:
        predictor = Predictor(
            base.profiles, base.fingerprint, base.effort, base.error, order_known=in_order or as_run, each=pool.map
        )
        found = predictor.predict(wanted, seconds=lengths, kts=__version__, notes=_notes(base.profiles.values()))
    prediction = replace(
        found,
        created_ns=time.time_ns(),
        provenance=origin.here().of(base.made_from),
    )
    tell(prediction)
    if save_profiles is not None:
        _save_profiles(base, Path(save_profiles), prediction.created_ns, say)
    if out is not None:
        content = encode(prediction)
        say(f"wrote {write_file(Path(out), content)}")
        if seal:
            _seal(Path(out), content, say)
    return prediction


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says to each question, the mix as it is first. ``seconds``: of the run the bands are for.
    ``without_turns``: the error in the bands of modes without turns, where some were asked about."""

    model_error: ModelError
    without_turns: ModelError | None = None
    confidence: float
    seconds: float
    answers: tuple[WhatIf, ...]


elements.register(Prediction, prediction_elements)


elements.register(
    Answers, lambda of: answers_elements(of.answers, of.confidence, of.seconds, of.model_error, of.without_turns)
)


def whatif(
    mix: Mix | None = None,
    *,
    slices_ms: Sequence[float] = (),
    add: Sequence[str] = (),
    rates: Sequence[tuple[str | None, float]] = (),
    faster: Sequence[float] = (),
    modes: Sequence[str] = (),
    **given: Unpack[Given],
) -> Answers:
    """A mix (by default all tenants) as it is, and as it would be: one answer per question, all with the same draws.

    ``slices_ms``: other time slices. ``add``: one more tenant of that profile. ``rates``: a tenant's name, or None
    for everybody, and how many times as often. ``faster``: a GPU so many times as fast. ``modes``: see ``mode``
    of `Given`. ``given``: see `Given`.
    UsageError without a question, RefusalError for a rate that cannot be.
    """
    base = basis(given)
    names = base.mix(mix) if mix is not None else tuple(base.profiles)
    for name, _ in rates:
        if name is not None:
            check_name(name, base.profiles)
    now = Question("as it is", names, base.profiles, base.fingerprint)
    questions = [
        now,
        *(now.with_slice(ms) for ms in slices_ms),
        *(now.one_more(base.mix(name)[0]) for name in add),
        *(now.at_rate(factor, name) for name, factor in rates),
        *(now.on_faster_gpu(speed) for speed in faster),
        *(now.in_mode(base.in_mode(mode).fingerprint.mode) for mode in modes),
    ]
    if len(questions) == 1:
        raise UsageError("what if what?", "give --slice, --add, --rate, --faster or --mode; kts predict says what is")
    with threads() as pool:
        answers = what_if(questions, base.effort, base.error, pool.map)
    return Answers(
        model_error=base.error,
        without_turns=base.error_without_turns(modes),
        confidence=base.effort.confidence,
        seconds=base.effort.seconds,
        answers=answers,
    )


def threads() -> ThreadPoolExecutor:
    """For simulations side by side, which hold no lock of Python's."""
    return ThreadPoolExecutor(len(usable_cores()))


def _mixes(given: Sequence[Mix], base: Inputs, *, every: bool) -> list[tuple[str, ...]]:
    if given and every:
        raise UsageError("mixes and --all-mixes", "give one of both")
    if given:
        return [base.mix(one) for one in ([given] if isinstance(given, str) else given)]
    if every:
        if len(base.profiles) < 2:
            raise UsageError("--all-mixes needs at least two profiles", "give more of them")
        return all_mixes(list(base.profiles))
    measured = [mix.tenants for mix in base.run.info.plan.mixes] if base.run is not None else []
    return measured or [tuple(base.profiles)]


def _lengths(mixes: Sequence[tuple[str, ...]], run: Run) -> list[float] | None:
    """How long the run measured each; None where that is not told of all."""
    measured = mix_seconds(run.data)
    lengths = [round(measured.get("+".join(mix), 0.0), 1) for mix in mixes]
    return lengths if lengths and min(lengths) > 0 else None


def _in_opening_order(mixes: list[tuple[str, ...]], run: Run) -> tuple[list[tuple[str, ...]], bool]:
    """The mixes in the order in which the run's tenants opened the device, and whether that is recorded."""
    order = opening_order(run.directory)
    if not {name for mix in mixes for name in mix} <= set(order):
        return mixes, False
    return [tuple(sorted(mix, key=order.index)) for mix in mixes], True


def _notes(profiles: Iterable[Profile]) -> list[str]:
    single = [profile.tenant for profile in profiles if profile.method == "burst"]
    if not single:
        return []
    return [f"Single bursts: {', '.join(single)}. Right for long kernels; many small launches need a trace of them."]


def _save_profiles(base: Inputs, folder: Path, now_ns: int | None, say: Say) -> None:
    for name, profile in base.profiles.items():
        saved = replace(profile, created_ns=now_ns, provenance=origin.here().of(_sources(profile, base.made_from)))
        say(f"wrote {write_file(folder / f'{name}{PROFILE_SUFFIX}', encode(saved))}")


def _sources(profile: Profile, used: Iterable[Material]) -> list[Material]:
    """What of ``used`` a profile that is saved comes from: its own file, by tenant, and the run."""
    return [one for one in used if one.kind == "run" or (one.kind == "profile" and one.name == profile.tenant)]


def _seal(file: Path, content: bytes, say: Say) -> None:
    """Writes what sha256sum would, beside the file, and says it."""
    digest = sha256(content)
    path = write_file(file.with_name(f"{file.name}.sha256"), f"{digest}  {file.name}\n".encode())
    say(f"wrote {path}")
    say(f"sealed: {digest}")
    say("publish this hash before the run begins; afterwards: kts validate FILE DIR --sealed HASH")
