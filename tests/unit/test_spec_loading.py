"""Experiment files that are right: what is read from them."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import yaml

from kts.arrivals import Poisson, Trace
from kts.errors import SpecError
from kts.model.plan import Lines, Program, Ranges, RoundTrips, Work
from kts.plan import build
from kts.spec import catalog, load, load_text, names, override, ready_made_text, yamltree

PAIR = "tenants:\n  a: {workload: fft}\n  b: {workload: gemm, target_ms: 20.7}\n"


def test_defaults_are_the_references_size_and_amount() -> None:
    """Else a file that names only workloads would not measure what the documentation says."""
    plan = build(load_text(PAIR, source="x").experiment)
    a, b = plan.tenants
    assert (a.work.size, a.work.target_ms, a.iterations, a.seconds, a.work.warmup) == (4096, None, 800, None, 5)
    assert (b.work.size, b.work.target_ms) == (None, 20.7)
    assert (a.arrivals.think_ms, a.arrivals.jitter) == (0.0, 0.5)
    assert (plan.design, plan.rounds, plan.precision, plan.max_seconds, plan.seed) == (
        "interleaved",
        10,
        0.05,
        600.0,
        1,
    )


def test_scalars_follow_yaml_1_2() -> None:
    """Else a tenant called `on` would be the boolean True, and 1e3 a piece of text."""
    text = (
        "tenants:\n  on: {workload: fft, iterations: 1e3}\n  no: {workload: command, command: x, env: {A: 1, B: on}}\n"
    )
    tenants = load_text(text, source="x").experiment.tenants
    assert list(tenants) == ["on", "no"]
    assert tenants["on"].iterations == 1000
    assert tenants["no"].model_dump()["env"] == {"A": "1", "B": "on"}


@pytest.mark.parametrize("command", ["prog --flag 'two words'", ["prog", "--flag", "two words"]])
def test_a_command_is_a_string_or_a_list(command: object) -> None:
    """Else one of the two documented ways of writing a command would run another program."""
    data = {"tenants": {"a": {"workload": "command", "command": command}, "b": {"workload": "fft"}}}
    plan = build(load_text(yaml.safe_dump(data), source="x").experiment)
    assert plan.tenant("a").work.command == ("prog", "--flag", "two words")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, None),
        ("lines", Lines()),
        ({"nvtx": "step 1"}, Ranges(name="step 1")),
        ("round-trips", RoundTrips()),
        ({"round_trips": 2.0}, RoundTrips(each=2)),
    ],
)
def test_an_iteration_of_a_program_is_what_its_owner_says(given: object, taken: object) -> None:
    """Else a program would be measured by other iterations than were asked for."""
    data = {"tenants": {"a": {"workload": "command", "command": "x", "iteration": given}, "b": {"workload": "fft"}}}
    work = build(load_text(yaml.safe_dump(data), source="x").experiment).tenant("a").work
    assert isinstance(work, Program)
    assert (work.iteration, work.trace) == (taken, "auto")
    assert msgspec.json.decode(msgspec.json.encode(work), type=Work) == work


def test_anchors_and_merge_keys_work() -> None:
    """Else files that share settings between tenants would be refused."""
    text = "tenants:\n  a: &x {workload: fft, size: 64, think_ms: 2}\n  b:\n    <<: *x\n    size: 32\n"
    experiment = load_text(text, source="x").experiment
    sizes = [(t.model_dump()["size"], t.think_ms) for t in experiment.tenants.values()]
    assert sizes == [(64, 2.0), (32, 2.0)]


def test_the_file_name_is_the_default_name(tmp_path: Path) -> None:
    """Else every run of an unnamed experiment would be called the same."""
    file = tmp_path / "my pair (2).yaml"
    file.write_text(PAIR, encoding="utf-8")
    assert load(str(file)).experiment.name == "my-pair-2"


def test_a_file_wins_over_a_ready_made_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a user's own file `demo` could not be run."""
    (tmp_path / "demo").write_text(PAIR, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert list(load("demo").experiment.tenants) == ["a", "b"]


@pytest.mark.parametrize("name", names())
def test_ready_made_experiments_are_valid_and_named_after_their_file(name: str) -> None:
    """Else `kts run NAME` would fail, or file its runs under another name."""
    loaded = load(name)
    assert loaded.experiment.name == name
    assert loaded.text == ready_made_text(name)
    assert dict(catalog())[name] == loaded.experiment.description != ""
    build(loaded.experiment)


def test_overrides_replace_settings_of_the_file() -> None:
    """Else the command line would not have the last word."""
    text = PAIR.replace("{workload: fft}", "{workload: fft, seconds: 3, library: torch}")
    experiment = override(
        load_text(text, source="x").experiment,
        {"iterations": 40, "rounds": 2, "precision": None, "library": "numpy", "design": "classic"},
    )
    plan = build(experiment)
    assert [(t.iterations, t.seconds, t.work.library) for t in plan.tenants] == [(40, None, "numpy")] * 2
    assert (plan.design, plan.rounds) == ("classic", 1)


def test_arrivals_of_an_open_loop_reach_the_plan(tmp_path: Path) -> None:
    """Else a tenant would run in a closed loop under another name; a trace's file is found beside the experiment."""
    (tmp_path / "times.txt").write_text("0 1.5\n4,\n", encoding="utf-8")
    (tmp_path / "x.yaml").write_text(
        "tenants:\n"
        "  a: {workload: fft, arrivals: poisson, rate_hz: 50}\n"
        "  b: {workload: fft, arrivals: trace, due_ms: times.txt}\n"
        "  c: {workload: fft, arrivals: trace, due_ms: [3], period_ms: 10}\n",
        encoding="utf-8",
    )
    plan = build(load(str(tmp_path / "x.yaml")).experiment)
    assert [tenant.arrivals for tenant in plan.tenants] == [
        Poisson(rate_hz=50.0),
        Trace(due_ms=(0.0, 1.5, 4.0), period_ms=6.0),
        Trace(due_ms=(3.0,), period_ms=10.0),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file or directory"), ("1\ntwo\n", "line 2: 'two' is not a time (ms)"), ("", "must not be empty")],
)
def test_a_trace_that_cannot_be_read_is_one_line_with_its_place(tmp_path: Path, content: str | None, why: str) -> None:
    """Else a wrong file would be a traceback, or an empty load."""
    if content is not None:
        (tmp_path / "times.txt").write_text(content, encoding="utf-8")
    text = "tenants:\n  a: {workload: fft}\n  b: {workload: fft, arrivals: trace, due_ms: times.txt}\n"
    with pytest.raises(SpecError) as caught:
        load_text(text, source="x", folder=tmp_path)
    (line,) = caught.value.what.splitlines()
    assert line.startswith("x:3: tenants.b.due_ms: ")
    assert why in line


def test_what_is_wrong_with_a_large_text_is_said_by_the_fast_scanner_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a damaged file of 63 KB takes seconds to be refused."""
    if not yaml.__with_libyaml__:
        pytest.skip("PyYAML without libyaml")
    monkeypatch.setattr(yamltree, "_Loader", None)
    with pytest.raises(yamltree.TreeError, match="did not find expected"):
        yamltree.parse('{"a": ' + "[" * 400 + "S" + "- " * 10_000)


class _ScannerAsItWas(yaml.SafeLoader):
    yaml_implicit_resolvers = yamltree._Loader.yaml_implicit_resolvers


def _composed(loader: type[yaml.SafeLoader], text: str) -> str:
    """The document as YAML, or what is wrong with the text and where."""
    try:
        node = loader(text).get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        return str(error)
    return "" if node is None else str(yaml.serialize(node))


def test_where_a_key_may_begin_is_found_as_pyyaml_finds_it() -> None:
    """Else the quicker look for keys would read some experiment otherwise, or blame another line."""
    pieces = ["[", "]", "{", "}", ",", ": ", ":", "\n", "\n  ", "a", "'c'", "? ", "- ", "&x ", "*x", "!t ", "k" * 1030]
    lot = random.Random(1)
    for _ in range(400):
        text = "".join(lot.choices(pieces, k=lot.randrange(1, 24)))
        assert _composed(yamltree._Loader, text) == _composed(_ScannerAsItWas, text), text


def test_open_brackets_are_not_each_looked_at_again_for_every_further_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a line of two thousand brackets takes seconds before it is refused."""
    looks = 0

    class Key(yaml.scanner.SimpleKey):
        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += 1
            return super().__getattribute__(name)

    monkeypatch.setattr(yaml.scanner, "SimpleKey", Key)
    text = "a: {b:" + "[" * 2000
    with pytest.raises((yaml.YAMLError, RecursionError)):
        yamltree._Loader(text).get_single_node()
    assert 0 < looks < 50 * len(text)
