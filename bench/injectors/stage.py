"""What one trial is made of: the experiment, and who acts upon its tenant behind its back."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.injectors.cgroups import Switch
from bench.injectors.tools import Beat, Did, Tools, tools
from kts.backends.placement import place, topology

SUBJECT, COMPANY = "v", "n"
Device = Literal["cpu", "cuda"]
Victim = Literal["ours", "open", "memory", "traced", "reader"]
"""``ours``: a closed loop of kts. ``open``: an open one. ``memory``: one whose arrays no cache holds. ``traced``: a
program of launches and waits. ``reader``: one that reads a file, and prints lines."""

ROUNDS, SECONDS = 6, 3.0
FILE_BYTES = 64 << 20
_HERE = Path(__file__).parent


@dataclass
class Stage:
    """A trial before it runs. What acts: ``acting``, names and settings of `acts`; ``others``, command lines; and what
    ``beat`` asks for. ``settings``: how strongly. ``did``: what acted, by its own account, once the trial is over."""

    folder: Path
    device: Device
    victim: Victim
    rng: random.Random
    tools: Tools = field(default_factory=tools)
    env: dict[str, str] = field(default_factory=dict)
    company: dict[str, Any] = field(default_factory=dict)
    acting: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    others: list[list[str]] = field(default_factory=list)
    did: list[Did] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.beat = Beat(self.folder / "beat")
        cores = sorted(os.sched_getaffinity(0))
        programs = [COMPANY, *([SUBJECT] if self.victim in ("traced", "reader") else [])]
        placed = place([SUBJECT, COMPANY], self.device, cores, topology(cores), programs)
        self.cores, self.spare = placed.tenants[SUBJECT], placed.conductor
        self.company = self.neighbour()

    def drawn(self, name: str, low: float, high: float) -> float:
        """A strength of what is injected, noted in ``settings``."""
        self.settings[name] = round(self.rng.uniform(low, high), 3)
        return self.settings[name]

    @property
    def file(self) -> Path:
        """Of the reader."""
        return self.folder / "file"

    def acts(self, what: str, cores: tuple[int, ...], **settings: object) -> None:
        """One such process on each of these cores."""
        self.acting += [(what, {"core": core, **settings}) for core in cores]

    def switched(self, switch: Switch) -> None:
        """The subject's process in that cgroup, whose limit is on while the beat is fresh."""
        self.beat.asks(groups=[switch.procs])
        self.acting.append(("switch", {"file": switch.file, "on": switch.on, "off": switch.off}))

    def uninvited(self, launch_ms: float) -> list[str]:
        """A process on the GPU that is no tenant, busy while the beat is fresh."""
        words = (
            f"beat={self.beat.path}",
            f"kernel_us={round(1e3 * launch_ms)}",
            "trips=1",
            "host_work=0",
            "think_us=0",
        )
        return [sys.executable, str(_HERE / "eager.py"), *words]

    def prepare_file(self) -> None:
        """Makes the file that the reader reads, and whoever disturbs it."""
        if not self.file.exists():
            self.file.write_bytes(os.urandom(FILE_BYTES))
            os.sync()

    def neighbour(self, what: str = "neighbour", **settings: object) -> dict[str, Any]:
        """The tenant that beats, off the subject's cores; it does nothing else but what ``settings`` ask."""
        cores = ",".join(map(str, self.spare))
        argv = self.tools.argv(what, self.beat.path, cores=cores, **settings)
        return {"workload": "command", "command": argv, "trace": "off", "env": {"KTS_SETTLE_S": "0.5"}}

    def program(self, gpu: str, **shape: object) -> dict[str, Any]:
        """A traced program: on the stand-in of a GPU, of which there is one for each name; or of PyTorch."""
        if self.device == "cuda":
            words = [f"{name}={value}" for name, value in shape.items()]
            return {"workload": "command", "command": [sys.executable, str(_HERE / "eager.py"), *words]}
        from tests.helpers_tracer import standin

        made = standin()
        env = {**made.env(), "KTS_CUPTI": str(made.cupti), "STANDIN_GPU": str(self.folder / gpu)}
        argv = made.argv(iterations=0, **shape)
        return {"workload": "command", "command": argv, "env": env, "trace": "calls"}

    def experiment(self) -> str:
        """The text of the experiment file."""
        subject = {**self._subject(), "seconds": SECONDS, "settle_seconds": 3}
        inside = {"LD_PRELOAD": str(self.tools.preload), "INJECT_BEAT": str(self.beat.path)}
        if subject["workload"] == "command":
            subject["env"] = {**subject.get("env", {}), **inside}
        else:
            self.env |= {"INJECT_TENANT": SUBJECT, **inside}
        tenants = {SUBJECT: subject, COMPANY: {"seconds": SECONDS, "settle_seconds": 2, **self.company}}
        asked = {"rounds": ROUNDS, "precision": None, "subject": SUBJECT, "device": self.device}
        return json.dumps({"name": "trial", **asked, "seed": self.rng.randrange(1 << 30), "tenants": tenants})

    def _subject(self) -> dict[str, Any]:
        match self.victim:
            case "ours" if self.device == "cuda":
                return {"workload": "fft", "target_ms": 1.5, "think_ms": 2}
            case "ours":
                return {"workload": "fft", "size": 256}
            case "open":
                return {"workload": "fft", "size": 192, "arrivals": "poisson", "rate_hz": 120}
            case "memory":
                return {"workload": "fft", "size": 1024}
            case "traced":
                # Beside a GPU it computes or spins all the time. After a pause it would wait for its core before its
                # iteration, and then have it for longer than one takes: thieves would cost it nothing.
                pause_us = 0 if self.device == "cuda" else 500
                return self.program("gpu", trips="2,4", kernel_us=100, host_work=200, think_us=pause_us)
            case "reader":
                return {"workload": "command", "command": [sys.executable, str(_HERE / "reader.py"), str(self.file)]}

    @contextmanager
    def played(self) -> Iterator[None]:
        """All that acts, until the end of the context."""
        if self.victim == "reader":
            self.prepare_file()
        with ExitStack() as stack:
            for what, settings in self.acting:
                stack.enter_context(self.tools.acting(what, self.beat.path, self.did, **settings))
            for argv in self.others:
                process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
                stack.callback(process.wait)
                stack.callback(process.kill)
            yield
