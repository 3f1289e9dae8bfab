"""Two pods of two namespaces, as they are, seen by `kts k8s watch`, scraped by a real Prometheus, until alerts fire.

    python examples/watch/on_a_node.py OUT --kts IMAGE --programs IMAGE

Needs KUBECONFIG of a cluster with two slots of one GPU, kubectl, and a `prometheus` that reaches the cluster's pods, as
it does on a node. ``--kts``: an image of the whole kts that the node has; ``--programs``: one with Python and torch.
The pods are those of node/pods.yaml: the second begins once the first has been seen alone. Prometheus has the rules of
deploy/watch/rules.yaml; no expression is changed, but alerts need not last longer than ``--for-at-most`` seconds.

OUT gets what each said; all else is taken away. Exit code 5 where something did not come about: what was seen is in
OUT, and printed; 4 where something is missing that this needs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from kts.errors import DataError, MeasurementError, SetupError

sys.path.insert(0, str(Path(__file__).parents[1]))
from ending import plain

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMESPACE, PORT = "kts-watch", 9478
SELECTED = "app.kubernetes.io/name=kts,app.kubernetes.io/component=watch"
IMAGE = "localhost/programs:v1"
GPU = "uuid,name,driver_version,compute_mode,persistence_mode,mig.mode.current,power.limit,clocks.max.sm"
TRACED = Path("/sys/kernel/tracing/uprobe_events")
MOST_S = 300
_DELETE = ("kubectl", "delete", "namespace", "--ignore-not-found")
KTS = (sys.executable, "-m", "kts", "k8s", "watch")
Object = dict[str, Any]


class FailedError(MeasurementError):
    """Something did not come about; what was seen."""


def said(*argv: str, given: str | None = None, check: bool = True) -> str:
    """What a command prints; FailedError with it where it fails."""
    try:
        done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=MOST_S, check=False)
    except subprocess.TimeoutExpired:
        if check:
            raise FailedError(f"{' '.join(argv)}: no answer within {MOST_S} s") from None
        return ""
    if check and done.returncode:
        raise FailedError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout if check else done.stdout + done.stderr


def ready() -> None:
    """SetupError where a program, or a cluster that answers, is missing: before anything is made."""
    for program in ("kubectl", "prometheus"):
        if not shutil.which(program):
            raise SetupError(f"{program} is not on the PATH", "install it, or add the folder in which it is to PATH")
    try:
        said("kubectl", "get", "namespaces", "--request-timeout=10s")
    except FailedError as error:
        what = f"no cluster answers: {error.what.splitlines()[-1]}"
        raise SetupError(what, "set KUBECONFIG to that of a cluster, and see that it is up") from None


def until(met: Callable[[], Any], what: str, within_s: float, seen: Callable[[], Any]) -> Any:
    """What ``met`` returns once it is true; FailedError with what is seen where it does not become so."""
    began = time.monotonic()
    while not (found := met()):
        if time.monotonic() - began > within_s:
            raise FailedError(f"not after {within_s:.0f} s: {what}; seen: {seen()}")
        time.sleep(0.3)
    step(f"{what} ({time.monotonic() - began:.1f} s)")
    return found


BEGAN = time.monotonic()


def step(text: str) -> None:
    """A line with the time."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def fetched(address: str) -> str:
    """A page; empty where it cannot be had."""
    try:
        with urllib.request.urlopen(f"http://{address}", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def pods_of(file: Path, image: str) -> list[Object]:
    """The objects of the manifest, with that image. DataError where no pod is among them."""
    try:
        text = file.read_text(encoding="utf-8").replace(IMAGE, image)
        found = [one for one in yaml.safe_load_all(text) if one]
    except (yaml.YAMLError, UnicodeDecodeError):
        found = []
    if not all(isinstance(one, dict) for one in found) or "Pod" not in {one.get("kind") for one in found}:
        raise DataError(f"{file}: not a manifest with a pod", f"write one as {HERE / 'node/pods.yaml'}")
    return found


def unit(pod: Object) -> str:
    """As kts watch calls it."""
    about = pod["metadata"]
    return f"{about['namespace']}/{about['name']}/{pod['spec']['containers'][0]['name']}"


def apply(obj: Object) -> None:
    """One object."""
    said("kubectl", "apply", "-f", "-", given=json.dumps(obj))


def programs(namespace: str) -> Object:
    """examples/programs, as a ConfigMap."""
    data = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "examples/programs").glob("*.py"))}
    about = {"name": "programs", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def watchers() -> dict[str, str]:
    """Where each node's pod serves."""
    found = json.loads(said("kubectl", "-n", NAMESPACE, "get", "pods", "-l", SELECTED, "-o", "json"))["items"]
    return {one["spec"]["nodeName"]: f"{one['status']['podIP']}:{PORT}" for one in found}


def of_rules(for_at_most_s: float | None) -> Object:
    """The rules as a file of Prometheus. ``for_at_most_s``: an alert need not last longer to fire."""
    rules: Object = yaml.safe_load((ROOT / "deploy/watch/rules.yaml").read_text(encoding="utf-8"))["spec"]
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if for_at_most_s is not None and "for" in rule:
            rule["for"] = f"{for_at_most_s:.0f}s"  # each has 1 min or more
    return rules


@contextmanager
def prometheus(out: Path, targets: dict[str, str], rules: Object, every_s: float) -> Iterator[Callable[[str], Any]]:
    """It scrapes the targets, which are called as their nodes; asked by its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{free.getsockname()[1]}"
    job = {
        "job_name": "kts-watch",
        "honor_labels": True,  # the namespace, pod and container that figures are about
        "static_configs": [{"targets": [where], "labels": {"instance": node}} for node, where in targets.items()],
    }
    every = f"{every_s:g}s"
    (out / "rules.yaml").write_text(yaml.safe_dump(rules, sort_keys=False), encoding="utf-8")
    config = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }
    (out / "prometheus.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    command = ["prometheus", "--config.file=prometheus.yaml", f"--web.listen-address={at}", "--storage.tsdb.path=data"]

    def ask(path: str) -> Any:
        if process.poll() is not None:
            raise FailedError(f"prometheus has ended: {(out / 'prometheus.log').read_text()[-2000:]}")
        return json.loads(fetched(f"{at}/api/v1/{path}") or "{}").get("data") or {}

    with (
        (out / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, cwd=out, stdout=log, stderr=log) as process,
    ):
        try:
            yield ask
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(out / "data", ignore_errors=True)


def query(text: str) -> str:
    """A path of the API."""
    return f"query?{urlencode({'query': text})}"


def firing(ask: Callable[[str], Any]) -> dict[str, str]:
    """Alerts, and the state of each."""
    alerts = ask("alerts").get("alerts", [])
    order = ("inactive", "pending", "firing")
    found: dict[str, str] = {}
    for one in alerts:
        name, state = one["labels"]["alertname"], one["state"]
        found[name] = max(found.get(name, "inactive"), state, key=order.index)
    return found


def _fires(ask: Callable[[str], Any], alert: str) -> bool:
    return firing(ask).get(alert) == "firing"


def figures(where: str) -> dict[str, str]:
    """The lines of /metrics that are about a unit's figures."""
    wanted = re.compile(r"^kts_watch_(degradation\w+|alone_seconds|shared_seconds|round_trips\w+)\{", re.MULTILINE)
    lines = (line for line in fetched(f"{where}/metrics").splitlines() if wanted.match(line))
    return dict(line.rsplit(" ", 1) for line in lines)


def alone_s(where: str, name: str) -> float:
    """How long the unit was seen without company."""
    lines = figures(where).items()
    return max((float(v) for k, v in lines if k.startswith("kts_watch_alone_seconds{") and f'"{name}"' in k), default=0)


def probes() -> list[str]:
    """Lines of kts watch among the kernel's probes; empty where this is no node, or they cannot be read."""
    try:
        return [line for line in TRACED.read_text(encoding="utf-8").splitlines() if ":kts_" in line]
    except OSError:
        return []


def keep(out: Path, name: str, text: str) -> None:
    """One more file."""
    (out / name).write_text(text, encoding="utf-8")


def keep_all(out: Path, asked: argparse.Namespace, pods: Sequence[Object]) -> None:
    """What the cluster says; nothing fails here."""
    keep(out, "pods.txt", said("kubectl", "get", "pods", "--all-namespaces", "-o", "wide", check=False))
    keep(out, "daemonset.yaml", said(*KTS, "render", "--image", asked.kts, check=False))
    for pod in pods:
        about = pod["metadata"]
        words = said("kubectl", "-n", about["namespace"], "logs", about["name"], "--tail=20", check=False)
        keep(out, f"log-{about['namespace']}.txt", words)
    told = said("kubectl", "-n", NAMESPACE, "logs", "-l", SELECTED, "--tail=200", check=False)
    told += said("kubectl", "-n", NAMESPACE, "describe", "pods", check=False)
    keep(out, "log-kts-watch.txt", told)


def gpu(out: Path, when: str) -> str:
    """Its settings; empty where there is no nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        return ""
    told = said("nvidia-smi", f"--query-gpu={GPU}", "--format=csv")
    keep(out, f"gpu-{when}.csv", told)
    return told


def watched(asked: argparse.Namespace, pods: Sequence[Object], out: Path) -> None:
    """Until all that is wanted has come about. FailedError for what has not."""
    first, *others = pods
    apply(first)
    said(*KTS, "install", "--image", asked.kts)
    targets = watchers()
    step(f"the DaemonSet serves: {targets}")
    with prometheus(out, targets, of_rules(asked.for_at_most), asked.every) as ask:
        try:
            where = targets[_node(first)]
            until(
                lambda: alone_s(where, unit(first)) >= asked.alone,
                f"{unit(first)} is seen alone for {asked.alone:.0f} s",
                asked.within,
                lambda: (figures(where), _phase(pods)),
            )
            for pod in others:
                apply(pod)
            names = {unit(pod) for pod in pods}
            series = query("group by (unit, namespace, pod, container, gpu) (kts_watch_round_trips_per_second > 0)")
            until(
                lambda: names <= {one["metric"].get("unit") for one in ask(series).get("result", [])},
                f"Prometheus has {' and '.join(sorted(names))}",
                asked.within,
                lambda: (ask(series), _phase(pods)),
            )
            for alert in asked.alert:
                until(
                    partial(_fires, ask, alert),
                    f"{alert} fires",
                    asked.within,
                    lambda: (firing(ask), figures(where)),
                )
            began = time.monotonic()
            until(
                lambda: time.monotonic() - began >= asked.seconds,
                f"it was watched for {asked.seconds:.0f} s more",
                asked.seconds + 1,
                lambda: "",
            )
        finally:
            keep(out, "probes.txt", "\n".join(probes()))
            keep(out, "alerts.json", json.dumps(ask("alerts"), indent=1))
            keep(out, "series.json", json.dumps(ask(query('{job="kts-watch"}')), indent=1))
            keep(out, "targets.json", json.dumps(ask("targets"), indent=1))
            for node, at in targets.items():
                keep(out, f"metrics-{node}.txt", fetched(f"{at}/metrics"))
                keep(out, f"page-{node}.html", fetched(f"{at}/"))


def _phase(pods: Sequence[Object]) -> dict[str, str]:
    asked = ("-o", "jsonpath={.status.phase}: {.status.containerStatuses[*].state}")
    kind = ("kubectl", "get", "pod")
    return {
        unit(pod): said(*kind, pod["metadata"]["name"], "-n", pod["metadata"]["namespace"], *asked, check=False)
        for pod in pods
    }


def _node(pod: Object) -> str:
    """On which it was placed."""
    about = pod["metadata"]
    command = ("kubectl", "-n", about["namespace"], "get", "pod", about["name"], "-o", "jsonpath={.spec.nodeName}")
    found = until(lambda: said(*command), f"{unit(pod)} is placed", 60, lambda: _phase([pod]))
    return str(found)


def main(argv: Sequence[str]) -> int:
    """0 where all came about, and the GPU is as it was; else an error as those of kts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kts", required=True, help="image of the whole kts")
    parser.add_argument("--programs", default=IMAGE, help="image with Python and torch")
    parser.add_argument("--pods", type=Path, default=HERE / "node/pods.yaml", help="namespaces and pods")
    parser.add_argument(
        "--alert", action="append", help="which shall fire; default: the first two of DF99 and newcomers"
    )
    parser.add_argument("--alone", type=float, default=10, help="seconds before the second pod begins")
    parser.add_argument("--seconds", type=float, default=0, help="that it is watched on, once alerts have fired")
    parser.add_argument("--for-at-most", type=float, help="seconds that an alert must last; default: as in the rules")
    parser.add_argument("--every", type=float, default=15, help="seconds between two scrapes, and two evaluations")
    parser.add_argument("--within", type=float, default=900, help="seconds for each thing that is waited for")
    asked = parser.parse_args(argv)
    asked.alert = asked.alert or ["KtsNewNeighbour", "KtsSharingCostsTail"]
    out = asked.out.resolve()
    objects = pods_of(asked.pods, asked.programs)
    ready()
    out.mkdir(parents=True, exist_ok=True)
    pods = [one for one in objects if one["kind"] == "Pod"]
    failed = ""
    before = gpu(out, "before")
    with ExitStack() as stack:
        stack.callback(lambda: step(said(*KTS, "remove", check=False).strip()))
        for one in objects:
            if one["kind"] == "Namespace":
                name = one["metadata"]["name"]
                stack.callback(said, *_DELETE, name, "--timeout=90s", check=False)
                stack.callback(
                    said, *_DELETE, name, "--wait=false", check=False
                )  # all at once, then each is waited for
                apply(one)
                apply(programs(name))
                said("kubectl", "-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
            elif one["kind"] != "Pod":
                apply(one)
        try:
            watched(asked, pods, out)
        except FailedError as error:
            failed = str(error)
        finally:
            keep_all(out, asked, pods)
    if left := probes():
        failed += f"\nprobes are left: {left}"
    after = gpu(out, "after")
    if before != after:
        failed += f"\nthe GPU is not as it was: {before} {after}"
    if failed:
        raise FailedError(failed.strip(), f"see {out}")
    step("all came about, all is taken away")
    return 0


if __name__ == "__main__":
    with plain():
        sys.exit(main(sys.argv[1:]))
