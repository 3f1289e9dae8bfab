"""The Python API: its names, what they say of themselves, and what the command line leaves to it."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.helpers_cli import TINY, record

import kts
from kts import app
from kts.cli.commands import COMMANDS, MODULES
from kts.errors import DataError, UsageError
from kts.model.records import RECORD

NAMES = [name for name in kts.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("app") / "run")


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented_and_typed(name: str) -> None:
    """Else help(kts.run) would say nothing, or a type checker nothing of a call."""
    thing = getattr(kts, name)
    assert thing.__doc__
    for function in [thing] if inspect.isfunction(thing) else []:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    for member, value in vars(thing).items() if inspect.isclass(thing) else []:
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            assert value.__doc__, f"{name}.{member}"


@pytest.mark.parametrize("name", app.__all__)
def test_every_name_of_the_layer_is_where_its_table_says(name: str) -> None:
    """Else a command would fail only when somebody calls it."""
    assert getattr(app, name) is not None


def test_importing_it_loads_nothing_else() -> None:
    """Else `import kts` would take a second, and workers would load what their image does not hold."""
    program = "import sys, kts; print(*(n for n in sys.modules if n.startswith('kts.')), 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.split() == ["False"]


def test_a_function_keeps_its_name_where_a_package_has_the_same() -> None:
    """Else `kts.report(...)` would be a module as soon as anything had imported that package."""
    program = (
        "import kts.report.cells, kts; from kts.report import cells; import kts.report as r\n"
        "print(callable(kts.report), cells.__name__, sorted(kts.__all__) == sorted(set(dir(kts)) & set(kts.__all__)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.split() == ["True", "kts.report.cells", "True"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """Else a misspelt name would be something else than Python says of it everywhere."""
    with pytest.raises(AttributeError, match="no attribute 'meassure'"):
        _ = kts.meassure  # type: ignore[attr-defined]


def test_a_run_shows_its_records_as_arrays(recorded: Path) -> None:
    """Else a notebook would have to know how the run directory is laid out."""
    run = kts.load(recorded)
    assert run.tenants == ("fft", "gemm")
    every = run.records("fft")
    assert every.dtype == RECORD
    parts = [run.records("fft", condition) for condition in run.conditions]
    assert sum(map(len, parts)) == len(every) > 0
    assert len(run.records("fft", "solo-gemm")) == 0
    response = run.latencies_ms("gemm", "solo-gemm")
    assert np.all(response > 0)
    assert run.summary.tenants["gemm"].response.solo.p50.estimate == pytest.approx(np.median(response), rel=0.05)
    assert run.failure is None


@pytest.mark.parametrize(
    ("given", "message"), [(("lstm",), "no tenant 'lstm'"), (("fft", "solo-x"), "no condition 'solo-x'")]
)
def test_what_is_not_in_a_run_is_named(recorded: Path, given: tuple[str, ...], message: str) -> None:
    """Else a misspelt tenant would be one without iterations."""
    with pytest.raises(UsageError, match=message):
        kts.load(recorded).records(*given)


def test_a_run_in_a_notebook(recorded: Path) -> None:
    """Else its cell would show where an object lies in memory."""
    run = kts.load(str(recorded))
    assert repr(run) == "<kts.Run run: fft + gemm, interleaved, complete>"
    text = run._repr_markdown_()
    assert "| fft " in text
    assert run.summary.tenants["fft"].verdict.sentence in text


def test_a_report_is_written_where_it_is_asked_for(recorded: Path, tmp_path: Path) -> None:
    """Else a script could not make what `kts report --out` makes."""
    written = kts.report(recorded, tmp_path / "out", figures=False)
    assert {path.name for path in written} == {"summary.json", "summary.csv", "results.md", "report.html"}
    assert kts.compare(tmp_path / "out" / "summary.json", kts.load(recorded)).sentence


def test_a_run_without_a_valid_block_has_no_report(recorded: Path, tmp_path: Path) -> None:
    """Else empty tables would look like a result."""
    run = kts.Run(tmp_path, kts.load(recorded).data)
    assert run.has_figures
    empty = _Empty(run.data)
    with pytest.raises(DataError, match="nothing to report"):
        kts.Run(tmp_path, empty).report(tmp_path)
    assert "kts.Run" in kts.Run(tmp_path, empty)._repr_markdown_()


class _Empty:
    """A run whose blocks are all gone."""

    blocks = ()
    damage = ()

    def __init__(self, data: object) -> None:
        self.info = data.info  # type: ignore[attr-defined]


def test_results_are_shown_and_other_things_refused(recorded: Path) -> None:
    """Else `kts.show` would print an object's address, or nothing."""
    console = Console(file=io.StringIO(), width=120)
    run = kts.load(recorded)
    for result in (run, run.summary, kts.compare(run, run), kts.predict(from_run=run, assume=(2, 0.2, 0.1), seconds=5)):
        kts.show(result, console)
    assert "fft" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="a dict is nothing"):
        kts.show({}, console)
    importlib.import_module("kts.app.profiles")
    with pytest.raises(UsageError, match="a list is nothing"):
        kts.show([1], console)


def test_an_experiment_is_a_file_a_name_or_text(tmp_path: Path) -> None:
    """Else a notebook would have to write a file first."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    of_file, of_text = kts.preview(file), kts.preview(TINY)
    assert of_file.plan == of_text.plan
    assert kts.preview("demo", rounds=3).plan.rounds == 3
    assert [block.round for block in of_file.blocks(1)] == [1, 1, 1]
    assert of_file.expected_s > 0
    assert "demo" in kts.experiments()


@pytest.mark.parametrize("name", ["01_first_run", "03_plan_first"])
def test_examples_need_nothing_of_ours_but_the_api(name: str) -> None:
    """Else what a reader copies would rest on parts that may change."""
    tree = ast.parse((Path(__file__).parents[2] / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [one for one in names if one.startswith("kts")] == ["kts"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    """Else `kts --help` would promise something else than the command's own help."""
    module = import_module(f"kts.cli.{MODULES.get(name, name)}")
    told = module.app.info.help if name == "k8s" else inspect.getdoc(getattr(module, name))
    assert told.splitlines()[0] == COMMANDS[name]
