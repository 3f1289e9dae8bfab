"""The device plugin's config: only the number changes, in whatever shape it is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kts.cli import k8s_time_slicing
from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster import sharing
from kts.k8s.cluster.api import Unavailable
from kts.k8s.objects.names import GPU
from kts.k8s.objects.pluginconfig import sharing_of, with_replicas

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
COUNT_LABEL = "nvidia.com/gpu.count"


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
    amount = {GPU: str(slots)}
    return {"metadata": {"name": name, "labels": {}}, "status": {"allocatable": amount, "capacity": amount}}


def chosen(name: str, key: str) -> dict[str, Any]:
    """A node that is labelled to use a key."""
    made = node(name)
    made["metadata"]["labels"][sharing.NODE_LABEL] = key
    return made


def test_only_the_number_changes() -> None:
    """Else --apply would undo the platform team's choices, or their comments."""
    assert with_replicas(TEXT, 10) == TEXT.replace("replicas: 4 #", "replicas: 10 #")
    assert with_replicas(TEXT, 4) is TEXT


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
    changed = with_replicas(text, 3)
    assert sharing_of(changed).replicas == 3
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    assert before.get("flags") == after.get("flags")
    old, new = ((config.get("sharing") or {}).get("timeSlicing") or {} for config in (before, after))
    assert old.get("renameByDefault", False) == new.get("renameByDefault", False)
    others = [[r for r in each.get("resources") or () if r["name"] != GPU] for each in (old, new)]
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
        with_replicas(text, 3)


def test_mps_is_not_mixed_with_time_slicing() -> None:
    """Else the plugin would not start again."""
    with pytest.raises(SetupError, match="MPS"):
        with_replicas("version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}", 3)


@pytest.mark.parametrize(
    ("slicing", "names"),
    [
        ("resources: [{name: nvidia.com/gpu, replicas: 2}]", [GPU]),
        ("renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 2}]", [f"{GPU}.shared"]),
        ("resources: [{name: nvidia.com/gpu, rename: nvidia.com/slice, replicas: 2}]", [GPU, "nvidia.com/slice"]),
        (
            "renameByDefault: true, resources: [{name: nvidia.com/gpu, rename: x.org/slice, replicas: 2}]",
            [f"{GPU}.shared", "x.org/slice"],
        ),
        ("resources: []", [GPU]),
        ("resources: [{name: nvidia.com/mig-1g.5gb, rename: x.org/y, replicas: 2}]", [GPU]),
    ],
)
def test_slots_are_looked_for_under_every_name_they_may_get(slicing: str, names: list[str]) -> None:
    """Else the command would wait in vain, or call 0 slots a success: released plugins ignore `rename`."""
    assert list(sharing_of(f"version: v1\nsharing: {{timeSlicing: {{{slicing}}}}}").names) == names


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
        sharing.apply(api, plugin, with_replicas(plugin.text, replicas))
    plugin = sharing.find(api)
    assert (sharing_of(plugin.text).replicas, plugin.previous) == (8, TEXT)
    sharing.restore(api, plugin)
    plugin = sharing.find(api)
    assert (plugin.text, plugin.previous) == (TEXT, None)
    assert [kind for kind, _ in api.patches] == ["ConfigMap", "DaemonSet"] * 3
    assert api.patches[0][1]["metadata"]["resourceVersion"] == "7"  # or a change of others would be overwritten


def test_waiting_says_for_what_and_ends() -> None:
    """Else the command would hang without a word where the plugin does not come back."""
    api: Any = FakeApi({"any": TEXT}, [node(slots=8)])
    api.nodes[0]["metadata"]["labels"] = {COUNT_LABEL: "2", "nvidia.com/gpu.replicas": "6"}
    plugin, text = sharing.find(api), with_replicas(TEXT, 6)
    said: list[str] = []
    times = iter(range(100))
    with pytest.raises(MeasurementError, match="node n to offer 12") as error:
        sharing.wait(api, plugin, text, 2, said.append, deadline_s=5, clock=lambda: next(times), pause=lambda _: None)
    assert said == ["waiting for node n to offer 12 nvidia.com/gpu, not 8"]
    assert "--restore" in error.value.remedy


def test_waiting_outlives_an_absent_server_and_ends_when_the_slots_are_there() -> None:
    """Else one dropped connection would leave the user in doubt."""
    api: Any = FakeApi({"any": TEXT}, [node()])
    plugin, text = sharing.find(api), with_replicas(TEXT, 6)
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
                "resources": [{"name": GPU, "replicas": 4}],
            }
        },
    }


SLICING = "version: v1\nsharing: {{timeSlicing: {{{}}}}}\n"
ODD = {
    "no dash": (SLICING.format("resources: {name: nvidia.com/gpu, replicas: 2}"), "resources is a mapping, not a list"),
    "no mapping": (SLICING.format("resources: [nvidia.com/gpu, 4]"), r"resources\[0\] is text"),
    "text for a number": (
        SLICING.format("resources: [{name: nvidia.com/gpu, replicas: '4'}]"),
        "replicas is text, not a whole number",
    ),
    "a part": (SLICING.format("resources: [{name: nvidia.com/gpu, replicas: 2.5}]"), "replicas is float"),
    "yes": (SLICING.format("resources: [{name: nvidia.com/gpu, replicas: yes}]"), "replicas is true or false"),
    "none": (SLICING.format("resources: [{name: nvidia.com/gpu, replicas: 0}]"), "replicas is 0"),
    "no name": (SLICING.format("resources: [{replicas: 2}]"), r"resources\[0\].name is missing"),
    "another's replicas": (SLICING.format("resources: [{name: nvidia.com/mig-1g.5gb, replicas: x}]"), "is text"),
    "a rename that is none": (
        SLICING.format("resources: [{name: nvidia.com/gpu, rename: [a], replicas: 2}]"),
        "rename is a list",
    ),
    "two entries": (
        SLICING.format(
            "resources: [{name: nvidia.com/gpu, devices: [0], replicas: 2}, "
            "{name: nvidia.com/gpu, devices: [1], replicas: 8}]"
        ),
        "2 entries for nvidia.com/gpu",
    ),
    "words for a switch": (SLICING.format("renameByDefault: 'no', resources: []"), "renameByDefault is text"),
    "time-slicing as a list": ("version: v1\nsharing: {timeSlicing: [{name: nvidia.com/gpu}]}\n", "is a list"),
    "other letters": ("version: v1\nsharing: {timeslicing: {resources: []}}\n", "written otherwise than timeSlicing"),
    "sharing twice": ("sharing: {}\nsharing: {timeSlicing: {}}\n", "sharing stands twice, in lines 1 and 2"),
    "another version": ("version: v2\nsharing: {}\n", "version is 'v2'"),
    "mps as text": ("version: v1\nsharing: {mps: on please}\n", "sharing.mps is text"),
    "two documents": ("version: v1\n---\nversion: v1\n", "no YAML"),
    "deep": ("a: " + "[" * 5000, "no YAML"),
}


@pytest.mark.parametrize(("text", "why"), ODD.values(), ids=ODD)
def test_a_config_of_unforeseen_shape_is_refused_before_anything_is_changed(text: str, why: str) -> None:
    """Else the plugin would get a config that it cannot read, or some GPUs another number than asked for."""
    api: Any = FakeApi({"any": text}, [node()])
    with pytest.raises(SetupError, match=why):
        change(api)
    assert api.patches == []


def change(api: Any, replicas: int = 6, key: str = "", resource: str = GPU, *, apply: bool = True) -> None:
    """What `kts k8s time-slicing` does."""
    k8s_time_slicing._change(api, sharing.find(api, key, resource), replicas, apply=apply)


@pytest.mark.parametrize("nothing", ["sharing:", "sharing: null", "sharing: {timeSlicing: null, mps: null}"])
def test_empty_parts_are_no_sharing(nothing: str) -> None:
    """Else the config that charts write by default could not be changed."""
    assert sharing_of(f"version: v1\n{nothing}\n").replicas == 1
    assert sharing_of(with_replicas(f"version: v1\n{nothing}\n", 3)).replicas == 3


def test_mps_beside_empty_time_slicing_is_still_mps() -> None:
    """Else time-slicing would be added beside it, and the plugin would not start again."""
    with pytest.raises(SetupError, match="by MPS"):
        with_replicas("sharing: {timeSlicing: {}, mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}", 3)


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize(
    "nodes", [[node()], [chosen("n", "a")], []], ids=["without a label", "with another's", "no node"]
)
def test_a_key_that_no_node_uses_is_refused_before_anything_is_changed(nodes: list[Any], apply: bool) -> None:
    """Else the plugin would be restarted everywhere for nothing, and kts would call it a success."""
    api: Any = FakeApi({"a": TEXT, "b": TEXT}, nodes)
    with pytest.raises(SetupError, match=r"no node with nvidia.com/gpu uses .* key b") as error:
        change(api, key="b", apply=apply)
    assert f"{sharing.NODE_LABEL}=b" in error.value.remedy
    assert api.patches == []


def test_the_key_called_default_is_used_where_the_plugin_falls_back_to_it() -> None:
    """Else the chart's own way to choose would be unknown to kts."""
    api: Any = FakeApi({"default": TEXT, "b": TEXT}, [node()], FALLBACK_STRATEGIES="named,single")
    assert sharing.find(api).key == "default"


def offering(**amounts: str) -> dict[str, Any]:
    """A node called n; ``amounts`` by resource name without its prefix, ``_`` for ``.``."""
    amount = {f"nvidia.com/{name.replace('_', '.')}": text for name, text in amounts.items()}
    return {"metadata": {"name": "n", "labels": {}}, "status": {"allocatable": amount, "capacity": amount}}


RENAMED = TEXT.replace("- name: nvidia.com/gpu\n", "- name: nvidia.com/gpu\n      rename: nvidia.com/gpu.part\n")


@pytest.mark.parametrize("name", ["gpu", "gpu_part"])
def test_slots_count_under_whichever_name_they_come(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else slots that are there would be called 0, by a plugin that ignores `rename` or by one that heeds it."""
    api: Any = FakeApi({"any": RENAMED}, [offering(**{name: "4"})])
    change(api, 4)
    assert f"node n offers 4 of nvidia.com/{name.replace('_', '.')}" in capsys.readouterr().err


@pytest.mark.parametrize("there", [offering(gpu="0"), offering(gpu_shared="4", gpu="0")], ids=["ill", "renamed"])
def test_zero_slots_are_never_a_success(there: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Else a plugin that fails would be called ready."""
    api: Any = FakeApi({"any": TEXT}, [there])
    change(api, 4, apply=False)
    told = capsys.readouterr().err
    assert "the cluster lags: waiting for node n to offer" in told
    assert "not 0" in told
    assert "nothing to change" not in told


@pytest.mark.parametrize(
    ("slots", "enough"), [("12", True), ("1200m", False), ("0", False), ("5", False), ("3k", True)]
)
def test_where_no_label_counts_gpus_a_settled_node_offers_whole_ones(slots: str, enough: bool) -> None:
    """Else a plugin that lagged before would be waited for in vain; half a GPU's slots are none."""
    api: Any = FakeApi({"any": TEXT}, [offering(gpu="8")])
    plugin, text = sharing.find(api), with_replicas(TEXT, 6)
    api.nodes[:] = [offering(gpu=slots)]
    assert (not sharing.missing(api, plugin, text, settled=True)) == enough


def test_mig_devices_are_named_and_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """Else an entry would be added that nobody offers, or a node full of them would be called one without a GPU."""
    text = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}\n"
    there = offering(**{"mig-1g_5gb": "14", "gpu": "0"})
    there["metadata"]["labels"] = {COUNT_LABEL: "2"}
    api: Any = FakeApi({"any": text}, [there])
    with pytest.raises(SetupError, match=r"node n offers 14 nvidia.com/mig-1g.5gb") as error:
        change(api)
    assert "--resource: nvidia.com/mig-1g.5gb" in error.value.remedy
    assert api.patches == []
    change(api, 2, resource="nvidia.com/mig-1g.5gb")
    assert "node n offers 14 of nvidia.com/mig-1g.5gb" in capsys.readouterr().err
    wanted = sharing.find(api, resource="nvidia.com/mig-1g.5gb")
    assert (wanted.gpus, with_replicas(wanted.text, 3, wanted.resource)) == ({"n": 7}, text.replace(": 2}", ": 3}"))


def test_a_config_that_somebody_broke_can_still_be_put_back() -> None:
    """Else the one remedy that kts has would refuse to work when it is needed."""
    api: Any = FakeApi({"any": TEXT}, [node()])
    change(api, 4)
    plugin = sharing.find(api)
    sharing.apply(api, plugin, with_replicas(TEXT, 8))
    api.configs["configs"]["data"]["any"] = "sharing: [broken"
    sharing.restore(api, sharing.find(api))
    assert sharing.find(api).text == TEXT


def test_a_plugin_elsewhere_without_nodes_does_not_hide_who_makes_the_slots() -> None:
    """Else NVIDIA's chart, installed beside GKE's plugin and running nowhere, would be changed in vain."""
    api: Any = FakeApi({"any": TEXT}, [node()])
    api.nodes[0]["metadata"]["labels"] = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    api.daemonset["status"]["desiredNumberScheduled"] = 0
    with pytest.raises(SetupError, match="GKE's own device plugin"):
        change(api)
