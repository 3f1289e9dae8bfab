"""records.parquet under arbitrary damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers_store import write_run

from kts.errors import DataError
from kts.store import open_run

KEYS = [("fft", 0), ("fft", 1), ("gemm", 1)]


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    directory = tmp_path_factory.mktemp("parquet") / "run"
    write_run(directory, per_chunk=20)
    return directory


@given(data=st.data(), flip=st.integers(1, 255))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_is_an_error_or_harmless(
    run_directory: Path, tmp_path: Path, data: st.DataObject, flip: int
) -> None:
    """Wrong records would be read silently."""
    whole = (run_directory / "records.parquet").read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    good = open_run(run_directory)
    shutil.copytree(run_directory, tmp_path / "run", dirs_exist_ok=True)
    damaged = bytearray(whole)
    damaged[position] ^= flip
    (tmp_path / "run" / "records.parquet").write_bytes(damaged)
    try:
        run = open_run(tmp_path / "run")
        read = [run.records(*key).tobytes() for key in KEYS]
    except DataError:
        return
    assert read == [good.records(*key).tobytes() for key in KEYS]
