"""`kts k8s time-slicing`: how many tenants one GPU of a cluster takes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kts.cli.cluster_options import Context
from kts.cli.output import say
from kts.errors import UsageError
from kts.k8s.cluster import sharing
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.sharing import DevicePlugin
from kts.k8s.objects import rules
from kts.k8s.objects.pluginconfig import LEAST, difference, with_replicas
from kts.shown import clean


def time_slicing(  # noqa: PLR0917 - typer turns parameters into options
    replicas: Annotated[int | None, typer.Option(help="Slots to make of each GPU, 2 or more.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the cluster. Without it the change is only shown.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Put back the config that --apply first replaced.")
    ] = False,
    key: Annotated[str, typer.Option(help="Config to change, where nodes use different ones.")] = "",
    resource: Annotated[
        str, typer.Option(help="What is offered in slots, e.g. nvidia.com/mig-1g.5gb for MIG devices.")
    ] = "nvidia.com/gpu",
    context: Context = None,
) -> None:
    """Change how many slots NVIDIA's device plugin makes of each GPU.

    Shows the change to the plugin's config. --apply makes it, restarts the plugin, and waits until the nodes offer
    the slots. It takes an administrator's rights, and disturbs whoever measures on those nodes.
    """
    if restore and (replicas is not None or apply):
        raise UsageError("--restore stands alone", "give --restore, or --replicas N with or without --apply")
    if not restore and replicas is None:
        raise UsageError("neither --replicas nor --restore is given", "kts k8s time-slicing --replicas 4")
    if replicas is not None and replicas < LEAST:
        raise UsageError(
            f"--replicas: {replicas} is too few, the device plugin takes {LEAST} or more",
            "--restore puts back the config from before",
        )
    api = Api.connect(context)
    plugin = sharing.find(api, key, rules.resource("--resource", resource))
    if replicas is None:
        _restore(api, plugin)
    else:
        _change(api, plugin, replicas, apply=apply)


def _change(api: Api, plugin: DevicePlugin, replicas: int, *, apply: bool) -> None:
    text = with_replicas(plugin.text, replicas, plugin.resource)
    sharing.check_used(plugin)
    say(plugin.words())
    sys.stdout.write(clean(difference(plugin.text, text, plugin.key)))
    if text == plugin.text:
        lacking = sharing.missing(api, plugin, text)
        if not lacking:
            say(f"nothing to change: {_offered(api, plugin, text)}")
            return
        say(f"the config says {replicas} already, but the cluster lags: waiting for {lacking}")
    if not apply:
        say("nothing was changed; --apply does it")
        return
    # A text that is there already needs only a plugin that reads it.
    generation = sharing.apply(api, plugin, text) if text != plugin.text else sharing.restart(api, plugin)
    sharing.wait(api, plugin, text, generation, say)
    say(_offered(api, plugin, text))
    say("kts k8s time-slicing --restore puts the old config back")


def _restore(api: Api, plugin: DevicePlugin) -> None:
    text = sharing.to_restore(plugin)
    if plugin.previous_key != plugin.key:
        plugin = sharing.find(api, plugin.previous_key, plugin.resource)
    say(plugin.words())
    sys.stdout.write(clean(difference(plugin.text, text, plugin.key)))
    sharing.wait(api, plugin, text, sharing.restore(api, plugin), say)
    say(f"the old config is back; {_offered(api, plugin, text)}")


def _offered(api: Api, plugin: DevicePlugin, text: str) -> str:
    """What the nodes offer now, as they say."""
    there = sharing.offered(api, plugin, text).items()
    nodes = ", ".join(f"node {node} offers {slots} of {name}" for node, (name, slots) in there)
    return nodes or f"no node uses key {plugin.key}"
