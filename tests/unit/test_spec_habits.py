"""What people bring to an experiment file from elsewhere: pasted characters, shell lines, other programs' files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kts.cli.main import main
from kts.errors import SpecError
from kts.shown import named, shown, visible
from kts.spec import load, load_text
from kts.spec.shellwords import shell_syntax

PAIR = "tenants:\n  small: {workload: fft}\n  big: {workload: gemm}\n"


def _complaint(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_text(text, source="x")
    assert caught.value.remedy
    return caught.value.what


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name: ”two“\n" + PAIR, ("'”two“'", "typographic quotes")),
        ("name: two\u200b\n" + PAIR, ("'two\\u200b'", "a zero-width space")),
        ("name: a\u00a0b\n" + PAIR, ("'a\\xa0b'", "a no-break space")),
        ("name: a\u2013b\n" + PAIR, ("a dash that is no '-' (U+2013)",)),
        ("name: a\u202eb\n" + PAIR, ("'a\\u202eb'", "a character without width (U+202E)")),
        ("\ufeff\ufeffname: a\n" + PAIR, ("'\\ufeffname'", "byte order mark")),
        ("tenants:\n\u00a0\u00a0small: {workload: fft}\n", ("'\\xa0\\xa0small'", "a no-break space")),
        ("\u200brounds: 3\n" + PAIR, ("unknown key '\\u200brounds'", "a zero-width space")),
        ("precision: \u22120.1\n" + PAIR, ("a dash that is no '-' (U+2212)",)),
        ("design: ‘classic’\n" + PAIR, ("typographic quotes",)),
        ("tenants:\n  sm\u00adall: {workload: fft}\n  b: {workload: fft}\n", ("tenants.sm\\xadall", "a soft hyphen")),
        ("tenants:\n  a: {workload: fft\u00a0}\n  b: {workload: fft}\n", ("'fft\\xa0'", "a no-break space")),
    ],
)
def test_characters_that_mislead_are_shown_and_named(text: str, parts: tuple[str, ...]) -> None:
    """Else a value that was pasted from a web page would look right and be refused without a reason."""
    what = _complaint(text)
    assert all(part in what for part in parts), what
    assert "as web pages paste them" in what


def test_text_that_is_as_it_looks_gets_no_remark() -> None:
    """Else every name with an umlaut would be suspected."""
    assert named("Größe 3, a-b_c.d «x»".replace("«", "").replace("»", "")) == ""
    assert shown("plain") == "'plain'"
    assert visible("naïve/データ") == "naïve/データ"


@pytest.mark.parametrize("argument", ["“demo”", "demo\u200b", "demo\u00a0"])
def test_an_argument_with_such_characters_is_named_too(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else `kts run` of a pasted name would say "no such file" of a name that looks right."""
    assert main(["run", argument]) == 3
    error = capsys.readouterr().err
    assert "as web pages paste them" in error
    assert error.replace("“", "").replace("”", "").replace("demo", "").isascii()


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("cd /tmp && ./x", "'&&'"),
        ("FOO=1 ./x", "'FOO=1'"),
        ("./x | tee out.txt", "'|'"),
        ("./x;./y", "';'"),
        ("./x > out.txt", "'>'"),
        ("./x 2>&1", "'2>&1'"),
        ("./x < in.txt", "'<'"),
        ("./x || true", "'||'"),
        ("./x &", "'&'"),
        ("./x $HOME/data", "'$HOME'"),
        ('./x "${BATCH}"', "'${BATCH}'"),
        ("./x $(nproc)", "'$(nproc)'"),
        ("./x `nproc`", "'`nproc`'"),
        ("source env.sh", "'source'"),
        (["cd", "/tmp", "&&", "./x"], "'&&'"),
        (["FOO=1", "./x"], "'FOO=1'"),
        ("python -c 'import os; print(1 > 0)'", ""),
        ('sh -c "./x | tee out.txt"', ""),
        (["sh", "-c", "cd /tmp && ./x > out"], ""),
        ("awk '{print $1}' data", ""),
        ("env FOO=1 ./x --a=b", ""),
        ("./x \\; 'a&b' \\$HOME", ""),
        ("./x\n  --steps 3\n", ""),
        ("./serve --model a/b:c@d --at 10%", ""),
    ],
)
def test_shell_syntax_in_a_command_is_seen(command: str | list[str], found: str) -> None:
    """Else a pipe would become arguments, and its file never be written."""
    assert shell_syntax(command) == found


def test_a_command_that_needs_a_shell_is_told_what_to_write() -> None:
    """Else "command not found: cd" would send the user after a path."""
    what = _complaint("tenants:\n  a: {workload: command, command: cd /tmp && ./x}\n  b: {workload: fft}\n")
    assert what.startswith("x:2: tenants.a.command: '&&' is for a shell, and none is used")
    assert '["sh", "-c", "..."]' in what
    assert "env:" in what


def test_keys_that_begin_with_x_are_the_users_own() -> None:
    """Else anchors would have no place of their own."""
    text = (
        "x-common: &common {workload: fft, think_ms: 2, x-why: the usual}\n"
        "x-note: [1, {a: b}]\n"
        "tenants:\n  a: {<<: *common, x-owner: me, slo: {p99_ms: 3, x-from: contract}}\n  x-b: *common\n"
    )
    tenants = load_text(text, source="x").experiment.tenants
    assert list(tenants) == ["a", "x-b"]
    assert {spec.think_ms for spec in tenants.values()} == {2.0}
    assert "unknown key 'xcommon'" in _complaint("xcommon: 1\n" + PAIR)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n", "is a Kubernetes object (kind 'Job')"),
        ("kind: List\nmetadata: {}\nitems: []\n", "is a Kubernetes object (kind 'List')"),
        ('{"apiVersion": "v1", "kind": "Pod", "spec": {}}', "is a Kubernetes object (kind 'Pod')"),
        ("services: {web: {image: nginx}}\n", "is a compose file"),
        ("a: 1\n---\nb: 2\n", "a second document begins here"),
    ],
)
def test_other_programs_files_are_told_apart(text: str, says: str) -> None:
    """Else every key of a manifest would be an unknown key, and one of them "did you mean precision?"."""
    what = _complaint(text)
    assert says in what
    assert "did you mean" not in what
    assert len(what.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_experiment_saved_by_another_system_is_read(encoding: str, tmp_path: Path) -> None:
    """Else a file from Windows would be no text."""
    (tmp_path / "x.yaml").write_text("description: größer\n" + PAIR, encoding=encoding)
    assert load(str(tmp_path / "x.yaml")).experiment.description == "größer"


@pytest.mark.parametrize(
    "text",
    [
        "precision: 0x" + "f" * 5000 + "\n" + PAIR,
        "rounds: " + "9" * 5000 + "\n" + PAIR,
        "k" * 200_000 + ": 1\n" + PAIR,
        "design: " + "k" * 200_000 + "\n" + PAIR,
        "x: " + "[" * 5000 + "]" * 5000 + "\n" + PAIR,
        "name: 1e999\n" + PAIR,
    ],
)
def test_values_beyond_all_bounds_are_told_at_once(text: str) -> None:
    """Else Python's own limits would be a traceback, or a long word take seconds to be compared."""
    assert len(_complaint(text)) < 250_000


def test_a_file_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    """Else a name from another system would be a traceback."""
    path = os.path.join(os.fsencode(tmp_path), b"x\xff.yaml")  # noqa: PTH118 - bytes
    Path(os.fsdecode(path)).write_text(PAIR, encoding="utf-8")
    assert load(os.fsdecode(path)).experiment.name == "x"
