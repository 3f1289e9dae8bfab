"""Fingerprints in the user's data directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.helpers_physics import fingerprint

from kts.errors import DataError
from kts.store.fingerprints import directory, file_name, find, keep, kept, read


def test_the_directory_follows_the_users_choice() -> None:
    """Else fingerprints land where nobody looks, or where the user did not want them."""
    assert directory({"XDG_DATA_HOME": "/data", "HOME": "/home/u"}) == Path("/data/kts/fingerprints")
    assert directory({"HOME": "/home/u"}) == Path("/home/u/.local/share/kts/fingerprints")
    assert directory({"XDG_DATA_HOME": "data", "HOME": "/home/u"}) == Path("/home/u/.local/share/kts/fingerprints")


def test_one_file_per_gpu_driver_and_mode(tmp_path: Path) -> None:
    """Else a fingerprint of another driver, or under MPS, is taken for this one's."""
    folder = tmp_path / "new" / "fingerprints"
    mark = fingerprint()
    other = replace(mark, gpu=replace(mark.gpu, driver="590"))
    first, second = keep(mark, folder), keep(other, folder)
    assert first != second
    assert find("GPU-1", "580", "time-slicing", folder) == mark
    assert find("GPU-1", "590", "time-slicing", folder) == other
    assert find("GPU-1", "580", "mps", folder) is None
    assert keep(mark, folder) == first
    assert len(list(kept(folder))) == 2


def test_any_name_becomes_a_file_name() -> None:
    """Else a CPU's name, or one with a slash, writes elsewhere or not at all."""
    assert file_name("cpu:host:1", "", "cpu-scheduler") == "cpu_host_1+none+cpu-scheduler.json"
    assert "/" not in file_name("../../x", "a/b", "m")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Else it ends in a traceback, or hides those that are sound."""
    sound = keep(fingerprint(), tmp_path)
    (tmp_path / "a.json").write_text("{")
    found = dict(kept(tmp_path))
    assert isinstance(found[tmp_path / "a.json"], DataError)
    assert not isinstance(found[sound], DataError)
    with pytest.raises(DataError, match=r"a\.json: not a fingerprint"):
        read(tmp_path / "a.json")
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path / "b.json")
