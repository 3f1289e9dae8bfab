"""The options by which a user says where on a cluster a run goes, shared by all commands that need them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from kts.cli.options import checked_dcgm
from kts.errors import UsageError
from kts.k8s.objects.names import DEFAULT_JOIN_S, DEFAULT_KEEP_S

if TYPE_CHECKING:
    from kts.k8s.objects.settings import ClusterSettings

PANEL = "On Kubernetes"

Namespace = Annotated[str, typer.Option(help="Namespace of the run's objects.", rich_help_panel=PANEL)]
Context = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig.", show_default=False, rich_help_panel=PANEL)
]
Image = Annotated[
    str | None,
    typer.Option(help="Worker image. Default: built and loaded here.", show_default=False, rich_help_panel=PANEL),
]
PullPolicy = Annotated[str, typer.Option(help="Never, IfNotPresent or Always.", rich_help_panel=PANEL)]
RuntimeClass = Annotated[str, typer.Option(help="RuntimeClass of tenants; '' for none.", rich_help_panel=PANEL)]
Resource = Annotated[
    str, typer.Option(help="What each tenant asks one of, e.g. nvidia.com/gpu.shared.", rich_help_panel=PANEL)
]
Claim = Annotated[str, typer.Option(help="A DRA ResourceClaim that all tenants share, instead.", rich_help_panel=PANEL)]
Node = Annotated[str, typer.Option(help="Node to run on. Default: one with enough slots.", rich_help_panel=PANEL)]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE that the node must have.", show_default=False, rich_help_panel=PANEL),
]
Toleration = Annotated[
    list[str] | None,
    typer.Option(help="KEY[=VALUE][:EFFECT] to tolerate.", show_default=False, rich_help_panel=PANEL),
]
PodTemplate = Annotated[
    Path | None,
    typer.Option(help="YAML merged into every pod of the run.", show_default=False, rich_help_panel=PANEL),
]

PodCpu = Annotated[
    str,
    typer.Option(help="CPUs of each tenant's pod. Default: 1, on device cpu no limit.", rich_help_panel=PANEL),
]
PodMemory = Annotated[
    str,
    typer.Option(help="Memory of each tenant's pod. Default: 4Gi, on device cpu 512Mi.", rich_help_panel=PANEL),
]
JoinSeconds = Annotated[
    int, typer.Option(help="For all tenants to be there, once the conductor is.", min=1, rich_help_panel=PANEL)
]
KeepSeconds = Annotated[
    int, typer.Option(help="How long a run that is over waits to be fetched.", min=0, rich_help_panel=PANEL)
]
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")


def settings_from(
    *,
    namespace: str,
    image: str | None,
    pull_policy: str,
    runtime_class: str,
    resource: str,
    claim: str,
    node: str,
    node_selector: list[str] | None,
    toleration: list[str] | None,
    pod_template: Path | None,
    pod_cpu: str = "",
    pod_memory: str = "",
    join_seconds: int = DEFAULT_JOIN_S,
    keep_seconds: int = DEFAULT_KEEP_S,
    telemetry: bool = True,
    dcgm: str = "",
) -> ClusterSettings:
    """The settings that the options ask for. UsageError naming the option that is wrong."""
    from kts.k8s.objects.names import DEFAULT_IMAGE
    from kts.k8s.objects.settings import ClusterSettings, PullPolicyName

    if pull_policy not in get_args(PullPolicyName):
        raise UsageError(f"--pull-policy: no policy {pull_policy!r}", f"known: {', '.join(get_args(PullPolicyName))}")
    return ClusterSettings(
        namespace=namespace,
        image=image or DEFAULT_IMAGE,
        pull_policy=cast(PullPolicyName, pull_policy),
        runtime_class=runtime_class,
        resource="" if claim else resource,
        claim=claim,
        node=node,
        node_selector=dict(_pair(text) for text in node_selector or ()),
        tolerations=tuple(_toleration(text) for text in toleration or ()),
        cpu=_quantity("--pod-cpu", pod_cpu, "2"),
        memory=_quantity("--pod-memory", pod_memory, "8Gi"),
        pod_template=_template(pod_template),
        keep_s=keep_seconds,
        join_s=join_seconds,
        telemetry=telemetry,
        dcgm=checked_dcgm(dcgm, telemetry=telemetry),
    )


def _quantity(option: str, text: str, example: str) -> str:
    if text and not _QUANTITY.fullmatch(text):
        raise UsageError(f"{option}: {text!r} is not a quantity of Kubernetes", f"for example {option} {example}")
    return text


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--node-selector: {text!r} is not KEY=VALUE", "for example --node-selector disktype=ssd")
    return key, value


def _toleration(text: str) -> dict[str, Any]:
    rest, _, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    if not key or effect not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise UsageError(f"--toleration: {text!r} is not KEY[=VALUE][:EFFECT]", "for example nvidia.com/gpu:NoSchedule")
    how = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **how, **({"effect": effect} if effect else {})}


def _template(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--pod-template: {path}: {error.strerror}", "give a file with a pod template") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--pod-template: {path}: {' '.join(str(error).split())}", "it must be YAML") from error
    if not isinstance(content, dict) or not content.keys() <= {"metadata", "spec"}:
        raise UsageError(f"--pod-template: {path} is no pod template", "give metadata and spec, as in a Job's template")
    return content
