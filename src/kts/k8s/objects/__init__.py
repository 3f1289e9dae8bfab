"""What a run is on a cluster: names, settings, manifests, and what a pod's state means. Pure."""

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object, as plain JSON."""
