"""Which commands there are. Plain text: listing the commands loads none of them."""

from __future__ import annotations

ABOUT = "What sharing one accelerator costs each tenant's tail latency: measured, with intervals."

COMMANDS = {
    "run": "Measure an experiment and report what sharing cost.",
    "report": "Report a run directory or KTS_APP logs.",
    "explain": "Say why it cost that, and what would change it.",
    "compare": "Compare two runs, or several a side, tenant by tenant.",
    "check": "Gate: are SLOs kept, has a tail got worse?",
    "choose": "Say which way to share, and how to set it in a cluster.",
    "profile": "Profile each tenant alone: launches, durations, host time.",
    "probe": "Measure how this GPU is shared, or say who is on it.",
    "predict": "Predict latencies and DF of mixes, with bands.",
    "whatif": "Predict a mix as it is, and as it would be.",
    "validate": "Score a prediction against a run.",
    "watch": "Say who pays for sharing on this node, now.",
    "selfcheck": "Check the instrument on this machine, or the whole way from plan to verdict.",
    "experiments": "List the ready-made experiments, or print one.",
    "runs": "List the runs that are in a cluster.",
    "attach": "Follow, fetch and report a run in a cluster.",
    "collect": "Report what a run in a cluster has so far.",
    "clean": "Remove a run from a cluster.",
    "schema": "Print a JSON Schema: experiment files, or summary.json.",
    "doctor": "Say what can be measured here, and what is missing.",
    "k8s": "Objects and image of runs on Kubernetes.",
}
"""Each with the first line of its own help."""
MODULES = {"attach": "runs", "collect": "runs", "clean": "runs"}
"""In `kts.cli`, of the commands that have none of their own name."""

OPTIONS = """\
  --version             Print the version and exit.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.
"""


def help_text() -> str:
    """What `kts --help` prints."""
    about = ABOUT.replace("measured, with", "measured,\n  with")
    rows = "".join(f"  {name:<11}  {text}\n" for name, text in COMMANDS.items())
    return f"Usage: kts [OPTIONS] COMMAND [ARGS]...\n\n  {about}\n\nOptions:\n{OPTIONS}\nCommands:\n{rows}"
