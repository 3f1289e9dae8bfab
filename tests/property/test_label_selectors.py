"""Label selectors against Kubernetes' own meaning of them, told a second way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kts.errors import UsageError
from kts.k8s.objects.selector import matches, parsed

KEYS = ("gpu", "pool", "nvidia.com/gpu.product", "in", "notin")
VALUES = ("", "a", "B-1", "7", "12")
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
SPACE = st.sampled_from(("", " ", "  "))


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, str, str, list[str]]:
    """(text, key, how, values)."""
    key, how = draw(st.sampled_from(KEYS)), draw(st.sampled_from(("=", "==", "!=", "in", "notin", "", "!", ">", "<")))
    a, b = draw(SPACE), draw(SPACE)
    if how in ("in", "notin"):
        values = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3))
        return f"{a}{key} {how} ({f',{b}'.join(values)}){b}", key, how, values
    if how in ("", "!"):
        return f"{a}{how}{key}{b}", key, how, []
    value = draw(st.sampled_from(("7", "12") if how in "<>" else VALUES))
    return f"{a}{key}{b}{how}{a}{value}{b}", key, how, [value]


def truth(labels: dict[str, str], key: str, how: str, values: list[str]) -> bool:
    """What Kubernetes' documentation says."""
    if how in ("", "!"):
        return (key in labels) is (how == "")
    if how in ("=", "==", "in"):
        return key in labels and labels[key] in values
    if how in ("!=", "notin"):
        return key not in labels or labels[key] not in values
    there = labels.get(key, "")
    if not there.isdecimal():
        return False
    return int(there) > int(values[0]) if how == ">" else int(there) < int(values[0])


@given(st.lists(conditions(), max_size=4), LABELS)
def test_a_node_is_chosen_as_kubectl_would(
    given_: list[tuple[str, str, str, list[str]]], labels: dict[str, str]
) -> None:
    """Else a fleet would measure other nodes than `kubectl get nodes -l` lists."""
    text = ",".join(one[0] for one in given_)
    assert matches(parsed(text), labels) == all(truth(labels, *rest) for _, *rest in given_)  # type: ignore[arg-type]


@given(st.text(alphabet="ab=!,()<> \t/.-_in7é\n", max_size=20))
def test_what_is_no_selector_is_refused_in_one_line(text: str) -> None:
    """Else a mistyped selector would be a traceback, or choose nodes that were not meant."""
    told = ""
    try:
        parsed(text)
    except UsageError as error:
        told = error.what
    assert told == "" or (told.startswith("--nodes: ") and "\n" not in told)


@pytest.mark.parametrize(
    "text",
    ["a=b=c", "a in b", "a in (b", "a b", ",a", "a,", "a,,b", "a=b c", "=a", "!", "a>b", "a=-", "-a", "a in ()x"],
)
def test_these_are_refused(text: str) -> None:
    """Else half of a selector would be obeyed."""
    with pytest.raises(UsageError):
        parsed(text)
