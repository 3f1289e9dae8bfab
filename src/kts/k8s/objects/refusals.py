"""Who refused an object, and what to do about it, by the words of the API server. Pure.

The server answers with 403 for a missing right, and also for a full quota, a LimitRange, a namespace that goes away,
Pod Security, a policy or a webhook; policies and webhooks may choose 400, 401 and 422 instead. Only the message tells
them apart. A Job's controller quotes it in the Job's FailedCreate events.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from kts.k8s.objects.permissions import denied

_Remedy = Callable[
    [re.Match[str], str, bool], str
]  # of the match, the namespace, and whether it is the conductor's pod


_OBJECT = re.compile(r'(?P<kind>[\w.]+) "kts-[^"]*" is (?:forbidden|invalid)')
PERMISSION = "permission"
ABSENT_NAMESPACE = "absent namespace"
DEAF_WEBHOOK = "webhook that does not answer"
_PASS = frozenset({"service account", "quota that is not counted"})


class Refusal(NamedTuple):
    """``by``: who refused, e.g. ``quota``; ``remedy``: what to do now."""

    by: str
    remedy: str

    @property
    def passes(self) -> bool:
        """True where the same object may be taken a moment later, and nobody has to do anything."""
        return self.by in _PASS


def refusal(message: str, namespace: str = "") -> Refusal | None:
    """Who refused an object in these words, and what to do; None where the message is of something else.

    ``namespace``: the object's, for the commands in remedies.
    """
    text = one_line(message)
    conductor = bool(re.search(r'[Pp]ods? "kts-\S*-conductor"', text))
    for by, pattern, remedy in _TABLE:
        if match := pattern.search(text):
            return Refusal(by, remedy(match, namespace, conductor))
    if (remedy_text := denied(text)) is not None:
        return Refusal(PERMISSION, remedy_text)
    return None


def one_line(message: str) -> str:
    """The message without line breaks and runs of blanks."""
    return " ".join(message.split())


def _kubectl(command: str, namespace: str) -> str:
    return f"kubectl {command}{f' --namespace {namespace}' if namespace else ''}"


def _options(text: str, conductor: bool) -> str:
    """How a user sets the resources that ``text`` speaks of."""
    parts = [name for name in ("cpu", "memory") if re.search(rf"\b{name}\b", text)]
    if conductor:
        wanted = ", ".join(f"{part}: ..." for part in parts or ["cpu"])
        kind = "limits" if "limit" in text else "requests"
        template = f"spec: {{containers: [{{name: conductor, resources: {{{kind}: {{{wanted}}}}}}}]}}"
        return f"--pod-template with {template}"
    return " and ".join(f"--pod-{part}" for part in parts)


def _exceeded(match: re.Match[str], namespace: str, conductor: bool) -> str:
    asked, quota = match["asked"], match["quota"]
    look = _kubectl(f"describe resourcequota {quota}", namespace)
    less = _options(asked, conductor) if re.search(r"\b(?:cpu|memory)\b", asked) else ""
    if not conductor and re.search(r"/|pods", asked):
        less = "run fewer tenants"
    raised = f"free some of it, or have quota {quota} raised ({look})"
    return f"ask for less ({less}); or {raised}" if less else raised


def _must_specify(match: re.Match[str], namespace: str, conductor: bool) -> str:
    del namespace
    return f"quota {match['quota']} wants every container to say it: {_options(match['what'], conductor)}"


def _limit_range(match: re.Match[str], namespace: str, conductor: bool) -> str:
    options = _options(match.string[match.start() :], conductor)
    how = f"stay within it ({options})" if options else "stay within it"
    return f"{how}, or have the LimitRange changed: {_kubectl('describe limitrange', namespace)}"


def _owners(look: str) -> _Remedy:
    """For what an administrator wrote. Of the objects of a run a user shapes the pods, and the Jobs that hold them."""

    def remedy(match: re.Match[str], namespace: str, conductor: bool) -> str:
        shown = _says(f"{look} shows it to who may see it")(match, namespace, conductor)
        named = _OBJECT.search(match.string)
        if named and named["kind"] not in ("pods", "jobs.batch"):
            return f"ask its owner for an exception; {shown}"
        how = "--image or --pod-template" if re.search(r"\b(?:image|registr)", match.string, re.I) else "--pod-template"
        return f"meet it with {how}, or ask its owner for an exception; {shown}"

    return remedy


def _says(text: str) -> _Remedy:
    """A remedy that is the same whatever matched; ``{namespace}`` is put in, without one ``NAMESPACE``."""
    return lambda match, namespace, _: text.format(namespace=namespace or "NAMESPACE", **match.groupdict())


_TABLE: tuple[tuple[str, re.Pattern[str], _Remedy], ...] = tuple(
    (by, re.compile(pattern), remedy)
    for by, pattern, remedy in (
        (
            "terminating namespace",
            r"namespace (?P<gone>\S+) because it is being terminated|namespace (?P<too>\S+) is being terminated",
            _says("wait until the namespace is gone, or choose another one: --namespace"),
        ),
        (
            "quota",
            r"exceeded quota: (?P<quota>[^,]+), requested: (?P<asked>.*?), used: ",
            _exceeded,
        ),
        ("quota", r"failed quota: (?P<quota>[^:]+): must specify (?P<what>.*)", _must_specify),
        (
            "quota that is not counted",
            r"status unknown for quota: |Operation cannot be fulfilled on resourcequotas ",
            _says("wait a moment, until the quota is counted"),
        ),
        (
            "quota",
            r"[Ii]nsufficient quota to (?:match these scopes|consume)",
            _says("ask an administrator for a quota of that scope, or leave its priorityClassName out"),
        ),
        (
            "limit range",
            r"(?:maximum|minimum) \S+ usage per \w+ is |max limit to request ratio per \w+ is ",
            _limit_range,
        ),
        (
            "Pod Security",
            r'violates PodSecurity "(?P<level>[^"]+)"',
            _says(
                "kts's own pods meet every level: take what is named out of --pod-template, or ask who adds it to pods"
            ),
        ),
        (
            "policy",
            r"[Vv]alidating[Aa]dmission[Pp]olicy '(?P<name>[^']+)' with binding '[^']+' denied request",
            _owners("kubectl get validatingadmissionpolicy {name}"),
        ),
        (
            "webhook",
            r'admission webhook "(?P<name>[^"]+)" denied the request',
            _owners("kubectl get validatingwebhookconfiguration,mutatingwebhookconfiguration"),
        ),
        (
            DEAF_WEBHOOK,
            r'failed calling webhook "(?P<name>[^"]+)"',
            _says("ask an administrator to mend the webhook, or to exempt the namespace {namespace} from it"),
        ),
        (
            "security context constraints",
            r"unable to validate against any security context constraint",
            _says("oc adm policy add-scc-to-user nonroot-v2 -z default -n {namespace}"),
        ),
        (
            "runtime class",
            r'RuntimeClass "(?P<name>[^"]+)" not found',
            _says("name one that is there (kubectl get runtimeclass), or none: --runtime-class ''"),
        ),
        (
            "priority class",
            r"no PriorityClass with name (?P<name>\S+) was found",
            _says("name one that is there in --pod-template: kubectl get priorityclass"),
        ),
        (
            "service account",
            r'serviceaccount "(?P<name>[^"]+)" not found',
            _says("wait a moment if the namespace is new, else: kubectl create serviceaccount {name} -n {namespace}"),
        ),
        (
            "node selector of the namespace",
            r"pod node label selector(?: labels)? conflicts? with its namespace",
            _says("the namespace allows other nodes only: change --node-selector, or --namespace"),
        ),
        (
            "tolerations of the namespace",
            r"pod tolerations .*conflict with its",
            _says("the namespace allows other tolerations only: change --toleration, or --namespace"),
        ),
        (
            ABSENT_NAMESPACE,
            r'namespaces "(?P<name>[^"]+)" not found',
            _says("kubectl create namespace {name}"),
        ),
        (
            "validation",
            r"is invalid: (?P<field>[^\s:]+): ",
            _says("correct what sets {field}: --pod-template, or an option of kts"),
        ),
    )
)
