"""The cluster itself: its API, its nodes, its device plugin, the image on it, and making and removing objects."""
