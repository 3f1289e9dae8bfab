"""One tenant: opens the device, runs timed iterations, sends records."""
