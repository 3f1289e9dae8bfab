"""What a run in several modes tried and left: who else falls with a tenant, and whether the GPU is as it was."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.sharing_facts import Harm, SharingFacts, Trial
from kts.report import document as doc

_HARMS: dict[Harm, str] = {"kill": "one is killed", "memory": "one takes all memory", "fault": "one faults"}
_OTHERS: dict[str, tuple[str, doc.Tone]] = {
    "go-on": ("others go on", "better"),
    "fall": ("others fall", "worse"),
    "not-tried": ("not tried", "undetermined"),
}
KILLED = "Whether the GPU is as it was is not known: the run did not come to its end, or an older kts measured it."


def isolation_elements(facts: SharingFacts | None) -> Iterator[doc.Element]:
    """The table of trials, what became of whom, and the state of the GPU afterwards."""
    if facts is None:
        yield doc.paragraph(KILLED, "quiet")
        return
    if facts.trials:
        yield _table(facts.trials)
        yield from doc.listed("Isolation tried", _told(facts.trials), "-")
    changes = facts.changes
    yield from doc.listed("Not as before the run", changes, "!")
    if not changes:
        yield doc.paragraph(_as_before(facts), "quiet")


def _table(trials: dict[str, tuple[Trial, ...]]) -> doc.Table:
    rows = []
    for mode, tried in trials.items():
        by_harm = {one.harm: one for one in tried}
        rows.append(
            (mode, *(doc.Cell(*_OTHERS[by_harm[harm].others]) if harm in by_harm else doc.NOTHING for harm in _HARMS))
        )
    return doc.Table(
        columns=(doc.Column("mode", "subject"), *(doc.Column(words, "word") for words in _HARMS.values())),
        groups=(tuple(rows),),
        layout="plain",
    )


def _told(trials: dict[str, tuple[Trial, ...]]) -> Iterator[str]:
    for mode, tried in trials.items():
        for one in tried:
            if one.others == "not-tried":
                yield f"{mode}, {_HARMS[one.harm]}: not tried: {one.why}"
                continue
            after = "can" if one.newcomer else "cannot"
            proof = f"shown: {one.shown}" if one.shown else "the mode of these two was not proven"
            yield (
                f"{mode}, {_HARMS[one.harm]}: {one.victim}; the one beside it: {one.bystander}; "
                f"a newcomer {after} compute; {proof}"
            )


def _as_before(facts: SharingFacts) -> str:
    before, mps = facts.before, len(facts.before.mps)
    if not before.gpus:
        return f"Whether the GPU is as it was before was not compared: {before.missing or 'NVML shows none'}."
    daemons = f"{mps} processes of MPS that are not of kts" if mps else "no process of MPS"
    what = "; ".join(
        f"{gpu.name} {gpu.uuid}: " + ", ".join(f"{name} {value}" for name, value in gpu.settings.items())
        for gpu in before.gpus
    )
    return f"The GPU is as it was before (by NVML): {what}; {daemons}."
