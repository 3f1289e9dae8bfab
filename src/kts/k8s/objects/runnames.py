"""What the objects of a run are called, and their labels. Pure."""

from __future__ import annotations

import hashlib
import re

from kts.errors import UsageError
from kts.k8s.objects import Object
from kts.k8s.objects.names import APP, LABEL_APP, LABEL_ROLE, LABEL_RUN, LABEL_TENANT
from kts.k8s.objects.settings import ClusterSettings

LONGEST_NAME = 63
RUN_ID = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,28}[a-z0-9])?")


def checked_run_id(run: str) -> str:
    """``run``. UsageError if Kubernetes could not name objects by it."""
    if not RUN_ID.fullmatch(run):
        raise UsageError(f"--run-id: {run!r} is no ID", "use 1 to 30 of a-z, 0-9 and '-', with no '-' at an end")
    return run


def object_name(run: str) -> str:
    """Name of a run's ConfigMap (its owner), Secret, Service and NetworkPolicy."""
    return f"kts-{run}"


def conductor_name(run: str) -> str:
    """Name of the conductor's Pod."""
    return f"kts-{run}-conductor"


def job_name(run: str, tenant: str) -> str:
    """Name of a tenant's Job: unique in the run, and short enough for the label that Kubernetes makes of it."""
    name = f"kts-{run}-{tenant}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(tenant.encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7].rstrip('-')}-{digest}"


def service_variable(run: str) -> str:
    """The environment variable in which Kubernetes gives pods the address of the run's Service."""
    return f"{object_name(run).replace('-', '_').upper()}_SERVICE_HOST"


def labels_of(run: str, role: str, tenant: str = "") -> dict[str, str]:
    """The labels of an object of that run."""
    labels = {
        LABEL_APP: APP,
        "app.kubernetes.io/managed-by": "kts",
        "app.kubernetes.io/component": role,
        LABEL_RUN: run,
        LABEL_ROLE: role,
    }
    return {**labels, LABEL_TENANT: tenant} if tenant else labels


def meta(name: str, run: str, role: str, settings: ClusterSettings) -> Object:
    """Metadata of an object of that run."""
    return {"name": name, "namespace": settings.namespace, "labels": labels_of(run, role)}
