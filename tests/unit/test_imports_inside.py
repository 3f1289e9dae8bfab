"""The shape of the source: imports inside functions, names of classes, functions of the command line."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bench.structure import Module, circles, read

COMMAND_LINE = "a command's help, or the shell's completion, answers without it"
SIGNALS = "a signal ends the command with its exit code while the rest is still loading"
WORKER = "threads, cores and caches are settled before numpy or a GPU's library is loaded"
POD = "the door of the conductor's pod answers while the rest is still loading"
PROCESS = "a process loads only what it was started for"
OPTIONAL = "not installed everywhere"
LINUX = "measuring needs Linux, reporting does not"
DRAWING = "what draws takes half a second to load"
PARQUET = "pyarrow takes a third of a second to load, and logs are read without it"
QUANTILES = "scipy takes a third of a second to load, and what only renders needs none"
COMPILER = "numba takes a second to load, and most of physics does without it"

WHY = {
    "kts": COMMAND_LINE,
    "kts.app": COMMAND_LINE,
    "kts.app.catalog": COMMAND_LINE,
    "kts.app.exporter": COMMAND_LINE,
    "kts.app.measuring": LINUX,
    "kts.app.plans": COMMAND_LINE,
    "kts.app.profiles": LINUX,
    "kts.app.watching": COMMAND_LINE,
    "kts.arrivals.closed": WORKER,
    "kts.arrivals.poisson": WORKER,
    "kts.arrivals.trace": WORKER,
    "kts.cli.cluster_options": COMMAND_LINE,
    "kts.cli.doctor": COMMAND_LINE,
    "kts.cli.entry": SIGNALS,
    "kts.cli.main": COMMAND_LINE,
    "kts.cli.output": COMMAND_LINE,
    "kts.k8s.objects.manifests": COMMAND_LINE,
    "kts.k8s.pod.conductor": POD,
    "kts.physics.simulate": COMPILER,
    "kts.report.foretold": QUANTILES,
    "kts.report.writing": DRAWING,
    "kts.sharing.isolation": LINUX,
    "kts.sharing.mps": LINUX,
    "kts.spec.beside": COMMAND_LINE,
    "kts.spec.loader": COMMAND_LINE,
    "kts.spec.masking": COMMAND_LINE,
    "kts.spec.ready_made": COMMAND_LINE,
    "kts.spec.schema": COMMAND_LINE,
    "kts.stats": COMMAND_LINE,
    "kts.store.durable": LINUX,
    "kts.store.reader": PARQUET,
    "kts.store.writer": PARQUET,
    "kts.telemetry.nvml": OPTIONAL,
    "kts.worker.__main__": WORKER,
    "kts.worker.detect": OPTIONAL,
    "kts.worker.devices": OPTIONAL,
    "kts.worker.devices.cuda": OPTIONAL,
    "kts.worker.devices.torch_cuda": OPTIONAL,
    "kts.worker.environment": WORKER,
    "kts.worker.keeper": LINUX,
    "kts.worker.instrument": WORKER,
    "kts.worker.probe": OPTIONAL,
    "kts.worker.probe.__main__": PROCESS,
    "kts.worker.probe.compile": OPTIONAL,
    "kts.worker.sharing": OPTIONAL,
    "kts.worker.tenants.program": WORKER,
}


@cache
def _modules() -> dict[str, Module]:
    """Read once: it takes seconds."""
    return read(Path(__file__).parents[2])


def test_an_import_inside_a_function_has_a_reason() -> None:
    """Else arrows hide where no reader of a module's head sees them, and a circle with them."""
    modules = _modules()
    assert {name for name, module in modules.items() if module.inside} == set(WHY)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Else none of them can be read, or loaded, before the others."""
    assert circles(_modules()) == []


def test_no_class_name_exists_twice() -> None:
    """Else a reader must know the module to know what a `Kept` or a `Seen` is, and one word means two things."""
    modules = _modules()
    where: dict[str, list[str]] = {}
    for name, module in modules.items():
        for found in module.classes:
            where.setdefault(found, []).append(name)
    assert {found: names for found, names in where.items() if len(names) > 1} == {}


def test_a_function_of_the_command_line_is_read_at_a_glance() -> None:
    """Else it does more than parse and print: what parts are put together to is for `kts.app`."""
    modules = _modules()
    longest = {name: module.longest for name, module in modules.items() if name.startswith("kts.cli")}
    assert {name: lines for name, lines in longest.items() if lines > 60} == {}
