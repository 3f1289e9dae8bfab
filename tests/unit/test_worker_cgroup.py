"""What the kernel lets a worker use: a limit that is overlooked throttles, and looks like sharing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kts.worker.cgroup import cpu_limit, memory_kills, memory_limit

POD = "/kubepods/pod1/c1"
V1 = f"9:memory:{POD}\n1:cpu,cpuacct:{POD}\n0::{POD}\n"
CASES: dict[str, tuple[str, dict[str, str], float | None, int | None, int]] = {
    "version 2 in a container": (
        "0::/\n",
        {"cpu.max": "50000 100000\n", "memory.max": "67108864\n", "memory.events": "low 0\noom 1\noom_kill 3\n"},
        0.5,
        67108864,
        3,
    ),
    "version 2, no limits": ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None, 0),
    "version 2, a parent's limit is the lower one": (
        "0::/user.slice/run.scope\n",
        {"user.slice/run.scope/cpu.max": "400000 100000", "user.slice/cpu.max": "150000 100000"},
        1.5,
        None,
        0,
    ),
    "version 1 in a container, whose own cgroup is mounted as the root": (
        V1,
        {
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "67108864\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        },
        0.5,
        67108864,
        1,
    ),
    "version 1, no limits": (
        V1,
        {
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        None,
        None,
        0,
    ),
    "nothing to read": ("", {}, None, None, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_limits_are_read_of_both_versions_inside_and_outside_of_containers(case: str, tmp_path: Path) -> None:
    """Else a worker that is throttled would say that nothing holds it back."""
    told, files, cpus, memory, kills = CASES[case]
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    proc.write_text(told, encoding="utf-8")
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    assert (cpu_limit(proc, root), memory_limit(proc, root), memory_kills(proc, root)) == (cpus, memory, kills)
