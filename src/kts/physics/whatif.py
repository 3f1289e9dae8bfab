"""What if: the same mix with another slice, one more tenant, another rate, a faster GPU. The same model answers all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields

import msgspec
from msgspec.structs import replace

from kts.arrivals import Closed
from kts.errors import RefusalError
from kts.physics.alone import service_ms
from kts.physics.forecast import MixForecast, ModelError
from kts.physics.predict import Each, Effort, Predictor
from kts.physics.values import EMPTY, Fingerprint, Profile


@dataclass(frozen=True)
class Question:
    """A mix of profiles (by name) on a GPU, and in words how it differs from what is."""

    label: str
    mix: tuple[str, ...]
    profiles: dict[str, Profile]
    fingerprint: Fingerprint

    def with_slice(self, slice_ms: float) -> Question:
        """Another slice; switches are taken to cost the same."""
        return with_fields(self, label=f"slice {slice_ms:g} ms", fingerprint=self.fingerprint.with_slice(slice_ms))

    def in_mode(self, mode: str) -> Question:
        """Shared in another mode: see `Fingerprint.in_mode`."""
        return with_fields(self, label=f"in mode {mode}", fingerprint=self.fingerprint.in_mode(mode))

    def one_more(self, name: str) -> Question:
        """One more tenant of profile ``name``. KeyError if there is none."""
        if name not in self.profiles:
            raise KeyError(name)
        return with_fields(self, label=f"one more {name}", mix=(*self.mix, name))

    def at_rate(self, factor: float, name: str | None = None) -> Question:
        """Every tenant, or those of profile ``name``, ``factor`` times as often. RefusalError where a closed loop
        could not even alone."""
        profiles = {key: at_rate(p, factor) if name in (None, key) else p for key, p in self.profiles.items()}
        whose = "" if name is None else f" of {name}"
        return with_fields(self, label=f"{factor:g} times the rate{whose}", profiles=profiles)

    def on_faster_gpu(self, speed: float) -> Question:
        """Kernels and switches shorter by ``speed``, the slice and the hosts as they are."""
        return with_fields(
            self,
            label=f"GPU {speed:g} times as fast",
            profiles={key: profile.scaled(speed) for key, profile in self.profiles.items()},
            fingerprint=self.fingerprint.scaled(speed),
        )


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says to one question."""

    label: str
    forecast: MixForecast


def what_if(
    questions: Sequence[Question], effort: Effort, model_error: ModelError, each: Each = map
) -> tuple[WhatIf, ...]:
    """The forecasts, in order. All use the same draws, so that what differs is not luck. ``each``: see `Predictor`."""
    return tuple(
        WhatIf(
            label=question.label,
            forecast=Predictor(question.profiles, question.fingerprint, effort, model_error, each=each).mix(
                question.mix
            ),
        )
        for question in questions
    )


def at_rate(profile: Profile, factor: float) -> Profile:
    """The tenant ``factor`` times as often: arrivals closer together, or think times of another length.

    A closed loop's cycle is taken alone. RefusalError where no think time above zero would do.
    """
    arrivals = profile.arrivals
    if isinstance(arrivals, Closed):
        service = float(service_ms(profile.iterations).mean())
        cycle = service + arrivals.think_ms + float(profile.pause_ms.mean())
        think = cycle / factor - service
        if think < 0:
            fastest = cycle / service
            raise RefusalError(
                f"{profile.tenant}: {factor:g} times its rate is more than back to back ({fastest:.3g} times)",
                "ask for a lower rate",
            )
        return replace(profile, arrivals=Closed(think_ms=think, jitter=arrivals.jitter), pause=EMPTY)
    return replace(profile, arrivals=arrivals.faster(factor))
