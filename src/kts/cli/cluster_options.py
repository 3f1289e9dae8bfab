"""The options by which a user says where on a cluster a run goes: one value, shared by all commands that need it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from kts import app
from kts.errors import UsageError
from kts.k8s.objects import podtemplate, quantity, rules
from kts.k8s.objects.names import DEFAULT_JOIN_S, DEFAULT_KEEP_S, DEFAULT_NAMESPACE, ENV_EXTRA, ENV_WORKER_IMAGE

if TYPE_CHECKING:
    from kts.k8s.objects.settings import ClusterSettings

PANEL = "On Kubernetes"


def _namespace(text: str) -> str:
    return rules.namespace("--namespace", text)


Namespace = Annotated[
    str, typer.Option(help="Namespace of the run's objects.", callback=_namespace, rich_help_panel=PANEL)
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.", rich_help_panel=PANEL)]
Extra = Annotated[
    str, typer.Option(help="Variant of the image: cpu, torch or cupy.", envvar=ENV_EXTRA, rich_help_panel=PANEL)
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where on a cluster pods go. Each field is an option; see `kts.cli.groups`."""

    namespace: Namespace = DEFAULT_NAMESPACE
    image: Annotated[
        str | None,
        typer.Option(
            help="Worker image. Default: built and loaded here.", envvar=ENV_WORKER_IMAGE, rich_help_panel=PANEL
        ),
    ] = None
    runtime_class: Annotated[
        str | None,
        typer.Option(
            help="RuntimeClass of tenants; '' for none. Default: nvidia, where it is there.", rich_help_panel=PANEL
        ),
    ] = None
    resource: Annotated[
        str, typer.Option(help="What each tenant asks one of, e.g. nvidia.com/gpu.shared.", rich_help_panel=PANEL)
    ] = "nvidia.com/gpu"
    claim: Annotated[
        str, typer.Option(help="A DRA ResourceClaim that all tenants share, instead.", rich_help_panel=PANEL)
    ] = ""
    node: Annotated[
        str, typer.Option(help="Name of the node to run on. Default: one with enough slots.", rich_help_panel=PANEL)
    ] = ""
    node_selector: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE that the node must have.", rich_help_panel=PANEL)
    ] = None
    toleration: Annotated[
        list[str] | None, typer.Option(help="KEY[=VALUE][:EFFECT] to tolerate.", rich_help_panel=PANEL)
    ] = None

    def settings(self) -> ClusterSettings:
        """The settings that the options ask for. UsageError naming the option that is wrong."""
        from kts.k8s.objects.names import DEFAULT_IMAGE
        from kts.k8s.objects.settings import ClusterSettings

        resource = rules.resource("--resource", self.resource)
        return ClusterSettings(
            namespace=self.namespace,
            image=rules.image("--image", self.image or DEFAULT_IMAGE),
            runtime_class=self.runtime_class and rules.name("--runtime-class", self.runtime_class),
            resource="" if self.claim else resource,
            claim=rules.name("--claim", self.claim),
            node=rules.name("--node", self.node),
            node_selector=node_labels(self.node_selector),
            tolerations=taints_tolerated(self.toleration),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlace(Place):
    """The same, and what a run's pods are like."""

    extra: Extra = "torch"
    pull_policy: Annotated[str, typer.Option(help="Never, IfNotPresent or Always.", rich_help_panel=PANEL)] = "Never"
    pod_template: Annotated[
        Path | None, typer.Option(help="YAML merged into every pod of the run.", rich_help_panel=PANEL)
    ] = None
    pod_cpu: Annotated[
        str, typer.Option(help="CPUs of each tenant's pod. Default: 1, on device cpu no limit.", rich_help_panel=PANEL)
    ] = ""
    pod_memory: Annotated[
        str, typer.Option(help="Memory of each tenant's pod. Default: 4Gi, on device cpu 512Mi.", rich_help_panel=PANEL)
    ] = ""
    service_account: Annotated[
        str,
        typer.Option(
            help="ServiceAccount by which the conductor's pod sees its neighbours. Default in `kts run`: "
            "kts-conductor, where there is one.",
            rich_help_panel=PANEL,
        ),
    ] = ""
    join_seconds: Annotated[
        int, typer.Option(help="For all tenants to be there, once the conductor is.", min=1, rich_help_panel=PANEL)
    ] = DEFAULT_JOIN_S
    keep_seconds: Annotated[
        int, typer.Option(help="How long a run that is over waits to be fetched.", min=0, rich_help_panel=PANEL)
    ] = DEFAULT_KEEP_S

    egress_policy: Annotated[
        bool,
        typer.Option(
            "--egress-policy",
            help="Allow by NetworkPolicy what the pods must reach, as where a default-deny is seen.",
            rich_help_panel=PANEL,
        ),
    ] = False
    wait: Annotated[
        int,
        typer.Option(
            help="Seconds to wait for a free slot, or for a node that an autoscaler adds. Default: not at all.",
            metavar="SECONDS",
            min=0,
            rich_help_panel=PANEL,
        ),
    ] = 0

    def _check_variant(self) -> None:
        """UsageError where the image that the environment names is of another variant than was asked for."""
        named, variant = os.environ.get(ENV_WORKER_IMAGE), os.environ.get(ENV_EXTRA)
        if named and variant and self.image == named and self.extra != variant:
            raise UsageError(
                f"--extra {self.extra}: {ENV_WORKER_IMAGE} names {named}, which holds {variant}",
                "leave it out, or give --image",
            )

    def run_settings(self, *, telemetry: bool, dcgm: str) -> ClusterSettings:
        """The settings of a run that is sampled so. UsageError naming the option that is wrong."""
        import msgspec

        from kts.k8s.objects.settings import PullPolicyName

        self._check_variant()
        policies = get_args(PullPolicyName)
        if self.pull_policy not in policies:
            raise UsageError(f"--pull-policy: no policy {self.pull_policy!r}", f"known: {', '.join(policies)}")
        return msgspec.structs.replace(
            self.settings(),
            pull_policy=cast(PullPolicyName, self.pull_policy),
            cpu=_quantity("--pod-cpu", self.pod_cpu, "2"),
            memory=_quantity("--pod-memory", self.pod_memory, "8Gi"),
            pod_template=_template(self.pod_template),
            keep_s=self.keep_seconds,
            join_s=self.join_seconds,
            wait_s=self.wait,
            egress=self.egress_policy,
            telemetry=telemetry,
            dcgm=app.exporter_in_pods(dcgm, telemetry=telemetry),
            service_account=rules.name("--service-account", self.service_account),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """The same run on many nodes, and how."""

    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="SELECTOR",
            help="Once on each node whose labels match, as kubectl's -l; '' for all.",
            rich_help_panel=PANEL,
        ),
    ] = None
    at_once: Annotated[
        int, typer.Option(min=1, help="With --nodes: so many nodes at a time.", rich_help_panel=PANEL)
    ] = 1
    queue: Annotated[
        str, typer.Option(help="With --nodes: Kueue's LocalQueue that admits the Job.", rich_help_panel=PANEL)
    ] = ""
    full_image: Annotated[
        str | None,
        typer.Option(
            help="With --nodes: image of the whole kts. Default: built and loaded here.", rich_help_panel=PANEL
        ),
    ] = None

    def check(self, on: str, *, overwrite: bool) -> None:
        """UsageError for what does not go together, or is for Kubernetes alone."""
        if self.nodes is None:
            given = {"--at-once": self.at_once != 1, "--queue": self.queue, "--full-image": self.full_image}
            for option in (option for option, value in given.items() if value):
                raise UsageError(f"{option} is for runs on many nodes", "give --nodes SELECTOR, too")
            return
        if on != "k8s":
            raise UsageError(f"--nodes: --on {on} has no nodes", "--on k8s --nodes SELECTOR")
        if overwrite:
            raise UsageError("--overwrite: a fleet replaces nothing", "give another directory with --out")
        rules.name("--queue", self.queue)
        if self.full_image:
            rules.image("--full-image", self.full_image)


def _quantity(option: str, text: str, example: str) -> str:
    amount = quantity.value(text)
    if text and (amount is None or amount < 0):
        raise UsageError(f"{option}: {text!r} is not a quantity of Kubernetes", f"for example {option} {example}")
    return text


def node_labels(given: list[str] | None) -> dict[str, str]:
    """What ``--node-selector`` says. UsageError for what is no label."""
    return dict(_pair(text) for text in given or ())


def taints_tolerated(given: list[str] | None) -> tuple[dict[str, Any], ...]:
    """What ``--toleration`` says. UsageError for what is none."""
    return tuple(_toleration(text) for text in given or ())


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and rules.is_key(key)):
        raise UsageError(f"--node-selector: {text!r} is not KEY=VALUE", "for example --node-selector disktype=ssd")
    if not rules.is_value(value):
        raise UsageError(f"--node-selector: no label has the value {value!r}", rules.VALUE)
    return key, value


def _toleration(text: str) -> dict[str, Any]:
    rest, _, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    if not rules.is_key(key) or effect not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise UsageError(f"--toleration: {text!r} is not KEY[=VALUE][:EFFECT]", "for example nvidia.com/gpu:NoSchedule")
    if not rules.is_value(value):
        raise UsageError(f"--toleration: no taint has the value {value!r}", rules.VALUE)
    how = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **how, **({"effect": effect} if effect else {})}


def _template(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--pod-template: {path}: {error.strerror}", "give a file with a pod template") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--pod-template: {path}: {' '.join(str(error).split())}", "it must be YAML") from error
    try:
        return podtemplate.checked(content)
    except UsageError as error:
        raise UsageError(f"--pod-template: {path}: {error.what}", error.remedy) from None
