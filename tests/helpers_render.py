"""What `kts k8s render` prints. `python -m tests.helpers_render` writes the golden files anew; review them."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.helpers_cli import kts_here

GOLDEN = Path(__file__).parent / "golden" / "render"
IMAGE = "localhost/kts-worker:v1"
EPOCH = "1767225600"
EXPERIMENT = str(GOLDEN / "experiment.yaml")
CASES = {
    "default.yaml": (EXPERIMENT,),
    "cpu.yaml": (EXPERIMENT, "--extra", "cpu", "--runtime-class", "", "--namespace", "bench", "--node", "n1"),
    "classic.yaml": (EXPERIMENT, "--design", "classic"),
    "claim.yaml": (EXPERIMENT, "--claim", "one-gpu", "--toleration", "nvidia.com/gpu:NoSchedule"),
}


def rendered(*arguments: str) -> str:
    """The output; everything but the token is the same each time."""
    done = kts_here("k8s", "render", "--image", IMAGE, *arguments, "--run-id", "golden", SOURCE_DATE_EPOCH=EPOCH)
    assert done.returncode == 0, done.stderr
    return done.stdout


def token_of(text: str) -> str:
    """The token in a rendered Secret."""
    (secret,) = (obj for obj in yaml.safe_load_all(text) if obj["kind"] == "Secret")
    return str(secret["stringData"]["token"])


def without_token(text: str) -> str:
    """With a word in the token's place that no run would be safe with, so that nobody copies one from here."""
    return text.replace(token_of(text), "A-NEW-RANDOM-ONE-EACH-TIME")


if __name__ == "__main__":
    for name, arguments in CASES.items():
        (GOLDEN / name).write_text(without_token(rendered(*arguments)), encoding="utf-8")
