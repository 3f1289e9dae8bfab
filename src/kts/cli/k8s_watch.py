"""`kts k8s watch`: kts watch on every node with a GPU, with the rights it needs and no others."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, get_args

import typer

from kts import app as parts
from kts.cli.cluster_options import PANEL, Context, node_labels, taints_tolerated
from kts.cli.groups import grouped
from kts.cli.output import say
from kts.errors import UsageError
from kts.k8s.objects import rules
from kts.k8s.objects.names import DEFAULT_WATCH_NAMESPACE, NAMES_BY, WATCH_PORT
from kts.k8s.objects.settings import PullPolicyName
from kts.k8s.objects.watching import WatchSettings

app = typer.Typer(
    name="watch", help="kts watch on every node that has a GPU.", rich_markup_mode=None, add_completion=False
)


def _namespace(text: str) -> str:
    return rules.namespace("--namespace", text)


Where = Annotated[str, typer.Option("--namespace", help="Namespace, which holds nothing else.", callback=_namespace)]


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What is to be on the nodes. Each field is an option; see `kts.cli.groups`."""

    namespace: Where = DEFAULT_WATCH_NAMESPACE
    image: Annotated[str | None, typer.Option(help="Image of the whole kts. Default: this kts's.")] = None
    pull_policy: Annotated[str, typer.Option(help="Never, IfNotPresent or Always.", rich_help_panel=PANEL)] = "Never"
    names: Annotated[
        str, typer.Option(help="Who names pods: files (links to logs), kubelet (its own API), or none.")
    ] = "files"
    trust_kubelet: Annotated[
        bool, typer.Option("--trust-kubelet", help="With --names kubelet: also one that signs its own certificate.")
    ] = False
    events: Annotated[
        bool, typer.Option("--events", help="Tell what happens as events of the pod: a new neighbour, a tail doubled.")
    ] = False
    runtime_class: Annotated[
        str, typer.Option(help="RuntimeClass that brings NVML; '' for the cluster's default.", rich_help_panel=PANEL)
    ] = "nvidia"
    node_selector: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of the nodes. Default: those labelled as having a GPU.", rich_help_panel=PANEL),
    ] = None
    toleration: Annotated[
        list[str] | None, typer.Option(help="KEY[=VALUE][:EFFECT] to tolerate.", rich_help_panel=PANEL)
    ] = None

    def settings(self, image: str) -> WatchSettings:
        """The settings that the options ask for. UsageError naming the option that is wrong."""
        for option, value, known in (
            ("--names", self.names, NAMES_BY),
            ("--pull-policy", self.pull_policy, get_args(PullPolicyName)),
        ):
            if value not in known:
                raise UsageError(f"{option}: {value!r} is none", f"known: {', '.join(known)}")
        if self.trust_kubelet and self.names != "kubelet":
            raise UsageError("--trust-kubelet: the kubelet is not asked", "give --names kubelet, too")
        return WatchSettings(
            image=rules.image("--image", image),
            namespace=self.namespace,
            pull_policy=self.pull_policy,
            names=self.names,  # type: ignore[arg-type]  # it is one of them
            trust_kubelet=self.trust_kubelet,
            events=self.events,
            runtime_class=rules.name("--runtime-class", self.runtime_class),
            node_selector=node_labels(self.node_selector),
            tolerations=taints_tolerated(self.toleration),
        )


@app.command()
@grouped
def render(
    *,
    options: WatchOptions,
    without_namespace: Annotated[
        bool, typer.Option("--without-namespace", help="Leave the Namespace out: it is there.")
    ] = False,
) -> None:
    """Print the objects, for review or GitOps; `kubectl apply -f -` of them is `kts k8s watch install`."""
    settings = options.settings(options.image or parts.image_name("cpu", full=True))
    sys.stdout.write(parts.render_watching(settings, namespace=not without_namespace))


@app.command()
@grouped
def install(*, options: WatchOptions, context: Context = None) -> None:
    """Put it on every node with a GPU, or change what is there; wait until each node's is ready.

    It takes an administrator's rights, once. docs/watch-rights.md says what it sees, and what each right is for.
    """
    options.settings(options.image or "checked-before/anything-is-built")
    image = options.image or parts.watch_image(context, say)
    there = parts.install_watching(options.settings(image), context)
    say(f"{there.ready} of {there.nodes} nodes are watched; each pod serves /metrics at port {WATCH_PORT}")


@app.command()
def remove(*, namespace: Where = DEFAULT_WATCH_NAMESPACE, context: Context = None) -> None:
    """Take it away: the pods, which take their probes out of the kernel, then the rights."""
    there = parts.remove_watching(namespace, context)
    say("kts watch is removed" if there else f"nothing to remove in namespace {namespace}")
