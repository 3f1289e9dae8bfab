"""What is done to a tenant behind its back, by processes of its own: compiled (`tools`), in cgroups (`cgroups`), and
which there are (`catalog`)."""
