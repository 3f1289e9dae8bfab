"""Which mode to take, as a document: the table, the choice with its reason, and the lines for a cluster."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MIG, MPS, STREAMS, TIME_SLICING, Mode
from kts.model.modes import ChoiceKind, Chosen, ClusterLines
from kts.report import document as doc
from kts.report.modes import head, limits, table

_NEXT: dict[ChoiceKind, str] = {
    "chosen": "",
    "broken": "Loosen an SLO, move a tenant to another GPU, or measure other modes (--modes).",
    "undetermined": "Measure longer: kts run EXPERIMENT --modes ... --precision 0.02. Bands of a prediction get no "
    "narrower: measure.",
    "unproven": "What each mode was stands below; kts doctor says what this machine lacks.",
}
_WORDS = {
    EXCLUSIVE: "a GPU for each tenant",
    TIME_SLICING: "contexts take turns",
    CPU_SCHEDULER: "a CPU core, not a GPU",
    MPS: "CUDA MPS",
    MIG: "an instance for each tenant",
    STREAMS: "threads of one process",
}


def chosen_elements(chosen: Chosen) -> Iterator[doc.Element]:
    """What there is to say, in order."""
    modes = chosen.modes
    yield from head(modes) if chosen.basis == "measured" else _predicted(chosen)
    yield table(modes)
    yield doc.paragraph(choice_sentence(chosen), "strong")
    if what := _NEXT[modes.choice.kind]:
        yield doc.paragraph(what, "quiet", close=True)
    yield from limits(modes)
    for lines in chosen.cluster:
        yield from _lines(lines)


def choice_sentence(chosen: Chosen) -> str:
    """The mode, the one after it, and why; or why none is chosen."""
    choice = chosen.modes.choice
    reason = f"{choice.reason[:1].upper()}{choice.reason[1:]}."
    if not choice.best:
        return f"No mode is recommended. {reason}"
    label = "Best" if chosen.basis == "measured" else "Predicted best"
    second = f" Runner-up: {choice.runner_up}." if choice.runner_up else " There is no runner-up."
    return f"{label}: {mode_words(chosen.modes.mode(choice.best).mode)}.{second} {reason}"


def mode_words(mode: Mode) -> str:
    """``mps-50 (CUDA MPS, each tenant at most 50 % of the GPU's threads)``: the mode with its parameters."""
    parts = [
        mode.limit,
        f"each at most {mode.memory_mib} MiB of its memory" if mode.memory_mib is not None else "",
        f"all others with a priority below {mode.above}" if mode.above else "",
        f"{mode.first} first" if mode.first else "",
    ]
    return f"{mode.name} ({', '.join([_WORDS[mode.kind], *filter(None, parts)])})"


def _predicted(chosen: Chosen) -> Iterator[doc.Element]:
    modes = chosen.modes
    label = doc.Cell(modes.device, "badge" if modes.is_gpu else "warning")
    yield doc.Paragraph((doc.Cell(modes.experiment, "strong"), doc.Cell("  on  "), label))
    what = f"Predicted from profiles; nothing was run. Intervals are bands ({100 * modes.confidence:g} %)."
    yield doc.paragraph(what, "warning")


def _lines(lines: ClusterLines) -> Iterator[doc.Element]:
    yield doc.Heading(lines.title)
    if lines.text:
        yield doc.Verbatim(lines.text)
    yield doc.Bullets(tuple(map(doc.Item, lines.notes)), "!")
