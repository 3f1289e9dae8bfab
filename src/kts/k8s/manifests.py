"""From a plan to Kubernetes objects. Pure."""
