"""What else is known of the device while tenants run: sampled beside the measurement, never inside it."""
