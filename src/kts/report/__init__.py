"""Tables, figures and pages from a summary."""
