"""A run on a cluster, followed from the user's machine."""
