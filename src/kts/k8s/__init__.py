"""The same run on Kubernetes: manifests, cluster set-up, and the client that starts, follows and collects a run."""
