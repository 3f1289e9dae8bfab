"""`kts doctor`: what can be measured on this machine, and what to do about the rest."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import typer

from kts.cli.options import Json
from kts.errors import SetupError


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``status``: ok; note: works, with a limit; missing: cannot be used."""

    name: str
    status: str
    found: str
    remedy: str = ""


def doctor(as_json: Json = False) -> None:
    """Say what can be measured here, and what is missing."""
    from kts.cli.output import print_plain_json

    devices = [asdict(check) for check in _devices()]
    checks = [asdict(check) for check in _checks()]
    usable = sys.platform.startswith("linux") and any(device["status"] != "missing" for device in devices)
    if as_json:
        print_plain_json({"can_measure": usable, "devices": devices, "checks": checks})
    else:
        for row in devices + checks:
            sys.stdout.write(f"{row['status']:<8} {row['name']:<12} {row['found']}\n")
            if row["remedy"]:
                sys.stdout.write(f"{'':<21} try: {row['remedy']}\n")
        sys.stdout.write(f"\n{_conclusion(usable, devices)}\n")
    if not usable:
        raise typer.Exit(SetupError.exit_code)


def _conclusion(usable: bool, devices: list[dict[str, str]]) -> str:
    if not usable:
        return "Nothing can be measured here; `kts report` and `kts compare` work on runs made elsewhere."
    if devices[0]["status"] == "missing":
        return "This machine can measure sharing of one CPU core (not of a GPU): kts run demo"
    return "This machine can measure sharing of its GPU: kts run demo"


def _devices() -> list[Check]:
    from kts.worker.detect import choose, cuda_driver

    driver = cuda_driver()
    gpus = "; ".join(f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in driver.devices)
    cpu = Check("device cpu", "ok", "one core shared by all tenants, labelled as such; needs numpy only")
    if not driver.devices:
        remedy = "install the NVIDIA driver, and give the container the GPU; without one, device cpu is used"
        return [Check("device cuda", "missing", driver.problem, remedy), cpu]
    try:
        library = choose("cuda", "auto")[1]
    except SetupError as error:
        return [Check("device cuda", "missing", f"{gpus}; {error.what}", error.remedy), cpu]
    return [Check("device cuda", "ok", f"{gpus}; CUDA {driver.cuda_version}, through {library}"), cpu]


def _checks() -> list[Check]:
    return [_system(), _cores(), *_libraries(), _governor(), _load()]


def _system() -> Check:
    if sys.platform.startswith("linux"):
        return Check("system", "ok", f"Linux, Python {sys.version.split()[0]}")
    return Check("system", "missing", f"{sys.platform}: measuring needs Linux; reporting runs anywhere")


def _cores() -> Check:
    from kts.worker.detect import cpu_model
    from kts.worker.environment import usable_cores

    count = len(usable_cores())
    found = f"{count} usable ({cpu_model()})"
    if count == 1:
        return Check("cores", "note", found, "a second core keeps kts itself off the tenants' core")
    if count < 3:
        return Check("cores", "note", found, "3 or more give each of two tenants on a GPU a core of its own")
    return Check("cores", "ok", f"{found}: up to {count - 1} tenants on a GPU get a core of their own")


def _libraries() -> list[Check]:
    from kts.worker.detect import cuda_devices, installed
    from kts.worker.environment import LIBRARIES, library_version

    needed = bool(cuda_devices())
    rows = []
    for name in LIBRARIES:
        if installed(name):
            rows.append(Check(name, "ok", library_version(name) or "installed"))
        else:
            remedy = f"pip install 'kube-timeslice-profiler[{name}]'" if needed else ""
            rows.append(Check(name, "missing" if needed else "note", "not installed (only a GPU needs it)", remedy))
    return rows


def _governor() -> Check:
    from kts.worker.environment import governor

    found = governor()
    if found in ("", "performance"):
        return Check("governor", "ok", found or "not offered by this system")
    return Check("governor", "note", found, "cpupower frequency-set -g performance makes CPU figures steadier")


def _load() -> Check:
    from kts.worker.environment import load_average, usable_cores

    found = load_average()
    busy = float(found.split()[0]) if found else 0.0
    if busy > 0.5 * len(usable_cores()):
        return Check(
            "load", "note", f"load average {found}", "other programs disturb tails; stop them before measuring"
        )
    return Check("load", "ok", f"load average {found}" if found else "not told by this system")
