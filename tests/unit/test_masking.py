"""What a user's program is given may be secret: a run is read by many, and holds no value of it unless asked to."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from kts.app.plans import planned
from kts.model.masking import HIDDEN, hidden_values, kept_plan, masked_command
from kts.model.mode import SharingMode
from kts.model.plan import Plan, Program
from kts.spec.masking import masked_text
from kts.store import create

SECRET = "s3cr3t-value"
TEXT = f"""\
name: mine
# {SECRET} was the token once
x-common: &common
  env: {{TOKEN: &token {SECRET}, "N": "1"}}
tenants:
  a:
    <<: *common
    workload: command
    command: [python, train.py, --api-key={SECRET}, --password, {SECRET}, --batch, "8"]
    seconds: 2
  b:
    workload: command
    command: sh -c 'TOKEN={SECRET} ./serve'
    env:
      COPY: *token
      LONG: |
        {SECRET}
        and a second line
    seconds: 2
"""


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("python -m pkg.train --lr 0.1 --steps=100", "python -m pkg.train --lr 0.1 --steps=100"),
        ("python train.py configs/a.yaml", "python train.py configs/a.yaml"),
        ("prog --token abc --key=abc -pabc abc k=abc", "prog --token *** --key=*** -p*** *** k=***"),
        ("prog --pin 1234 pin=1234 --secret.sh", "prog --pin *** pin=*** --secret.sh"),
        ("prog https://me:pw@host/x?a=1 12345678 wJalr/XUt.K7", "prog *** *** ***"),
        ("prog -- abc", "prog -- ***"),
        ("prog", "prog"),
    ],
)
def test_a_command_keeps_what_says_what_ran_and_no_value(command: str, kept: str) -> None:
    """Else a password on a command line is in every report, or nobody can tell what was measured."""
    assert " ".join(masked_command(command.split())) == kept
    assert masked_command(masked_command(command.split())) == tuple(kept.split())


def test_hidden_values_are_those_that_are_left_out() -> None:
    """They are sought where the text of the experiment says them again."""
    assert hidden_values(["prog", "--key=abc", "-d", "defg", "8"]) == ["abc", "defg"]


def test_the_text_of_an_experiment_says_no_value_wherever_it_stands() -> None:
    """Anchors, merges, block scalars, a line for a shell, comments; and it stays the YAML that it was."""
    text = masked_text(TEXT)
    assert SECRET not in text
    assert "second line" not in text
    a, b = yaml.safe_load(text)["tenants"].values()
    assert a["command"] == ["python", "train.py", "--api-key=***", "--password", "***", "--batch", "8"]
    assert a["env"] == {"TOKEN": HIDDEN, "N": HIDDEN}
    assert b["env"] == {"COPY": HIDDEN, "LONG": HIDDEN}
    assert b["command"] == "sh -c 'TOKEN=***'"
    assert [line for line in TEXT.splitlines() if "seconds" in line or "workload" in line] == [
        line for line in text.splitlines() if "seconds" in line or "workload" in line
    ]


def test_what_is_to_be_kept_is_kept() -> None:
    """By the option for all programs, by the key for one."""
    loaded, asked = planned(TEXT, {"keep_values": True})
    assert loaded.text == TEXT
    assert kept_plan(asked) is asked
    one = TEXT.replace(f"    command: sh -c 'TOKEN={SECRET}", "    keep_values: true\n    command: sh -c 'TOKEN=public")
    assert "TOKEN=public ./serve" in masked_text(one)
    assert f"--api-key={SECRET}" not in masked_text(one)


def test_the_program_itself_gets_its_values() -> None:
    """Masking is of what is kept, never of what runs."""
    loaded, asked = planned(TEXT, {})
    assert SECRET not in loaded.text
    work = asked.tenant("a").work
    assert isinstance(work, Program)
    assert f"--api-key={SECRET}" in work.command
    assert work.env["TOKEN"] == SECRET


def secretive() -> Plan:
    work = Program(command=("python", "x.py", "--token", SECRET), env={"API": SECRET})
    plan = planned("demo", {})[1]
    return msgspec.structs.replace(plan, tenants=tuple(msgspec.structs.replace(one, work=work) for one in plan.tenants))


def test_no_file_of_a_run_directory_holds_a_value(tmp_path: Path) -> None:
    """Not when it is made, nor when the plan is settled; hashes are of what is kept, so that none can be guessed at."""
    asked = secretive()
    writer = create(
        tmp_path / "run",
        plan=asked,
        backend="local",
        mode=SharingMode(),
        experiment_text="",
        environment={},
    )
    before = (writer.directory / "run.json").read_text(encoding="utf-8")
    writer.frozen(asked)
    after = (writer.directory / "run.json").read_text(encoding="utf-8")
    for text in (before, after):
        assert SECRET not in text
        mine = json.loads(text)["plan"]["tenants"][0]
        assert mine["work"]["command"] == ["python", "x.py", "--token", HIDDEN]
        assert mine["work"]["env"] == {"API": HIDDEN}
    hashes = [{m["sha256"] for m in json.loads(text)["provenance"]["made_from"]} for text in (before, after)]
    assert hashes[0] == hashes[1]


def test_a_plan_without_programs_is_itself() -> None:
    """Else what was recorded before would read otherwise."""
    asked = planned("demo", {})[1]
    assert kept_plan(asked) is asked
