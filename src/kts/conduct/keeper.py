"""Carries out the machine's actions on the sink and the stop rule, until the sink fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from kts.conduct import events as ev
from kts.conduct.ports import Foreteller, Sink, StopRule
from kts.errors import KtsError, MeasurementError
from kts.model.foretold import Foretold
from kts.model.neighbours import Look
from kts.model.run import BlockOutcome, Outcome
from kts.model.starting import Starting
from kts.model.telemetry import Sample, SourceState


class Keeper:
    """Everything that is kept goes through here. After a first failure only the ends of blocks are. ``foretold``: what
    was last told of what the run can decide."""

    def __init__(self, sink: Sink, rule: StopRule | None, foreteller: Foreteller | None = None) -> None:
        self.foretold: Foretold | None = None
        self._foreteller = foreteller
        self._sink = sink
        self._rule = rule
        self._starting: Starting | None = None
        self._error: KtsError | None = None

    def keep(self, action: ev.Introduce | ev.Freeze | ev.Keep | ev.EndBlock | ev.Log) -> KtsError | None:
        """Carries out ``action``; the error if the sink failed at it, for the first time."""
        if self._error is not None and isinstance(action, ev.EndBlock):
            with contextlib.suppress(KtsError):  # that a block ended badly may still fit where its records did not
                self._sink.block(action.outcome)
        return self._tried(lambda: self._keep(action))

    def telemetry(self, states: Sequence[SourceState], samples: Sequence[Sample]) -> KtsError | None:
        """Hands telemetry to the sink, and logs each source's state; nothing after a failure."""
        return self._tried(lambda: self._keep_telemetry(states, samples))

    def look(self, look: Look) -> KtsError | None:
        """Hands a look at the neighbours to the sink; nothing after a failure."""
        return self._tried(lambda: self._sink.look(look))

    def _tried(self, step: Callable[[], None]) -> KtsError | None:
        if self._error is None:
            try:
                step()
            except KtsError as error:
                self._error = error
                return error
        return None

    def _keep_telemetry(self, states: Sequence[SourceState], samples: Sequence[Sample]) -> None:
        for state in states:
            self._sink.source(state)
            fields = {"source": state.source, "metrics": ", ".join(state.metrics), "missing": state.missing}
            self._sink.event("telemetry", **fields)
        if samples:
            self._sink.samples(samples)

    def _keep(self, action: ev.Introduce | ev.Freeze | ev.Keep | ev.EndBlock | ev.Log) -> None:
        match action:
            case ev.Keep():
                self._sink.records(action.tenant, action.block, action.seq, action.records)
                if self._rule is not None:
                    self._rule.take(action.tenant, action.records)
                if self._foreteller is not None:
                    self._foreteller.take(action.tenant, action.records)
            case ev.EndBlock():
                self._sink.block(action.outcome)
                self._end(action.outcome)
            case ev.Log():
                self._sink.event(action.kind, **action.fields)
            case ev.Introduce():
                self._sink.worker(action.info)
            case ev.Freeze():
                self._sink.frozen(action.plan)
                self._starting = Starting(action.plan, action.solo_ms)
                if self._foreteller is not None:
                    self._tell(self._foreteller.begin(action.plan, action.solo_ms, action.cycles_ms))

    def _end(self, outcome: BlockOutcome) -> None:
        """The sink has it as it was; who goes by blocks gets it as whoever reads the run will."""
        for tenant in self._starting.ended(outcome.counts) if self._starting else ():
            outcome = replace(outcome, valid=False)
            for one in (self._rule, self._foreteller):
                if one is not None:
                    one.forget(tenant)
        if self._rule is not None:
            self._rule.end(outcome)
        if self._foreteller is not None:
            self._tell(self._foreteller.end(outcome))

    def _tell(self, told: Foretold | None) -> None:
        if told is None:
            return
        self.foretold = told
        self._sink.foretold(told)
        refused = sum(len(one.refused) for one in told.expected) + sum(one.refused for one in told.ratios)
        fields = {"after_rounds": told.after_rounds, "rounds": told.rounds, "seconds": told.seconds, "refused": refused}
        self._sink.event("foretold", **fields, enough="; or ".join(told.enough))

    def ask(self) -> tuple[bool, dict[str, float | None]]:
        """What the rule says, and the half-widths that it goes by."""
        if self._rule is None:
            return False, {}
        return self._rule.reached(), self._rule.widths()

    def close(self, outcome: Outcome) -> Outcome:
        """Closes the sink; the outcome, which is worse than the given one if something was not kept."""
        outcome = self._honest(outcome)
        try:
            self._sink.close(outcome)
        except KtsError as error:
            self._error = self._error or error
        return self._honest(outcome)

    def _honest(self, outcome: Outcome) -> Outcome:
        if self._error is None or outcome.exit_code != 0:
            return outcome
        code = MeasurementError.exit_code
        return Outcome(kind="incomplete", reason=self._error.what, remedy=self._error.remedy, exit_code=code)
