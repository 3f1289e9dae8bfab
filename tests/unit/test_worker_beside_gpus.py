"""Which GPU the container of a program has, told by the launcher and the driver's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kts.errors import SetupError
from kts.worker.launcher.bring import bring
from kts.worker.launcher.gpus import gpu_of

INFORMATION = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 55\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"


@pytest.fixture(name="driver")
def _driver(tmp_path: Path) -> Path:
    for minor, uuid in ((0, "GPU-a"), (3, "GPU-d")):
        folder = tmp_path / "gpus" / f"0000:0{minor}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(INFORMATION.format(uuid=uuid, minor=minor))
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.03  Tue\n")
    return tmp_path


@pytest.mark.parametrize("told", [("GPU-d", ()), ("void", (3,)), ("", (3,)), ("GPU-d,GPU-a", (0, 3))])
def test_the_gpu_is_named_as_the_plugin_or_the_driver_names_it(told: tuple[str, tuple[int, ...]], driver: Path) -> None:
    """Else tenants on one GPU would be taken to be on two, and the run refused."""
    info = gpu_of(told, "s", driver)
    assert (info.kind, info.uuid, info.name) == ("cuda", "GPU-d", "NVIDIA H200")


def test_a_part_of_a_gpu_is_told_as_one(driver: Path) -> None:
    """Else a run on MIG devices would be called time-slicing."""
    info = gpu_of(("MIG-x", (0,)), "s", driver)
    assert (info.uuid, " MIG " in info.name) == ("MIG-x", True)


@pytest.mark.parametrize("told", [("", ()), ("void", ()), ("all", ()), ("", (7,))])
def test_a_container_without_a_gpu_is_refused(told: tuple[str, tuple[int, ...]], driver: Path) -> None:
    """Else a CPU's figures would stand under a GPU's name."""
    with pytest.raises(SetupError, match="GPU"):
        gpu_of(told, "s", driver)


def test_what_an_image_lacks_is_said_before_the_program_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the program's container would fail without a word of why."""
    here = tmp_path / "launcher"
    assert bring(tmp_path, here, here) == 4
    assert "lacks" in capsys.readouterr().err
    (here.parent / "from").mkdir()
    for name in ("launcher", "libkts_trace.so"):
        (tmp_path / "from" / name).write_bytes(b"x")
    assert bring(tmp_path, tmp_path / "from" / "launcher", tmp_path / "from" / "libkts_trace.so") == 0
    assert {"launcher", "libkts_trace.so"} <= {path.name for path in tmp_path.iterdir()}
