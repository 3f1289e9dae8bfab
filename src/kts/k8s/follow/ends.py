"""Why a pod of a run ended: asks the cluster for what the pod's own status does not tell."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection

import msgspec

from kts.errors import SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.objects import Object, podend, podstate
from kts.k8s.objects.podend import PodEnd
from kts.model.masking import without_values
from kts.model.plan import Plan
from kts.model.run import Outcome

LAST_CHARACTERS = 200
_TAIL_LINES = 20
_LOG_OF = re.compile(r"logs/(?P<file>\S+\.log)|\blog of (?P<tenant>\S+)|\blogs?\b")
_NO_LOG = "no log of it was kept: its pod never ran, or was gone; cluster.json holds what the cluster told"


def why(api: Api, pod: Object, log: str, plan: Plan | None = None) -> PodEnd:
    """How a pod ended that is over or gone, and why, as far as the cluster tells. Never fails. ``log``: the file that
    is to keep what it printed. Values that ``plan`` gives its programs in secret are hidden in the reason."""
    if podend.told(pod):
        return podend.end_of(pod)

    def hidden(text: str) -> str:
        for tenant in plan.tenants if plan is not None else ():
            text = without_values(text, tenant.work)
        return text

    namespace, events, ends, last = str(pod["metadata"].get("namespace", "")), [], False, ""
    with contextlib.suppress(SetupError):
        events = podend.of_pod(api.list("Event", namespace), pod)
    with contextlib.suppress(SetupError):
        ends = ((api.get("Namespace", namespace) or {}).get("status") or {}).get("phase") == "Terminating"
    with contextlib.suppress(SetupError):
        container = podstate.main_container(pod)
        printed = b"".join(api.logs(podstate.name(pod), namespace, tail=_TAIL_LINES, container=container))
        last = _last_line(hidden(printed.decode(errors="replace")))  # before it is cut, perhaps within a secret
    end = podend.end_of(pod, events=events, namespace_ends=ends, last=last, log=log)
    return end._replace(reason=hidden(end.reason))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    return next((line[-LAST_CHARACTERS:] for line in reversed(lines) if line), "")


def with_logs(outcome: Outcome, logs: Collection[str]) -> Outcome:
    """The outcome, whose remedy names no log but those that were kept: files ``logs``, e.g. ``fft.log``."""
    for match in _LOG_OF.finditer(outcome.remedy):
        file, tenant = match["file"], match["tenant"]
        kept = file in logs if file else any(name.startswith(tenant or "") for name in logs)
        if not kept:
            return msgspec.structs.replace(outcome, remedy=_NO_LOG)
    return outcome
