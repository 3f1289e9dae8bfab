"""Whatever a file holds, loading it gives an experiment or a SpecError."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from kts.errors import SpecError
from kts.plan import build
from kts.spec import load_text, ready_made_text
from kts.spec.models import ArrayTenant, CommandTenant, Experiment, SloSpec

_KEYS = sorted(
    {*ArrayTenant.model_fields, *CommandTenant.model_fields, *Experiment.model_fields, *SloSpec.model_fields}
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["fft", "gemm", "command"]),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from([*_KEYS, "a", "b"]), inner, max_size=5)
    ),
    max_leaves=12,
)


def _load(text: str) -> None:
    caught = None
    try:
        build(load_text(text, source="x").experiment)
    except SpecError as error:
        caught = error
    if caught is not None:
        assert caught.what
        assert caught.remedy
        assert all(line.startswith("x:") for line in caught.what.splitlines())


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Else some file would end in a traceback."""
    _load(text)


@settings(max_examples=250, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _values, max_size=6), st.lists(_values, min_size=2, max_size=3))
def test_any_values_under_known_keys(top: dict[str, object], tenants: list[object]) -> None:
    """Else some mistake would be told in the words of a library, or not at all."""
    _load(json.dumps({**top, "tenants": dict(zip("abc", tenants, strict=False))}))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_file_with_one_character_changed(data: st.DataObject) -> None:
    """Else a slip of the finger would end in a traceback."""
    text = ready_made_text("demo")
    position = data.draw(st.integers(0, len(text) - 1))
    _load(text[:position] + data.draw(st.sampled_from("{}[]:,&*!|>'\"%@`#-? \n\tx0")) + text[position + 1 :])
