"""What `kts k8s render` prints, letter by letter. `python -m tests.helpers_render` writes it anew; review it."""

from __future__ import annotations

import pytest
from tests.helpers_cli import errors, kts
from tests.helpers_render import CASES, EXPERIMENT, GOLDEN, rendered, token_of, without_token


@pytest.mark.parametrize("name", CASES)
def test_the_objects_of_a_run_change_only_on_purpose(name: str) -> None:
    """Else a change of what runs in a user's cluster would go unreviewed."""
    assert without_token(rendered(*CASES[name])) == (GOLDEN / name).read_text(encoding="utf-8")


def test_each_output_has_a_token_of_its_own_in_one_place() -> None:
    """Else whoever saw one run's objects could read and stop the next run."""
    texts = [rendered(EXPERIMENT) for _ in range(2)]
    tokens = [token_of(text) for text in texts]
    assert tokens[0] != tokens[1]
    assert all(len(token) >= 32 for token in tokens)
    assert [text.count(token) for text, token in zip(texts, tokens, strict=True)] == [1, 1]


@pytest.mark.parametrize("epoch", ["yesterday", "-1", "1.5", "9" * 30])
def test_a_time_that_is_none_is_named(epoch: str) -> None:
    """Else a wrong SOURCE_DATE_EPOCH would be a traceback, or be ignored."""
    done = kts("k8s", "render", EXPERIMENT, SOURCE_DATE_EPOCH=epoch)
    assert done.returncode == 2
    assert "SOURCE_DATE_EPOCH" in errors(done)[0]
