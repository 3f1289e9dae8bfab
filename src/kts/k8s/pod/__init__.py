"""What runs in the conductor's pod, and what it tells over HTTP."""
