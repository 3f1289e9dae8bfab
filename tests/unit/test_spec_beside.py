"""The experiment that is made of a command line: if these fail, `kts run -- PROGRAM` measures something else."""

from __future__ import annotations

import pytest

from kts.errors import SpecError, UsageError
from kts.model.plan import Program
from kts.plan import build
from kts.spec import beside, load_text, program_name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["python", "train.py", "--steps", "9"], "train"),
        (["python3", "-u", "examples/LLama_Decode.PY"], "llama-decode"),
        (["python", "-m", "package.serve", "--port", "1"], "serve"),
        (["python", "-m"], "python"),
        (["./a.out"], "a"),
        (["/usr/bin/env", "bash", "run all.sh"], "run-all"),
        (["heavy.py"], "program"),
        (["日本.py"], "program"),
        (["./" + "x" * 60 + ".py"], "x" * 40),
        (["1e3.py"], "1e3"),
        (["true.py"], "true"),
    ],
)
def test_a_program_has_a_name_that_a_tenant_may_have(command: list[str], name: str) -> None:
    """Else the table would say `python`, or a program's name would be a mistake in a file that nobody wrote."""
    assert program_name(command) == name
    assert build(load_text(beside(command), source="x").experiment).subject == name


@pytest.mark.parametrize(
    "command",
    [
        ["python", "x.py", "--out", "y", "--json"],
        ["x", "|", ">", "&&", "$HOME", "a;b", "`date`", "{}", ";"],
        ["x", "two words", "it's", '"quoted"', "\\", "a\nb", "\t", "\x7f"],
        ["x", "on", "1e3", "null", "- a", "# no comment", "a: b", "é", "\U0001f600", "--"],
        ["x", ""],
    ],
)
def test_its_arguments_arrive_as_they_were_given(command: list[str]) -> None:
    """Else quoting, YAML or a shell's signs would change what runs."""
    plan = build(load_text(beside(command), source="x").experiment)
    for name in (plan.subject, "copy"):
        work = plan.tenant(name).work
        assert isinstance(work, Program)
        assert list(work.command) == command


def test_it_runs_alone_and_beside_each_neighbour_and_nothing_else_does() -> None:
    """Else most of the time would go into figures that nobody asked for."""
    plan = build(load_text(beside(["./prog"]), source="x").experiment)
    assert [(c.name, c.tenants) for c in plan.conditions] == [
        ("solo-prog", ("prog",)),
        ("shared-prog+heavy", ("prog", "heavy")),
        ("shared-prog+light", ("prog", "light")),
        ("shared-prog+copy", ("prog", "copy")),
    ]
    assert plan.full_house.tenants == ("prog", "heavy")
    assert plan.asked == ("prog",)


def test_it_and_its_copy_run_in_the_image_that_is_given() -> None:
    """Else the copy would be another program, or a cluster would look for the user's file in kts's image."""
    plan = build(load_text(beside(["python3", "train.py"], "reg/x:1"), source="x").experiment)
    images = {tenant.name: tenant.work.image for tenant in plan.tenants if isinstance(tenant.work, Program)}
    assert images == {"train": "reg/x:1", "copy": "reg/x:1"}
    with pytest.raises(SpecError, match="image"):
        load_text(beside(["x"], 'a"\nb'), source="x")


@pytest.mark.parametrize("command", [[], [""], ["x\udce9"], ["NAME=1", "x"], ["cd", "x"]])
def test_what_is_no_command_line_is_refused(command: list[str]) -> None:
    """Else it would be found out by a worker, after all had started."""
    with pytest.raises(UsageError):
        beside(command)


@pytest.mark.parametrize(
    ("mixes", "wanted"),
    [
        ("full", [("a", "b", "c")]),
        ("pairs", [("a", "b"), ("a", "c")]),
        ("all", [("a", "b"), ("a", "c"), ("a", "b", "c")]),
        ("[[c, a]]", [("a", "c")]),
    ],
)
def test_mixes_of_a_subject_are_those_that_hold_it(mixes: str, wanted: list[tuple[str, ...]]) -> None:
    """Else a run about one tenant would measure the others beside each other."""
    tenants = "".join(f"  {name}: {{workload: fft}}\n" for name in "abc")
    plan = build(load_text(f"subject: a\nmixes: {mixes}\ntenants:\n{tenants}", source="x").experiment)
    assert sorted(c.tenants for c in plan.mixes) == sorted(wanted)
    assert [c.tenants for c in plan.conditions if c.is_solo] == [("a",)]
