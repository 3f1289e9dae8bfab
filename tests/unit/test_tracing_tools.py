"""Where the tracer's library and CUPTI come from, and what is said where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kts.worker.tracing import build, cupti

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tracer is for Linux")


def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str | None = None) -> None:
    """No cache, home, or compiler but those in ``tmp_path``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir(exist_ok=True)
    if path is not None:
        monkeypatch.setenv("PATH", path)


def compiler(folder: Path, script: str) -> str:
    """A folder with a compiler that is a shell script."""
    folder.mkdir(exist_ok=True)
    for name in build.COMPILERS:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


WRITES = 'for word; do [ "$last" = -o ] && echo library > "$word"; last=$word; done'


def test_library_is_compiled_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here(monkeypatch, tmp_path, compiler(tmp_path / "bin", f"{WRITES}; echo x >> {tmp_path}/runs"))
    first = build.library()
    assert first.path is not None
    assert first.path.parent == tmp_path / "cache" / "kts"
    assert build.library() == first
    assert (tmp_path / "runs").read_text() == "x\n"
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name], "nothing half-made is left"


def test_library_of_other_content_is_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here(monkeypatch, tmp_path, compiler(tmp_path / "bin", WRITES))
    first = build.library()
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    assert build.library().path not in {None, first.path}


def test_read_only_home_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here(monkeypatch, tmp_path, compiler(tmp_path / "bin", WRITES))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no")
    made = build.library()
    assert made.path is not None
    assert made.path.parent == tmp_path / "temp" / f"kts-{os.getuid()}"
    assert made.path.parent.stat().st_mode & 0o077 == 0


def test_folder_that_others_write_to_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here(monkeypatch, tmp_path, compiler(tmp_path / "bin", WRITES))
    for folder in (tmp_path / "cache" / "kts", tmp_path / "temp" / f"kts-{os.getuid()}"):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    made = build.library()
    assert made.path is None
    assert "others may write there" in made.why


def test_no_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here(monkeypatch, tmp_path, str(tmp_path))
    assert build.library() == build.Library(None, "no C compiler (cc, gcc, clang)")


def test_compiler_without_headers_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "ring.c:3:10: fatal error: errno.h: No such file or directory"
    here(monkeypatch, tmp_path, compiler(tmp_path / "bin", f"echo '{said}' >&2; exit 1"))
    made = build.library()
    assert made.path is None
    assert said in made.why
    assert not list((tmp_path / "cache" / "kts").iterdir())


def test_prebuilt_library_needs_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here(monkeypatch, tmp_path, str(tmp_path))
    monkeypatch.setattr(build, "NATIVE", tmp_path)
    (tmp_path / build.NAME).write_bytes(b"library")
    assert build.library() == build.Library(tmp_path / build.NAME)


# ---- CUPTI


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without CUPTI."""
    monkeypatch.setattr(cupti.sys, "path", [str(tmp_path / "site")])
    monkeypatch.setattr(cupti, "TOOLKITS", (str(tmp_path / "cuda"),))
    monkeypatch.setattr(cupti, "_linkers", list)
    monkeypatch.setattr(cupti, "_driver", lambda: None)
    return tmp_path


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.usefixtures("nowhere")
def test_no_cupti_says_what_to_do() -> None:
    found = cupti.cupti(env={})
    assert found.path is None
    assert "pip install nvidia-cuda-cupti" in found.why


@pytest.mark.parametrize(
    ("where", "version"),
    [
        ("site/nvidia/cuda_cupti/lib/libcupti.so.12", "12"),
        ("site/nvidia/cuda_cupti/lib/libcupti.so.11.8", "11.8"),
        ("site/nvidia/cu13/lib/libcupti.so.13", "13"),
        ("cuda/extras/CUPTI/lib64/libcupti.so.12", "12"),
        ("cuda/lib64/libcupti.so.11.7", "11.7"),
    ],
)
def test_layouts_of_packages_and_toolkits(nowhere: Path, where: str, version: str) -> None:
    path = put(nowhere / where)
    put(path.with_name("libcupti.so"))
    put(path.with_name("libcupti.so.2025.3.1"))
    assert cupti.cupti(env={}) == cupti.Cupti(path, version)


def test_variable_goes_before_all_and_a_wrong_one_is_said(nowhere: Path) -> None:
    put(nowhere / "site/nvidia/cuda_cupti/lib/libcupti.so.12")
    mine = put(nowhere / "mine/libcupti.so.11.8")
    assert cupti.cupti(env={"KTS_CUPTI": str(mine)}).path == mine
    wrong = cupti.cupti(env={"KTS_CUPTI": "/nowhere/libcupti.so"})
    assert wrong.path is None
    assert "/nowhere/libcupti.so" in wrong.why


def test_none_is_taken_that_is_too_new_for_the_driver(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(nowhere / "site/nvidia/cu13/lib/libcupti.so.13")
    monkeypatch.setattr(cupti, "_driver", lambda: 12)
    assert "too new for the driver, which is of CUDA 12" in cupti.cupti(env={}).why
    older = put(nowhere / "cuda/lib64/libcupti.so.12")
    assert cupti.cupti(env={}).path == older
    monkeypatch.setattr(cupti, "_driver", lambda: 13)
    assert cupti.cupti(env={}).version == "13"


@pytest.mark.parametrize(
    "where",
    [
        "venv/lib/python3.12/site-packages/nvidia/cuda_cupti/lib/libcupti.so.12",
        "venv/local/lib/python3.11/dist-packages/nvidia/cuda_cupti/lib/libcupti.so.12",
        "venv/lib/libcupti.so.12",
        "path/nvidia/cuda_cupti/lib/libcupti.so.12",
    ],
    ids=["venv", "Debian", "conda", "PYTHONPATH"],
)
def test_packages_of_the_programs_python(nowhere: Path, where: str) -> None:
    path, python = put(nowhere / where), put(nowhere / "venv/bin/python")
    python.chmod(0o755)
    env = {"PYTHONPATH": str(nowhere / "path")}
    assert cupti.cupti([str(python), "train.py"], env).path == path


def test_programs_own_packages_go_before_ours(nowhere: Path) -> None:
    put(nowhere / "site/nvidia/cuda_cupti/lib/libcupti.so.12")
    of_program = put(nowhere / "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcupti.so.13")
    python = put(nowhere / "venv/bin/python3")
    script = put(nowhere / "venv/bin/serve")
    script.write_text(f"#!{python}\nimport torch\n")
    elsewhere = put(nowhere / "serve.py")
    elsewhere.write_text("#!/usr/bin/env python3\n")
    for program in (python, script, elsewhere):
        program.chmod(0o755)
    env = {"PATH": str(python.parent)}
    for argv in ([str(python), "-m", "x"], ["python3"], [str(script)], ["serve"], [str(elsewhere)]):
        assert cupti.cupti(argv, env).path == of_program, argv
    assert cupti.cupti(["/bin/true"], env).version == "12"
