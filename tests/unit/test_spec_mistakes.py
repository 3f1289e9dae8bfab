"""Experiment files that are wrong: every mistake at once, each with its line, in plain English."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kts.errors import SpecError, UsageError
from kts.spec import load, load_text, override, yamltree
from kts.spec.yamltree import TreeError, parse

A = "tenants:\n  a: {workload: fft}\n"
B = "  b: {workload: gemm}\n"

MISTAKES = {
    "unknown workload": (
        A + "  b:\n    workload: gem\n",
        "x:3: tenants.b: unknown workload 'gem'; known: fft, gemm, tiny, decode, command; did you mean 'gemm'?",
    ),
    "workload of a wrong type": (
        A + "  b: {workload: [gemm]}\n",
        "x:3: tenants.b: unknown workload a list; known: fft, gemm, tiny, decode, command",
    ),
    "no workload": (
        A + "  b: {size: 3}\n",
        "x:3: tenants.b: workload is missing; known: fft, gemm, tiny, decode, command",
    ),
    "size 0": (
        A + "  b:\n    workload: gemm\n    size: 0\n",
        "x:5: tenants.b.size: must be greater than 0 (is 0)",
    ),
    "negative think time": (
        A + "  b: {workload: gemm,\n      think_ms: -1}\n",
        "x:4: tenants.b.think_ms: must be at least 0 (is -1)",
    ),
    "unknown key of a tenant": (
        A + "  b: {workload: gemm, thinkms: 3}\n",
        "x:3: tenants.b.thinkms: unknown key 'thinkms'; did you mean 'think_ms'?",
    ),
    "unknown key": ("presicion: 0.1\n" + A + B, "x:1: presicion: unknown key 'presicion'; did you mean 'precision'?"),
    "unknown key of an slo": (
        A + "  b: {workload: gemm, slo: {p99: 3}}\n",
        "x:3: tenants.b.slo.p99: unknown key 'p99'; did you mean 'p99_ms'?",
    ),
    "a key of another workload": (
        A + "  b: {workload: gemm, command: ls}\n",
        "x:3: tenants.b.command: 'command' is for the workload command only (this one is gemm)",
    ),
    "a duration for a tiny kernel": (
        A + "  b: {workload: tiny, target_ms: 1}\n",
        "x:3: tenants.b.target_ms: 'target_ms' is for the workload fft and gemm only (this one is tiny)",
    ),
    "a size of a decoder": (
        A + "  b: {workload: decode, size: 512}\n",
        "x:3: tenants.b.size: 'size' is for the workload fft, gemm and tiny only (this one is decode)",
    ),
    "a decoder of broken heads": (
        A + "  b: {workload: decode, d_model: 100}\n",
        "x:3: tenants.b.d_model: must be a multiple of 64 (is 100)",
    ),
    "a graph that is no truth value": (
        A + "  b: {workload: decode, graph: 1}\n",
        "x:3: tenants.b.graph: must be true or false (is 1)",
    ),
    "an iteration that is none": (
        A + "  b: {workload: command, command: ls, iteration: {trips: 2}}\n",
        "x:3: tenants.b.iteration: must be lines, round-trips, {nvtx: NAME} or {round_trips: N}, N from 1 to 10000",
    ),
    "round trips that nobody sees": (
        A + "  b: {workload: command, command: ls, iteration: {round_trips: 2}, trace: off}\n",
        "x:3: tenants.b: trace: off sees no ranges and no round trips: leave it out, or give iteration: lines",
    ),
    "an iteration of a kernel of ours": (
        A + "  b: {workload: gemm, iteration: lines}\n",
        "x:3: tenants.b.iteration: 'iteration' is for the workload command only (this one is gemm)",
    ),
    "unknown arrivals": (
        A + "  b: {workload: gemm, arrivals: poison}\n",
        "x:3: tenants.b.arrivals: must be closed, poisson or trace (is 'poison'); did you mean 'poisson'?",
    ),
    "a rate without arrivals": (
        A + "  b: {workload: gemm, rate_hz: 5}\n",
        "x:3: tenants.b: rate_hz is for arrivals: poisson (these are closed)",
    ),
    "a think time in an open loop": (
        A + "  b: {workload: gemm, arrivals: poisson, rate_hz: 5, think_ms: 2}\n",
        "x:3: tenants.b: think_ms is for arrivals: closed (these are poisson)",
    ),
    "arrivals without a rate": (
        A + "  b: {workload: gemm, arrivals: poisson}\n",
        "x:3: tenants.b: arrivals: poisson needs rate_hz",
    ),
    "arrivals without times": (
        A + "  b: {workload: gemm, arrivals: trace}\n",
        "x:3: tenants.b: arrivals: trace needs due_ms",
    ),
    "falling times": (
        A + "  b: {workload: gemm, arrivals: trace, due_ms: [1, 3, 2]}\n",
        "x:3: tenants.b: due_ms must rise (2 comes after 3)",
    ),
    "times before the start": (
        A + "  b: {workload: gemm, arrivals: trace, due_ms: [-1, 3]}\n",
        "x:3: tenants.b: due_ms must not begin below 0 (is -1)",
    ),
    "a period within the trace": (
        A + "  b: {workload: gemm, arrivals: trace, due_ms: [1, 3], period_ms: 3}\n",
        "x:3: tenants.b: period_ms (3) must be later than the last of due_ms (3)",
    ),
    "one time and no period": (
        A + "  b: {workload: gemm, arrivals: trace, due_ms: [1]}\n",
        "x:3: tenants.b: due_ms at a single time needs period_ms",
    ),
    "no times": (
        A + "  b: {workload: gemm, arrivals: trace, due_ms: 7}\n",
        "x:3: tenants.b.due_ms: must be a list of times (ms), or the name of a file with them",
    ),
    "a time that is none": (
        A + "  b: {workload: gemm, arrivals: trace, due_ms: [1, x]}\n",
        "x:3: tenants.b.due_ms[1]: must be a number (is 'x')",
    ),
    "too many times": (
        A + f"  b: {{workload: gemm, arrivals: trace, due_ms: {list(range(10_001))}}}\n",
        "x:3: tenants.b.due_ms: must have at most 10000 entries (has 10001)",
    ),
    "a program in an open loop": (
        A + "  b: {workload: command, command: ls, arrivals: poisson, rate_hz: 1}\n",
        "x:3: tenants.b.arrivals: must be closed (is 'poisson')",
    ),
    "two tenants of one name": (A + B + A[9:], "x:4: tenant 'a' is given twice: lines 2 and 4"),
    "two tenants of one name and no other": (
        A + A[9:],
        "x:3: tenant 'a' is given twice: lines 2 and 3",
    ),
    "a key given twice": ("seed: 1\n" + A + B + "seed: 2\n", "x:5: key 'seed' is given twice: lines 1 and 5"),
    "size and target_ms": (
        A + "  b: {workload: gemm, size: 3, target_ms: 2}\n",
        "x:3: tenants.b: give size or target_ms, not both",
    ),
    "iterations and seconds": (
        A + "  b: {workload: gemm, iterations: 3, seconds: 2}\n",
        "x:3: tenants.b: give iterations or seconds, not both",
    ),
    "a replica of another's name": (
        A + "  b: {workload: gemm, replicas: 2}\n  b-2: {workload: fft}\n",
        "x:1: tenants: a replica of 'b' would be named 'b-2', as another tenant is",
    ),
    "replicas of two tenants of one name": (
        A + "  b: {workload: gemm, replicas: 12}\n  b-1: {workload: fft, replicas: 2}\n  b-1-2: {workload: fft}\n",
        "x:1: tenants: a replica of 'b' would be named 'b-1', as another tenant is",
    ),
    "a replica's name too long": (
        A + f"  {'b' * 39}: {{workload: gemm, replicas: 2}}\n",
        f"x:1: tenants: a replica's name, '{'b' * 39}-2', would be longer than 40 characters",
    ),
    "too many replicas in all": (
        A + "  b: {workload: gemm, replicas: 64}\n",
        "x:1: tenants: at most 64 tenants (there are 65, replicas counted)",
    ),
    "no replica": (
        A + "  b: {workload: gemm, replicas: 0}\n",
        "x:3: tenants.b.replicas: must be greater than 0 (is 0)",
    ),
    "an unknown word for mixes": (
        "mixes: pair\n" + A + B,
        "x:1: mixes: must be full, pairs, all, or a list of lists of tenants' names (is 'pair')",
    ),
    "a flat list of mixes": (
        "mixes: [a, b]\n" + A + B,
        "x:1: mixes: must be full, pairs, all, or a list of lists of tenants' names",
    ),
    "a mix of a stranger": (
        "mixes: [[a, c]]\n" + A + B,
        "x:1: mixes: [a, c] names 'c', which is no tenant; tenants: a, b",
    ),
    "a mix of an entry with replicas": (
        "mixes: [[a, gem]]\n" + A + "  gem: {workload: gemm, replicas: 2}\n",
        "x:1: mixes: [a, gem] names 'gem', which is no tenant; did you mean 'gem-2'?",
    ),
    "a mix of one": (
        "mixes: [[a]]\n" + A + B,
        "x:1: mixes: [a] is no mix of 2 tenants or more; every tenant is measured alone anyway",
    ),
    "a tenant twice in a mix": ("mixes: [[a, a]]\n" + A + B, "x:1: mixes: [a, a] names a tenant twice"),
    "a mix twice": ("mixes: [[a, b], [b, a]]\n" + A + B, "x:1: mixes: [b, a] is given twice"),
    "too many mixes": (
        "mixes: all\n" + A + "  b: {workload: gemm, replicas: 7}\n",
        "x:1: mixes: at most 128 mixes (8 tenants make 247)",
    ),
    "no whole number": ("rounds: 1.5\n" + A + B, "x:1: rounds: must be a whole number (is 1.5)"),
    "true is no number": ("seed: true\n" + A + B, "x:1: seed: must be a whole number (is true)"),
    "text is no number": ("max_seconds: long\n" + A + B, "x:1: max_seconds: must be a number (is 'long')"),
    "not finite": ("max_seconds: .nan\n" + A + B, "x:1: max_seconds: must be a finite number (is nan)"),
    "unknown design": (
        "design: clasic\n" + A + B,
        "x:1: design: must be classic or interleaved (is 'clasic'); did you mean 'classic'?",
    ),
    "one tenant": (A, "x:1: tenants: sharing needs at least 2 tenants (there is 1)"),
    "no tenants": ("name: y\n", "x:1: tenants: is missing"),
    "tenants are no mapping": (
        "name: y\ntenants: [a, b]\n",
        "x:2: tenants: must be a mapping of keys to values (is a list)",
    ),
    "an empty tenant": (A + "  b:\n", "x:3: tenants.b: must be a mapping of keys to values (is null)"),
    "a tenant's name": (
        A + "  B_1: {workload: fft}\n",
        "x:3: tenants.B_1: a tenant's name must be 1 to 40 lower-case letters, digits or '-', "
        "with a letter or digit at both ends",
    ),
    "fewer rounds than rounds": (
        "max_rounds: 3\n" + A + B,
        "x:1: max_rounds (3) must not be less than rounds (10)",
    ),
    "open quote in a command": (
        A + '  b: {workload: command, command: "a \'b"}\n',
        'x:3: tenants.b.command: cannot be split into words: No closing quotation (is "a \'b")',
    ),
    "an empty command": (
        A + "  b: {workload: command, command: []}\n",
        "x:3: tenants.b.command: must not be empty (is a list)",
    ),
    "YAML syntax": (
        "tenants:\n  a: [1,\n",
        "x:3:1: not YAML: expected the node content, but found '<stream end>' (while parsing a flow node)",
    ),
    "YAML tab": (
        "a:\n\tb: 1\n",
        "x:2:1: not YAML: found character '\\t' that cannot start any token (while scanning for the next token)",
    ),
    "YAML control character": ("a: 1\nb: \x00\n", "x:2: not YAML: character 0 is not allowed in YAML"),
    "two documents": (
        "a: 1\n---\nb: 1\n",
        "x:2:1: not YAML: a second document begins here; give one experiment a file",
    ),
    "a Python object": ("a: !!python/object:x 1\n", "x:1:4: not YAML: tag !!python/object:x is not supported"),
    "an alias of itself": ("a: &a [*a]\n", "x:1:4: not YAML: nested deeper than 20 levels"),
    "nesting": ("[" * 5000, "x: not YAML: nested deeper than 20 levels"),
    "no mapping": ("- a\n", "x:1: must be a mapping of keys to values, with name and tenants"),
    "empty": ("# nothing\n", "x: the file is empty"),
}


@pytest.mark.parametrize(("text", "line"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_its_place(text: str, line: str) -> None:
    """Else the user would have to guess what to change, and where."""
    with pytest.raises(SpecError) as caught:
        load_text(text, source="x")
    assert caught.value.what == line
    assert caught.value.remedy
    assert caught.value.exit_code == 3


def test_all_mistakes_are_told_at_once_in_order_of_lines() -> None:
    """Else a file with five mistakes would take five attempts."""
    text = "design: x\ntenants:\n  a: {workload: fft, size: 0}\n  b: {workload: ftt}\n  a: {}\nseed: -1\n"
    with pytest.raises(SpecError) as caught:
        load_text(text, source="x")
    assert [line.split(": ")[0] for line in caught.value.what.splitlines()] == ["x:1", "x:3", "x:4", "x:5", "x:6"]


def test_aliases_cannot_blow_up() -> None:
    """Else a small file could take all memory."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SpecError, match="aliases expand to more than"):
        load_text("\n".join(["l0: &l0 x", *levels]), source="x")


@pytest.mark.parametrize(
    ("text", "unknown", "missing"),
    [
        (
            A + "  b:\n    worklod: gemm\n",
            "4: tenants.b.worklod: ...; did you mean 'workload'?",
            "3: tenants.b: workload",
        ),
        (A + "  b:\n    kind: gemm\n", "4: tenants.b.kind: ...; did you mean 'workload'?", "3: tenants.b: workload"),
        (A + "  b:\n    size: 3\n    zzz: 3\n", "5: tenants.b.zzz: ...", "3: tenants.b: workload"),
        (
            A + "  b:\n    workload: command\n    comand: ./x\n",
            "5: tenants.b.comand: ...; did you mean 'command'?",
            "3: tenants.b.command:",
        ),
        ("name: y\ntennants:\n  a: {workload: fft}\n" + B, "2: tennants: ...; did you mean 'tenants'?", "1: tenants:"),
    ],
)
def test_an_unknown_key_is_told_before_the_one_that_is_missing(text: str, unknown: str, missing: str) -> None:
    """Else a slip of the pen reads as something forgotten."""
    with pytest.raises(SpecError) as caught:
        load_text(text, source="x")
    first, second = str(caught.value).splitlines()
    key = unknown.split(": ")[1].rpartition(".")[2]
    assert first == "x:" + unknown.replace("...", f"unknown key {key!r}")
    assert second.startswith("x:" + missing)
    assert "is missing" in second


def test_a_file_may_hold_more_values_than_aliases_may_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a kubeconfig of 3000 clusters would be refused, for aliases that it has not got."""
    monkeypatch.setattr(yamltree, "MAX_VALUES", 10)
    assert len(parse("\n".join(f"k{n}: {n}" for n in range(100))).data) == 100


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000], ids=["lists", "dashes", "maps"])
def test_what_is_nested_without_end_is_refused(text: str) -> None:
    """Else a parser in C would crash on it, and kts with it."""
    with pytest.raises(TreeError, match="nested deeper than"):
        parse(text)


def test_both_scanners_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what a file says would depend on how PyYAML was built."""
    text = "# c\na: {b: [1, 'x\u00e9', on, 1e3, ~]}\nb: &x |\n  two\n  lines\nc: [*x, \"\\u20ac\"]\na: 2\n"
    quick = parse(text)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert parse(text) == quick


def _missing(folder: Path) -> Path:
    return folder / "agnets.yaml"


def _folder(folder: Path) -> Path:
    return folder


def _latin(folder: Path) -> Path:
    path = folder / "latin.yaml"
    path.write_bytes(b"name: x\n# caf\xe9\n")
    return path


def _huge(folder: Path) -> Path:
    path = folder / "huge.yaml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    return path


def _behind_a_file(folder: Path) -> Path:
    (folder / "file").write_text("", encoding="utf-8")
    return folder / "file" / "x.yaml"


@pytest.mark.parametrize(
    ("make", "what", "remedy"),
    [
        (_missing, "no such file, and no ready-made experiment of that name", "did you mean 'agents'?"),
        (_folder, "is a directory, not an experiment file", "give a file"),
        (_latin, "not UTF-8 text", "UTF-8"),
        (_huge, "larger than 1 MiB", "kts schema"),
        (_behind_a_file, "cannot be read: Not a directory", "give a file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_a_remedy(
    tmp_path: Path, make: object, what: str, remedy: str
) -> None:
    """Else a wrong path would end in a traceback."""
    assert callable(make)
    path = make(tmp_path)
    with pytest.raises(SpecError) as caught:
        load(str(path))
    assert caught.value.what.startswith(str(path))
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_a_wrong_option_is_named_as_the_option() -> None:
    """Else the user would look for the mistake in the file."""
    experiment = load("demo").experiment
    with pytest.raises(UsageError) as caught:
        override(experiment, {"rounds": 0, "iterations": 0, "device": "gpu", "max_seconds": -1.0})
    assert caught.value.what.splitlines() == [
        "--rounds: must be greater than 0 (is 0)",
        "--max-seconds: must be greater than 0 (is -1.0)",
        "--device: must be auto, cuda or cpu (is 'gpu'); did you mean 'cpu'?",
        "--iterations: must be greater than 0 (is 0)",
    ]
