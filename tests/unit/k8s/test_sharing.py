"""The device plugin's config: only the number changes, in whatever shape it is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster import sharing
from kts.k8s.cluster.api import Unavailable

DEPLOY = Path(__file__).parents[3] / "deploy"
TEXT = """\
version: v1   # by the platform team
flags:
  migStrategy: none
sharing:
  timeSlicing:
    failRequestsGreaterThanOne: true
    resources:
    - {name: nvidia.com/mig-1g.10gb, replicas: 2}
    - name: nvidia.com/gpu
      replicas: 4 # agreed
"""
NAMESPACE = "plugin"


class FakeApi:
    """A cluster of one DaemonSet, its ConfigMaps and nodes, changed by merge patches as the API server does it."""

    def __init__(self, data: dict[str, str], nodes: list[dict[str, Any]], **env: str) -> None:
        volumes = [
            {"name": "scripts", "configMap": {"name": "scripts"}},
            {"name": "available-configs", "configMap": {"name": "configs"}},
        ]
        containers = [{"name": "config-manager", "env": [{"name": k, "value": v} for k, v in env.items()]}]
        self.daemonset: dict[str, Any] = {
            "metadata": {"name": "nvdp-nvidia-device-plugin", "namespace": NAMESPACE, "generation": 1},
            "spec": {"template": {"spec": {"volumes": volumes, "containers": containers}}},
            "status": {
                "desiredNumberScheduled": 1,
                "updatedNumberScheduled": 1,
                "numberReady": 1,
                "observedGeneration": 9,
            },
        }
        self.daemonsets = [self.daemonset]
        self.configs: dict[str, Any] = {
            "configs": {"metadata": {"name": "configs", "resourceVersion": "7"}, "data": dict(data)},
            "scripts": {"metadata": {"name": "scripts"}, "data": {"entry.sh": "exit 0"}},
        }
        self.nodes = nodes
        self.patches: list[tuple[str, dict[str, Any]]] = []

    def list(self, kind: str) -> list[dict[str, Any]]:
        return {"DaemonSet": self.daemonsets, "Node": self.nodes}[kind]

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        assert namespace == NAMESPACE
        return self.configs.get(name) if kind == "ConfigMap" else self.daemonset

    def patch(self, kind: str, name: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (name in self.configs, namespace) == (kind == "ConfigMap", NAMESPACE)
        self.patches.append((kind, body))
        if kind == "DaemonSet":
            self.daemonset["metadata"]["generation"] += 1
            return self.daemonset
        config = self.configs[name]
        config["data"] |= body["data"]
        kept = {**config["metadata"].get("annotations", {}), **body["metadata"]["annotations"]}
        config["metadata"]["annotations"] = {key: value for key, value in kept.items() if value is not None}
        return dict(config)


def node(name: str = "n", slots: int = 4) -> dict[str, Any]:
    """A GPU node that offers ``slots``."""
    amount = {sharing.GPU: str(slots)}
    return {"metadata": {"name": name, "labels": {}}, "status": {"allocatable": amount, "capacity": amount}}


def chosen(name: str, key: str) -> dict[str, Any]:
    """A node that is labelled to use a key."""
    made = node(name)
    made["metadata"]["labels"][sharing.NODE_LABEL] = key
    return made


def test_only_the_number_changes() -> None:
    """Else --apply would undo the platform team's choices, or their comments."""
    assert sharing.with_replicas(TEXT, 10) == TEXT.replace("replicas: 4 #", "replicas: 10 #")
    assert sharing.with_replicas(TEXT, 4) is TEXT


@pytest.mark.parametrize(
    "text",
    [
        "version: v1\n",
        "version: v1\nsharing:\n",
        "version: v1\nflags: {migStrategy: none}\nsharing: {timeSlicing: {renameByDefault: true}}\n",
        "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.10gb, replicas: 2}]}}\n",
        "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, devices: [0]}]}}\n",
    ],
)
def test_what_is_absent_is_added_and_the_rest_kept(text: str) -> None:
    """Else time-slicing could not be turned on where it is off, or a MIG profile's slots would be lost."""
    changed = sharing.with_replicas(text, 3)
    assert sharing.replicas_of(changed) == 3
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    assert before.get("flags") == after.get("flags")
    old, new = ((config.get("sharing") or {}).get("timeSlicing") or {} for config in (before, after))
    assert old.get("renameByDefault", False) == new.get("renameByDefault", False)
    others = [[r for r in each.get("resources") or () if r["name"] != sharing.GPU] for each in (old, new)]
    assert others[0] == others[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "just words",
        "sharing: [1]",
        "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: x}]}}",
    ],
)
def test_a_config_that_is_none_is_refused(text: str) -> None:
    """Else the user would see a traceback, or the plugin would lose its config."""
    with pytest.raises(SetupError):
        sharing.with_replicas(text, 3)


def test_mps_is_not_mixed_with_time_slicing() -> None:
    """Else the plugin would not start again."""
    with pytest.raises(SetupError, match="MPS"):
        sharing.with_replicas("version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}", 3)


@pytest.mark.parametrize(
    ("slicing", "name"),
    [
        ("resources: [{name: nvidia.com/gpu, replicas: 2}]", "nvidia.com/gpu"),
        ("renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 2}]", "nvidia.com/gpu.shared"),
        ("resources: [{name: nvidia.com/gpu, rename: nvidia.com/slice, replicas: 2}]", "nvidia.com/slice"),
    ],
)
def test_slots_are_awaited_under_the_name_they_get(slicing: str, name: str) -> None:
    """Else the command would wait in vain where the resource is renamed."""
    assert sharing.resource_of(f"version: v1\nsharing: {{timeSlicing: {{{slicing}}}}}") == name


@pytest.mark.parametrize(
    ("data", "nodes", "env", "key"),
    [
        ({"any": TEXT}, [node()], {}, "any"),
        ({"any": TEXT, "b": TEXT}, [node()], {"DEFAULT_CONFIG": "b"}, "b"),
        ({"any": TEXT, "b": TEXT}, [chosen("n", "any")], {"DEFAULT_CONFIG": "b"}, "any"),
    ],
)
def test_the_key_in_use_is_found(data: dict[str, str], nodes: list[Any], env: dict[str, str], key: str) -> None:
    """Else a config would be changed that no node uses."""
    found = sharing.find(FakeApi(data, nodes, **env))  # type: ignore[arg-type]
    assert (found.key, found.configmap, found.gpus) == (key, "configs", {"n": 1})


def test_nodes_that_use_different_keys_need_a_choice() -> None:
    """Else half of the cluster would be changed without a word."""
    api: Any = FakeApi({"a": TEXT, "b": TEXT}, [chosen("n1", "a"), chosen("n2", "b")])
    with pytest.raises(SetupError, match="n1: a, n2: b") as error:
        sharing.find(api)
    assert "--key" in error.value.remedy
    assert sharing.find(api, "b").gpus == {"n2": 1}


def test_no_plugin_and_no_config_are_told_apart_with_a_remedy() -> None:
    """Else the user would not know what to install."""
    api: Any = FakeApi({"any": TEXT}, [node()])
    del api.configs["configs"]
    with pytest.raises(SetupError, match="no ConfigMap") as error:
        sharing.find(api)
    assert "time-slicing-config.yaml" in error.value.remedy
    api.daemonsets = []
    with pytest.raises(SetupError, match="no NVIDIA device plugin") as error:
        sharing.find(api)
    assert "install" in error.value.remedy


def test_the_first_text_is_kept_and_comes_back_to_the_letter() -> None:
    """Else two changes in a row would lose the administrator's config."""
    api: Any = FakeApi({"any": TEXT}, [node()])
    for replicas in (6, 8):
        plugin = sharing.find(api)
        sharing.apply(api, plugin, sharing.with_replicas(plugin.text, replicas))
    plugin = sharing.find(api)
    assert (sharing.replicas_of(plugin.text), plugin.previous) == (8, TEXT)
    sharing.restore(api, plugin)
    plugin = sharing.find(api)
    assert (plugin.text, plugin.previous) == (TEXT, None)
    assert [kind for kind, _ in api.patches] == ["ConfigMap", "DaemonSet"] * 3
    assert api.patches[0][1]["metadata"]["resourceVersion"] == "7"  # or a change of others would be overwritten


def test_waiting_says_for_what_and_ends() -> None:
    """Else the command would hang without a word where the plugin does not come back."""
    api: Any = FakeApi({"any": TEXT}, [node(slots=8)])
    api.nodes[0]["metadata"]["labels"] = {sharing.COUNT_LABEL: "2", "nvidia.com/gpu.replicas": "6"}
    plugin, text = sharing.find(api), sharing.with_replicas(TEXT, 6)
    said: list[str] = []
    times = iter(range(100))
    with pytest.raises(MeasurementError, match="node n to offer 12") as error:
        sharing.wait(api, plugin, text, 2, said.append, deadline_s=5, clock=lambda: next(times), pause=lambda _: None)
    assert said == ["waiting for node n to offer 12 nvidia.com/gpu, not 8"]
    assert "--restore" in error.value.remedy


def test_waiting_outlives_an_absent_server_and_ends_when_the_slots_are_there() -> None:
    """Else one dropped connection would leave the user in doubt."""
    api: Any = FakeApi({"any": TEXT}, [node()])
    plugin, text = sharing.find(api), sharing.with_replicas(TEXT, 6)
    api.daemonset["status"]["numberReady"] = 0
    listed, said, pauses = api.list, [], []

    def away(_: str) -> Any:
        api.list = listed
        raise Unavailable("the server is away")

    def pause(_: float) -> None:
        pauses.append(1)
        if len(pauses) == 1:
            api.daemonset["status"]["numberReady"] = 1
            api.list = away
        else:
            api.nodes[:] = [node(slots=6)]

    sharing.wait(api, plugin, text, 2, said.append, pause=pause)
    assert said == ["waiting for new pods of DaemonSet nvdp-nvidia-device-plugin", "waiting for the server is away"]


def test_the_config_to_install_is_what_the_tools_expect() -> None:
    """Else the first command of the documentation would give a cluster that kts cannot use."""
    namespace, config = yaml.safe_load_all((DEPLOY / "time-slicing-config.yaml").read_text(encoding="utf-8"))
    assert namespace["metadata"]["name"] == config["metadata"]["namespace"] == "nvidia-device-plugin"
    assert yaml.safe_load(config["data"]["any"]) == {
        "version": "v1",
        "flags": {"migStrategy": "none", "failOnInitError": True},
        "sharing": {
            "timeSlicing": {
                "failRequestsGreaterThanOne": True,
                "renameByDefault": False,
                "resources": [{"name": sharing.GPU, "replicas": 4}],
            }
        },
    }
